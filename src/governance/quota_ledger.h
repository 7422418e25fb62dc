// Who has how much of a limit: the truth that nodes share, asked in batches by each node's limits.
//
// A counter is one limit of one subject in one period. The ledger holds what is settled of it, and a lease for each
// node: `granted` is kept from all others until the lease ends, and `mark` is what the node may have used of it by now,
// written before it is used (mark <= granted). A node hands out no more than its mark, so what it has beyond goes to
// another node that needs it. A lease that ended without being renewed (its node is dead, or cannot reach the database
// and has stopped by its own clock) is settled at its mark. So
//   settled + sum of granted <= cap   at every moment, and   used <= settled + sum of marks.
// With a window of a minute, what is settled carries the time when it was reported, and counts for sixty seconds.
//
// A report says what was used since the last one. Each has a number, so that one whose outcome is unknown (the database
// went away in the middle) is not counted twice when it is made again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "governance/limit_rule.h"

namespace redoubt {

constexpr int64_t kLeaseMs = 30'000;
constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kLeaseMarginMs = 3'000;  // others wait so much longer: clocks of nodes may differ by so much

struct QuotaKey {
  std::string counter;  // "tokens_per_day tenant north"
  int64_t period = 0;   // of its day or month; 0 elsewhere
  auto operator<=>(const QuotaKey&) const = default;
};

struct QuotaReport {
  QuotaKey key;
  LimitWindow window = LimitWindow::minute;
  int64_t cap = 0;
  int64_t number = 0;  // of the last report known to be recorded; 0: this is the first
  int64_t mark = 0;    // as of that report
  int64_t used = 0;    // since that report; the same again where this one was made before and its outcome is unknown
  int64_t handed = 0;  // reserved by requests that are under way: the lease covers it in any case
  int64_t least = 0;   // wanted beside it, by requests that wait
  int64_t ahead = 0;   // wanted in the mark beside these, so that the next ones need not wait
  bool close = false;  // nothing is used or under way, and mark is 0: the lease is given back
};

struct QuotaAnswer {
  int64_t number = 0;  // of this report; 0 if closed
  int64_t granted = 0, mark = 0;
  int64_t settled = 0;  // used for good, by all nodes; of a minute, within it
  int64_t free = 0;     // that nobody needs: cap - settled - all leases, and what others have beyond their marks
  std::vector<std::pair<int64_t, int64_t>> in_window;  // of a minute: (when reported, how much), the oldest first
};

class QuotaLedger {
 public:
  virtual ~QuotaLedger() = default;
  // All reports in one transaction, answered in their order. Errors: unavailable (whether it was done is
  // unknown); another: one of them cannot be recorded, none was.
  virtual Result<std::vector<QuotaAnswer>> report(std::span<const QuotaReport> reports, int64_t now_ms) = 0;
  // Lets go of some of what nobody needs any more. Whether there is more of it.
  virtual Result<bool> prune(int64_t now_ms) = 0;
};

}  // namespace redoubt
