// The rules of limits in the database, and the node's snapshot of them: a change anywhere holds on every node within
// half a second (storage/refresher.h). Thread safety: any.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/clock.h"
#include "governance/limit_rule.h"
#include "storage/database.h"
#include "storage/refresher.h"

namespace redoubt {

class LimitStore {
 public:
  // Makes the tables (those of the ledger too) and reads the rules. `use` gets them now and whenever they changed.
  // period_ms: of looking for others' changes; 0: only when told to.
  using Use = std::function<void(const LimitRules&)>;
  static Result<std::unique_ptr<LimitStore>> open(Database& database, Use use, const Clock& clock,
                                                  const WallClock& wall, int period_ms = 250);

  // Each holds here when it returns (Refresher::read_back). Errors: invalid_argument, unavailable, not_found.
  Status set(const LimitRule& rule);  // a rule is known by all but its amount
  Status remove(const LimitRule& rule);
  Status set_tenant(const std::string& tenant, const TenantSetting& setting);
  Status set_price(const std::string& model, const ModelPrice& price);

  Result<LimitRules> rules() const;  // as the database has them
  Status refresh() { return refresher_->refresh(); }

 private:
  LimitStore(Database& database, Use use) : database_(database), use_(std::move(use)) {}
  Status change(const std::function<Status(Transaction&)>& body);

  Database& database_;
  const Use use_;
  std::unique_ptr<Refresher> refresher_;  // last: its thread uses the rest
};

}  // namespace redoubt
