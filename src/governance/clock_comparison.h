// This node's clock beside the database's own. What nodes share of limits rests on clocks that differ by less than
// kLeaseMarginMs: one that is ahead takes others' leases for ended, or begins a day before them, and more is used than
// the limit. So a node whose clock is further off admits nobody until it is right again.
//
// Only PostgreSQL has a clock of its own; beside a SQLite file there is nothing to compare. Thread safety: any thread.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "core/result.h"
#include "storage/database.h"

namespace redoubt {

struct ClockComparisonOptions {
  int period_ms = 60'000;       // 0: no thread; only look() compares (tests)
  int apart_period_ms = 5'000;  // while they are apart
};

class ClockComparison {
 public:
  // Nothing is compared yet: call look() once. Database and clock outlive it.
  ClockComparison(Database& database, const WallClock& wall, ClockComparisonOptions options = {});
  ClockComparison(const ClockComparison&) = delete;
  ClockComparison& operator=(const ClockComparison&) = delete;

  // Now. Errors: unavailable: the database cannot be asked, and what was found before stays.
  Status look();
  bool are_apart() const { return are_apart_; }
  std::string apart() const;  // one sentence that names both times; "" if they agree

 private:
  void tell(std::string found);

  Database& database_;
  const WallClock& wall_;
  const ClockComparisonOptions options_;
  std::atomic<bool> are_apart_{false};
  mutable std::mutex mutex_;
  std::string apart_;
  PeriodicThread thread_;  // last: it uses the rest
};

}  // namespace redoubt
