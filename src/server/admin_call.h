// Administration as functions from a call to a JSON answer: the same ones behind the admin listener's routes and behind
// the commands of whoever owns the data folder (apps/admin_target.h), so that both do the same and say the same.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "core/result.h"
#include "governance/directory.h"
#include "server/http.h"

namespace redoubt {

struct AdminCall {
  Directory& directory;
  const WallClock& wall;
  Actor actor;                                // null: whoever owns the data folder; a route never leaves it null
  std::map<std::string, std::string> params;  // of the path
  std::vector<std::pair<std::string, std::string>> query;
  Json body = Json::object();

  std::string param(std::string_view name) const;
  std::string query_value(std::string_view name) const;  // "" if it is not there
};

struct AdminEntry {
  std::string method, path;  // "/admin/v1/keys/{id}"
  std::string action;        // that policies must permit
  std::string summary;
  std::vector<std::string> fields;  // of the body; another one is an error. Empty: no body
  Result<Json> (*run)(const AdminCall& call);
};

// Users, services, teams, tenants, keys, administrators.
std::vector<AdminEntry> admin_identity_table();

// The entries as routes of the admin listener. `directory` and `wall` outlive them.
void add_admin_identity_routes(Directory& directory, const WallClock& wall, std::vector<Route>& routes);

// Runs what the table has for a method and path, as a route would. Errors also: not_found if it has nothing.
Result<Json> run_admin_call(const std::vector<AdminEntry>& table, std::string_view method, std::string_view path,
                            AdminCall call);

}  // namespace redoubt
