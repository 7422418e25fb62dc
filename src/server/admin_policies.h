// Administration of policies, on the admin listener: read them, try a change, change them, ask why.
//
//   GET  /admin/v1/policies                 the version that holds: text, described entities, author
//   PUT  /admin/v1/policies                 {"text", "entities", "note", "expected_version", "dry_run"} -> the new
//                                           version, warnings, and the cells of the access matrix that change;
//                                           with "allow_lockout" also what only the owner could undo
//   GET  /admin/v1/policies/versions        who changed them when
//   GET  /admin/v1/policies/versions/{id}   one of them
//   GET  /admin/v1/policies/matrix          who may do what to what, computed
//   POST /admin/v1/policies/explain         {"principal", "action", "resource", "context"} -> the decision and why;
//                                           of a principal that is nothing but an id, the directory says the rest
//   POST /admin/v1/policies/test            {"entities", "tests": [...]} -> which hold
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "governance/directory.h"
#include "governance/policy_check.h"
#include "governance/policy_store.h"
#include "server/http.h"

namespace redoubt {

// By what somebody comes in beside keys, as the server is configured.
struct WaysIn {
  std::set<std::string> issuers;  // of providers' tokens
  bool certificates = false;      // of clients
};

struct PolicyAuthor {
  std::string name;
  bool is_owner = false;          // of the data folder, who can always change them again
  Administrators administrators;  // of security
  bool goes_on = true;            // comes in for thirty days more
  int64_t now_ms = 0;
  // Would these policies permit the very request that changes them, so much later? Null: it needs no permission.
  std::function<bool(const std::shared_ptr<const PolicySnapshot>&, int64_t later_ms)> is_still_permitted = nullptr;
  // When that may change (named_times_ms); with is_still_permitted.
  std::function<std::optional<std::vector<int64_t>>(const PolicySnapshot&)> named_times_ms = nullptr;
};
// What PUT /admin/v1/policies does, in the author's name: {"text", "entities"?, "note"?, "expected_version"?,
// "dry_run"?, "allow_lockout"?}. Errors: as PolicyStore::change, and invalid_argument for a field that is unknown or of
// another type, or, where allow_lockout is not true, if no security administrator could change policies afterwards, or
// it is not sure that one could and the author could not.
Result<Json> change_policies(PolicyStore& store, const PolicyAuthor& author, const Json& body);

// `store` and `directory` outlive the server.
void add_policy_routes(PolicyStore& store, const Directory& directory, WaysIn ways, std::vector<Route>& routes);

}  // namespace redoubt
