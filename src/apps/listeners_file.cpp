#include "apps/listeners_file.h"

#include "apps/data_folder.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/private_file.h"

namespace redoubt {
namespace {

constexpr const char* kName = "listeners";
constexpr size_t kMaxBytes = 4096;

}  // namespace

Result<ListenersFile> ListenersFile::write(const std::filesystem::path& data, const Listeners& listeners) {
  const std::filesystem::path path = data / kName;
  const Json json{{"clients", listeners.clients}, {"administration", listeners.administration}};
  REDOUBT_CHECK(write_private_file(path, dump_json(json) + "\n", IfThere::replace));
  return ListenersFile(path);
}

ListenersFile::~ListenersFile() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove(path_, ignored);
}

std::optional<Listeners> read_listeners(const std::filesystem::path& data) {
  // One that was killed left its file behind.
  if (!DataFolder::is_held(data)) return std::nullopt;
  const auto text = read_text_file(data / kName, kMaxBytes);
  const auto json = text ? parse_json(*text) : Result<Json>(text.error());
  if (!json || !json->is_object()) return std::nullopt;
  const auto field = [&](const char* name) {
    const auto found = json->find(name);
    return found != json->end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  Listeners listeners{.clients = field("clients"), .administration = field("administration")};
  const auto is_url = [](const std::string& text) { return text.find("://") != std::string::npos; };
  if (!is_url(listeners.clients)) return std::nullopt;
  if (!listeners.administration.empty() && !is_url(listeners.administration)) return std::nullopt;
  return listeners;
}

}  // namespace redoubt
