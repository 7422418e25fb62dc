#include "apps/listeners_file.h"

#include "apps/data_folder.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "core/private_file.h"

namespace redoubt {
namespace {

constexpr const char* kName = "listeners";
constexpr size_t kMaxBytes = 1 << 20;

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

Result<ListenersFile> ListenersFile::write(const std::filesystem::path& data, const Listeners& listeners) {
  const std::filesystem::path path = data / kName;
  Json isolation = Json::array();
  for (const IsolationEntry& e : listeners.isolation) {
    isolation.push_back({{"what", e.what}, {"name", e.name}, {"where", e.where}, {"how", e.how}, {"remedy", e.remedy}});
  }
  const Json json{{"clients", listeners.clients},
                  {"administration", listeners.administration},
                  {"auth", listeners.auth},
                  {"isolation", std::move(isolation)}};
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
  Listeners listeners{.clients = text_of(*json, "clients"),
                      .administration = text_of(*json, "administration"),
                      .auth = text_of(*json, "auth"),
                      .isolation = {}};
  const auto is_url = [](const std::string& text) { return text.find("://") != std::string::npos; };
  if (!is_url(listeners.clients)) return std::nullopt;
  if (!listeners.administration.empty() && !is_url(listeners.administration)) return std::nullopt;
  if (listeners.auth != "keys" && listeners.auth != "off") return std::nullopt;
  const auto entries = json->find("isolation");
  if (entries == json->end() || !entries->is_array()) return std::nullopt;
  for (const Json& entry : *entries) {
    if (!entry.is_object()) return std::nullopt;
    listeners.isolation.push_back({text_of(entry, "what"), text_of(entry, "name"), text_of(entry, "where"),
                                   text_of(entry, "how"), text_of(entry, "remedy")});
  }
  return listeners;
}

}  // namespace redoubt
