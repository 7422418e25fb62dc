// Where a command of administration goes: to a server's admin listener with a key, or straight to the database of the
// data folder, as its owner. Both answer the same (server/admin_call.h).
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

struct AdminFlags {
  std::string data, database;  // of the database
  std::string server, ca_file, key_file;
  bool json = false;
};
void add_admin_flags(CLI::App& command, AdminFlags& flags);

using AdminQuery = std::vector<std::pair<std::string, std::string>>;

class AdminTarget {
 public:
  virtual ~AdminTarget() = default;
  virtual Result<Json> call(const std::string& method, const std::string& path, const Json& body = Json::object(),
                            const AdminQuery& query = {}) = 0;
  // All pages of a list.
  Result<Json> list(const std::string& path, AdminQuery query);
};

// Errors: those of opening what the flags name; an absent key has the param "--key-file".
Result<std::unique_ptr<AdminTarget>> open_admin_target(const AdminFlags& flags);

// "/admin/v1/users" and an id that the caller typed: escaped, so that it is one segment.
std::string admin_path(const std::string& folder, const std::string& id);

}  // namespace redoubt
