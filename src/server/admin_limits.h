// Administration of limits, on the admin listener and behind the command `redoubt limit`:
//
//   GET /admin/v1/limits                     rules, tenants' settings, prices
//   PUT /admin/v1/limits                     {"scope", "subject", "kind", "model", "amount"}; amount null: no limit
//   PUT /admin/v1/limits/tenants/{id}        {"time_zone", "share_weight"}
//   PUT /admin/v1/limits/prices/{id}         {"prompt", "answer"}: of a model, millionths for a million tokens
//   GET /admin/v1/limits/usage?counter=...   what is settled and reserved of the counters that begin so
//
// What is accepted and yet limits nothing, as far as can be told here, is said in `warnings`: a subject or a model that
// is not known (it may come later), money for models without a price.
#pragma once

#include <string>
#include <vector>

#include "core/clock.h"
#include "core/json.h"
#include "governance/database_ledger.h"
#include "governance/directory.h"
#include "governance/limit_store.h"
#include "server/http.h"

namespace redoubt {

struct LimitAdministration {
  LimitStore& store;
  DatabaseLedger& ledger;
  const WallClock& wall;
  const Directory* directory = nullptr;  // null: who there is cannot be told
  std::vector<std::string> models;       // that are served; none: that cannot be told

  Result<Json> list() const;
  Result<Json> set(const Json& body) const;
  Result<Json> set_tenant(const std::string& tenant, const Json& body) const;
  Result<Json> set_price(const std::string& model, const Json& body) const;
  Result<Json> usage(const std::string& counter) const;

 private:
  Json warnings_of(const LimitRule& rule, const LimitRules& all) const;
};

// What `limits` refers to outlives the server.
void add_limit_routes(const LimitAdministration& limits, std::vector<Route>& routes);

}  // namespace redoubt
