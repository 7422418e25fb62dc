// Limits as a server has them: the rules of the database, the ledger, and the node's own reservations.
#pragma once

#include <memory>
#include <string>

#include "governance/database_ledger.h"
#include "governance/limit_store.h"
#include "governance/limits.h"

namespace redoubt {

struct LimitService {
  std::unique_ptr<DatabaseLedger> ledger;
  std::unique_ptr<Limits> limits;
  std::unique_ptr<LimitStore> store;  // last: it tells the limits of changes

  // `node`: the same after a restart, of one process at a time. Database and clocks outlive it.
  static Result<LimitService> open(Database& database, std::string node, const Clock& clock, const WallClock& wall,
                                   LimitsOptions options = {}) {
    LimitService service;
    service.ledger = std::make_unique<DatabaseLedger>(database, std::move(node));
    service.limits = std::make_unique<Limits>(*service.ledger, options, clock, wall);
    Limits* limits = service.limits.get();
    REDOUBT_TRY(service.store,
                LimitStore::open(
                    database, [limits](const LimitRules& rules) { limits->set_rules(rules); }, clock, wall));
    return service;
  }
};

}  // namespace redoubt
