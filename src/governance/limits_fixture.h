// For tests of limits: principals, rules, and a ledger that fails when told to.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "governance/database_ledger.h"
#include "governance/limits.h"
#include "test_database.h"

namespace redoubt::test {

inline Principal person(std::string id, std::string tenant = "north", std::vector<std::string> teams = {}) {
  Principal who;
  who.id = std::move(id);
  who.tenant = std::move(tenant);
  who.teams = std::move(teams);
  who.key_id = "key_" + who.id;
  return who;
}

inline LimitRules rules_of(std::vector<LimitRule> rules) {
  LimitRules all;
  all.rules = std::move(rules);
  return all;
}
inline LimitRule of_tenant(LimitKind kind, int64_t amount) {
  return {.scope = LimitScope::tenant, .subject = "north", .kind = kind, .model = {}, .amount = amount};
}

class FaultyLedger final : public QuotaLedger {
 public:
  enum class Fault { none, before, after };  // after: it is done, and nobody learns it
  explicit FaultyLedger(QuotaLedger& inner) : inner_(inner) {}
  Result<std::vector<QuotaAnswer>> report(std::span<const QuotaReport> reports, int64_t now_ms) override {
    const Fault fault = next ? next() : always.load();
    const Error gone{ErrorCode::unavailable, "the database is away", {}};
    if (fault == Fault::before) return gone;
    const std::lock_guard lock(mutex_);
    for (const QuotaReport& report : reports) {
      if (report.key.counter == corrupt_) return Error{ErrorCode::corrupt_data, "a row that makes no sense", {}};
    }
    auto answers = inner_.report(reports, now_ms);
    if (fault == Fault::after) return gone;
    return answers;
  }
  Result<bool> prune(int64_t now_ms) override { return inner_.prune(now_ms); }
  void corrupt(std::string counter) {  // "": none
    const std::lock_guard lock(mutex_);
    corrupt_ = std::move(counter);
  }
  std::atomic<Fault> always{Fault::none};
  std::function<Fault()> next;  // null: `always`

 private:
  QuotaLedger& inner_;
  std::mutex mutex_;
  std::string corrupt_;
};

// The machine's time, which a test may put forward.
class ShiftedWallClock final : public WallClock {
 public:
  int64_t now_ms() const override { return system_.now_ms() + shift_ms; }
  std::atomic<int64_t> shift_ms{0};

 private:
  SystemWallClock system_;
};

// A node: its own connections, ledger and limits over one database.
struct Node {
  Node(std::unique_ptr<Database> database_of_its_own, const std::string& name, const WallClock& wall,
       LimitsOptions options = {})
      : database(std::move(database_of_its_own)),
        ledger(*database, name),
        faulty(ledger),
        limits(faulty, options, clock, wall) {}
  std::unique_ptr<Database> database;
  SteadyClock clock;
  DatabaseLedger ledger;
  FaultyLedger faulty;
  Limits limits;
};

inline int64_t settled_of(Database& database, const std::string& counter, int64_t now_ms) {
  DatabaseLedger ledger(database, "reader");
  int64_t sum = 0;
  auto standings = ledger.standings(counter, now_ms);
  if (!standings) ADD_FAILURE() << standings.error().message;
  for (const QuotaStanding& standing : *standings) sum += standing.settled;
  return sum;
}

}  // namespace redoubt::test
