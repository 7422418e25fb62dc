#include "apps/admin_target.h"

#include <fmt/format.h>
#include <signal.h>

#include <cctype>
#include <cstdlib>
#include <fstream>

#include "apps/data_folder.h"
#include "apps/identity_store.h"
#include "server/admin_call.h"
#include "server/http_parse.h"
#include "server/peer_client.h"

namespace redoubt {
namespace {

constexpr size_t kMaxAnswerBytes = size_t{16} << 20;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '_' || c == '~';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

class DatabaseTarget final : public AdminTarget {
 public:
  explicit DatabaseTarget(const AdminFlags& flags) : flags_(flags) {}
  Status open() {
    REDOUBT_TRY(store_, open_present_identity_store(data_folder_path(flags_.data), flags_.database, clock_, wall_));
    return ok();
  }
  Result<Json> call(const std::string& method, const std::string& path, const Json& body,
                    const AdminQuery& query) override {
    REDOUBT_TRY(const std::string decoded, percent_decode(path, PlusSign::literal));
    return run_admin_call(
        admin_identity_table(), method, decoded,
        {.directory = *store_.directory, .wall = wall_, .actor = nullptr, .query = query, .body = body});
  }

 private:
  AdminFlags flags_;
  SteadyClock clock_;
  SystemWallClock wall_;
  IdentityStore store_;
};

class ServerTarget final : public AdminTarget {
 public:
  ServerTarget(const AdminFlags& flags, std::string key) : flags_(flags), key_(std::move(key)) {}
  Result<Json> call(const std::string& method, const std::string& path, const Json& body,
                    const AdminQuery& query) override {
    std::string url = flags_.server + path;
    for (size_t i = 0; i < query.size(); ++i)
      url += fmt::format("{}{}={}", i == 0 ? '?' : '&', query[i].first, escaped(query[i].second));
    PeerRequest request{.method = method,
                        .url = url,
                        .headers = {{"Authorization", "Bearer " + key_}},
                        .timeout_ms = 10'000,
                        .max_bytes = kMaxAnswerBytes,
                        .ca_file = flags_.ca_file};
    if (method != "GET" && method != "DELETE") {
      request.body = dump_json(body);
      request.headers.emplace_back("Content-Type", "application/json");
    }
    auto asked = ask_peer(request);
    if (!asked && flags_.server.starts_with("http://"))
      return Error{asked.error().code, asked.error().message + "; a server with TLS is named https://…", {}};
    REDOUBT_TRY(const PeerResponse response, std::move(asked));
    const auto json = parse_json(response.body);
    if (response.status / 100 == 2) {
      if (!json) return corrupt(fmt::format("{}: the answer is no JSON", flags_.server));
      return *json;
    }
    std::string message = fmt::format("status {}", response.status);
    const Json::json_pointer where("/error/message");
    if (json && json->contains(where) && (*json)[where].is_string()) message = (*json)[where].get<std::string>();
    return Error{ErrorCode::denied, fmt::format("{}: {}", flags_.server, message), {}};
  }

 private:
  AdminFlags flags_;
  std::string key_;
};

Result<std::string> admin_key(const std::string& file) {
  if (!file.empty()) {
    std::ifstream in(file);
    std::string line;
    if (!std::getline(in, line) || line.empty())
      return Error{ErrorCode::io, file + ": expected a key in its first line", "--key-file"};
    return line;
  }
  if (const char* key = std::getenv("REDOUBT_KEY"); key != nullptr && *key != 0) return std::string(key);
  return invalid("a server asks for a key: name a file with --key-file, or set REDOUBT_KEY", "--key-file");
}

}  // namespace

void add_admin_flags(CLI::App& command, AdminFlags& flags) {
  command.add_option("--data", flags.data, "Data folder, whose owner may do everything [~/.local/share/redoubt]");
  command.add_option("--database", flags.database, "postgresql:// URL, where the server has one [DATA/redoubt.db]");
  command.add_option("--server", flags.server,
                     "A running server's admin address instead, such as http://127.0.0.1:8001");
  command.add_option("--ca", flags.ca_file, "Certificate authority of --server [the system's]");
  command.add_option("--key-file", flags.key_file, "File whose first line is the key for --server [$REDOUBT_KEY]");
  command.add_flag("--json", flags.json, "One JSON object; lists: one a line");
}

std::string admin_path(const std::string& folder, const std::string& id) { return folder + "/" + escaped(id); }

Result<Json> AdminTarget::list(const std::string& path, AdminQuery query) {
  Json all = Json::array();
  query.emplace_back("after", "");
  for (;;) {
    REDOUBT_TRY(Json page, call("GET", path, Json::object(), query));
    if (!page.is_object() || !page.contains("data") || !page["data"].is_array())
      return corrupt("the answer is no list");
    for (Json& item : page["data"]) all.push_back(std::move(item));
    const auto more = page.find("has_more");
    if (all.empty() || more == page.end() || *more != true) return all;
    const Json& last = all.back();
    if (!last.is_object() || !last.contains("id") || !last["id"].is_string() || last["id"] == query.back().second)
      return corrupt("the list goes on, and its last entry does not say from where");
    query.back().second = last["id"].get<std::string>();
  }
}

Result<std::unique_ptr<AdminTarget>> open_admin_target(const AdminFlags& flags) {
  if (!flags.server.empty()) {
    signal(SIGPIPE, SIG_IGN);
    REDOUBT_TRY(std::string key, admin_key(flags.key_file));
    AdminFlags trimmed = flags;
    while (trimmed.server.ends_with('/')) trimmed.server.pop_back();
    return std::unique_ptr<AdminTarget>(new ServerTarget(trimmed, std::move(key)));
  }
  auto target = std::make_unique<DatabaseTarget>(flags);
  REDOUBT_CHECK(target->open());
  return std::unique_ptr<AdminTarget>(std::move(target));
}

}  // namespace redoubt
