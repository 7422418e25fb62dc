#include "governance/clock_comparison.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/log.h"
#include "governance/quota_ledger.h"

namespace redoubt {
namespace {

std::string shown(int64_t unix_ms) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(unix_ms / 1000)),
                     unix_ms % 1000);
}

}  // namespace

ClockComparison::ClockComparison(Database& database, const WallClock& wall, ClockComparisonOptions options)
    : database_(database), wall_(wall), options_(options) {
  if (options_.period_ms <= 0 || database_.kind() != DatabaseKind::postgres) return;
  const auto pause = [this] {
    return std::chrono::milliseconds(are_apart_ ? options_.apart_period_ms : options_.period_ms);
  };
  // A database that is away is told by those who need more of it.
  thread_.start(pause, [this] { static_cast<void>(look()); });
}

std::string ClockComparison::apart() const {
  const std::lock_guard lock(mutex_);
  return apart_;
}

Status ClockComparison::look() {
  if (database_.kind() != DatabaseKind::postgres) return ok();
  int64_t before_ms = 0, after_ms = 0;  // the database read its clock between the two, however slow it was
  REDOUBT_TRY(const int64_t theirs_ms, database_.read([&](Transaction& tx) -> Result<int64_t> {
    before_ms = wall_.now_ms();
    REDOUBT_TRY(const auto row,
                tx.row<int64_t>("SELECT CAST(FLOOR(EXTRACT(EPOCH FROM clock_timestamp()) * 1000) AS BIGINT)"));
    after_ms = wall_.now_ms();
    return row ? std::get<0>(*row) : 0;
  }));
  const int64_t ahead_ms = before_ms - theirs_ms, behind_ms = theirs_ms - after_ms;
  const bool are_apart = std::max(ahead_ms, behind_ms) > kLeaseMarginMs;
  tell(!are_apart ? std::string()
                  : fmt::format("the clock of this node says {}, that of the database {}: nobody is admitted until "
                                "they differ by {} s at most",
                                shown(after_ms), shown(theirs_ms), kLeaseMarginMs / 1000));
  return ok();
}

// In the log once, when it turns.
void ClockComparison::tell(std::string found) {
  const bool are_apart = !found.empty();
  const bool were_apart = are_apart_.exchange(are_apart);
  if (are_apart && !were_apart) log::error("clocks: {}", found);
  if (!are_apart && were_apart) log::info("clocks: this node's and the database's agree again");
  const std::lock_guard lock(mutex_);
  apart_ = std::move(found);
}

}  // namespace redoubt
