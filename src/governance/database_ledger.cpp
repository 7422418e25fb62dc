#include "governance/database_ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "governance/limit_calendar.h"
#include "storage/migration.h"

namespace redoubt {
namespace {

constexpr std::string_view kArea = "quota";
constexpr std::array<Migration, 1> kMigrations{{{1, "counters", R"sql(
CREATE TABLE quota_counters (
  counter TEXT NOT NULL, period BIGINT NOT NULL, settled BIGINT NOT NULL,
  PRIMARY KEY (counter, period));
CREATE TABLE quota_leases (
  counter TEXT NOT NULL, period BIGINT NOT NULL, node TEXT NOT NULL, process TEXT NOT NULL,
  granted BIGINT NOT NULL, mark BIGINT NOT NULL, number BIGINT NOT NULL, ends_ms BIGINT NOT NULL,
  PRIMARY KEY (counter, period, node));
CREATE TABLE quota_window (
  counter TEXT NOT NULL, second_ms BIGINT NOT NULL, amount BIGINT NOT NULL,
  PRIMARY KEY (counter, second_ms));
CREATE TABLE quota_nodes (node TEXT PRIMARY KEY, seen_ms BIGINT NOT NULL)
)sql"}}};

constexpr int64_t kMostPicked = 64, kMostPruned = 8;  // counters: looked for at a time, in one transaction
constexpr int64_t kNodeKeptMs = 86'400'000;

int64_t to_second(int64_t ms) { return (ms + 999) / 1000 * 1000; }  // up: it must not leave the window too early

std::string new_process() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

// The leases of a counter beside the node's own.
struct OtherLeases {
  std::optional<int64_t> own_number;
  int64_t granted = 0;
  std::vector<std::pair<std::string, int64_t>> spare;  // by node: granted, and not marked
  bool any = false;                                    // the own one included
};

// One counter while its row is locked.
class Counter {
 public:
  Counter(Transaction& tx, const QuotaKey& key, LimitWindow window) : tx_(tx), key_(key), window_(window) {}

  // False if there is no such row.
  Result<bool> lock() {
    REDOUBT_TRY(const auto row,
                tx_.row<int64_t>("SELECT settled FROM quota_counters WHERE counter = ? AND period = ? FOR UPDATE",
                                 key_.counter, key_.period));
    if (row) settled_ = was_settled_ = std::get<0>(*row);
    return row.has_value();
  }

  Status make_and_lock() {
    constexpr int kTries = 3;  // another node may prune it in between
    for (int i = 0; i < kTries; ++i) {
      REDOUBT_CHECK(
          tx_.execute("INSERT INTO quota_counters (counter, period, settled) VALUES (?, ?, 0) ON CONFLICT (counter, "
                      "period) DO NOTHING",
                      key_.counter, key_.period));
      REDOUBT_TRY(const bool is_locked, lock());
      if (is_locked) return ok();
    }
    return Error{ErrorCode::internal, "quota: a counter's row is gone", {}};
  }

  Status settle(int64_t amount, int64_t when_ms) {
    if (amount == 0 || window_ == LimitWindow::level) return ok();
    if (window_ != LimitWindow::minute) return settled_ += amount, ok();
    REDOUBT_CHECK(
        tx_.execute("INSERT INTO quota_window (counter, second_ms, amount) VALUES (?, ?, ?) "
                    "ON CONFLICT (counter, second_ms) DO UPDATE SET amount = quota_window.amount + excluded.amount",
                    key_.counter, to_second(when_ms), amount));
    return ok();
  }

  // Leases that ended, and those that an earlier process of the node left, are settled at their marks.
  Result<OtherLeases> settle_ended(const std::string& own_node, const std::string& own_process, int64_t now_ms) {
    REDOUBT_TRY(
        const auto rows,
        tx_.rows<std::string, std::string, int64_t, int64_t, int64_t, int64_t>(
            "SELECT node, process, granted, mark, number, ends_ms FROM quota_leases WHERE counter = ? AND period = ?",
            key_.counter, key_.period));
    OtherLeases others;
    for (const auto& [node, process, granted, mark, number, ends_ms] : rows) {
      const bool is_own = node == own_node && process == own_process;
      if (!is_own && (node == own_node || ends_ms + kLeaseMarginMs <= now_ms)) {
        REDOUBT_CHECK(settle(mark, std::min(ends_ms, now_ms)));
        REDOUBT_CHECK(drop_lease(node));
        continue;
      }
      others.any = true;
      if (is_own) {
        others.own_number = number;
        continue;
      }
      others.granted += granted;
      if (granted > mark) others.spare.emplace_back(node, granted - mark);
    }
    return others;
  }

  Result<int64_t> settled(int64_t now_ms, std::vector<std::pair<int64_t, int64_t>>& in_window) {
    if (window_ != LimitWindow::minute) return settled_;
    REDOUBT_CHECK(
        tx_.execute("DELETE FROM quota_window WHERE counter = ? AND second_ms <= ?", key_.counter, now_ms - kMinuteMs));
    REDOUBT_TRY(const auto rows,
                tx_.rows<int64_t, int64_t>(
                    "SELECT second_ms, amount FROM quota_window WHERE counter = ? ORDER BY second_ms", key_.counter));
    int64_t sum = 0;
    for (const auto& [second, amount] : rows) {
      in_window.emplace_back(second, amount);
      sum += amount;
    }
    return sum;
  }

  Status save() {
    if (settled_ == was_settled_) return ok();
    REDOUBT_CHECK(tx_.execute("UPDATE quota_counters SET settled = ? WHERE counter = ? AND period = ?", settled_,
                              key_.counter, key_.period));
    return ok();
  }

  Status shrink_lease(const std::string& node, int64_t by) {
    REDOUBT_CHECK(
        tx_.execute("UPDATE quota_leases SET granted = granted - ? WHERE counter = ? AND period = ? AND node = ?", by,
                    key_.counter, key_.period, node));
    return ok();
  }

  Status drop_lease(const std::string& node) {
    REDOUBT_CHECK(tx_.execute("DELETE FROM quota_leases WHERE counter = ? AND period = ? AND node = ?", key_.counter,
                              key_.period, node));
    return ok();
  }

  Status drop() {
    REDOUBT_CHECK(
        tx_.execute("DELETE FROM quota_counters WHERE counter = ? AND period = ?", key_.counter, key_.period));
    return ok();
  }

 private:
  Transaction& tx_;
  const QuotaKey& key_;
  LimitWindow window_;
  int64_t settled_ = 0, was_settled_ = 0;
};

// What is granted and marked, of `allowed` that others and the past have left. With several nodes each takes a part of
// what is there, so that all can begin; what is under way stays covered whatever the cap has become.
void divide(const QuotaReport& report, int64_t allowed, int64_t nodes, QuotaAnswer& answer) {
  const int64_t room = std::max<int64_t>(0, allowed - report.handed);
  const int64_t wanted = report.least + report.ahead;
  const int64_t part = nodes <= 1 ? room : room / (2 * nodes);
  answer.granted = report.handed + std::min(room, std::max(wanted, part));
  answer.mark = std::min(answer.granted, report.handed + wanted);
}

// The first day or month whose counters are kept, as CalendarPeriod::id has them; of UTC, a day more or less is no
// matter.
struct KeptFrom {
  explicit KeptFrom(int64_t now_ms) {
    constexpr int64_t kDayMs = 86'400'000;
    day = periods_at("UTC", now_ms - 62 * kDayMs).day.id;
    month = periods_at("UTC", now_ms - 366 * kDayMs).month.id;
  }
  bool is_over(int64_t period) const { return period > 0 && period < (period < kFirstDay ? month : day); }

  static constexpr int64_t kFirstDay = 1'000'000;  // a month's id has six digits, a day's eight
  int64_t day = 0, month = 0;
};

// SQL that is true of the counters whose kind this program knows; those of a newer one are its own to prune.
std::string is_of_known_kind(std::string_view column) {
  std::string sql;
  for (int i = 0; i < kLimitKinds; ++i) {
    const std::string_view name = kind_name(static_cast<LimitKind>(i));
    sql += fmt::format("{}substr({}, 1, {}) = '{} '", i == 0 ? "(" : " OR ", column, name.size() + 1, name);
  }
  return sql + ")";
}

}  // namespace

Status prepare_quota_tables(Database& database, const WallClock& clock) {
  return migrate(database, kArea, kMigrations, clock);
}

DatabaseLedger::DatabaseLedger(Database& database, std::string node)
    : database_(database), node_(std::move(node)), process_(new_process()) {}

Result<int64_t> DatabaseLedger::count_nodes(Transaction& tx, int64_t now_ms) const {
  REDOUBT_TRY(const auto seen, tx.rows<std::string, int64_t>("SELECT node, seen_ms FROM quota_nodes"));
  int64_t nodes = 1;
  bool told = false;
  for (const auto& [node, seen_ms] : seen) {
    if (node == node_) {
      told = now_ms >= seen_ms && now_ms - seen_ms < kLeaseMs / 10;
    } else {
      nodes += now_ms - seen_ms < kLeaseMs ? 1 : 0;
    }
  }
  if (told) return nodes;
  REDOUBT_CHECK(
      tx.execute("INSERT INTO quota_nodes (node, seen_ms) VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET seen_ms = "
                 "excluded.seen_ms",
                 node_, now_ms));
  return nodes;
}

Result<QuotaAnswer> DatabaseLedger::report_one(Transaction& tx, const QuotaReport& report, int64_t nodes,
                                               int64_t now_ms) const {
  Counter counter(tx, report.key, report.window);
  REDOUBT_CHECK(counter.make_and_lock());
  REDOUBT_TRY(const OtherLeases others, counter.settle_ended(node_, process_, now_ms));
  const bool is_recorded = others.own_number == report.number + 1;  // it was made before, and had been done
  const bool is_lost = !others.own_number && report.number > 0;     // settled at its mark by another node
  if (is_lost) {
    // What was under way then is covered by the new lease, so the mark had it too much. In a minute's window it stays.
    if (report.window != LimitWindow::minute) REDOUBT_CHECK(counter.settle(report.used - report.mark, now_ms));
  } else if (!is_recorded) {
    REDOUBT_CHECK(counter.settle(report.used, now_ms));
  }

  QuotaAnswer answer;
  REDOUBT_TRY(const int64_t settled, counter.settled(now_ms, answer.in_window));
  answer.settled = settled;
  REDOUBT_CHECK(counter.save());
  int64_t allowed = report.cap - settled - others.granted;
  if (report.close) {
    answer.free = std::max<int64_t>(0, allowed);
    REDOUBT_CHECK(counter.drop_lease(node_));
    return answer;
  }
  // What another node holds beyond its mark it cannot use before it asks again: who needs it may have it.
  int64_t still_spare = 0;
  for (const auto& [node, most] : others.spare) {
    const int64_t lacking = report.handed + report.least + report.ahead - allowed;
    const int64_t taken = std::clamp<int64_t>(lacking, 0, most);
    still_spare += most - taken;
    if (taken == 0) continue;
    REDOUBT_CHECK(counter.shrink_lease(node, taken));
    allowed += taken;
  }
  divide(report, allowed, nodes, answer);
  answer.free = std::max<int64_t>(0, allowed - answer.granted) + still_spare;
  answer.number = report.number + 1;
  REDOUBT_CHECK(tx.execute(
      "INSERT INTO quota_leases (counter, period, node, process, granted, mark, number, ends_ms) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (counter, period, node) DO UPDATE SET process = excluded.process, "
      "granted = excluded.granted, mark = excluded.mark, number = excluded.number, ends_ms = excluded.ends_ms",
      report.key.counter, report.key.period, node_, process_, answer.granted, answer.mark, answer.number,
      now_ms + kLeaseMs));
  return answer;
}

Result<std::vector<QuotaAnswer>> DatabaseLedger::report(std::span<const QuotaReport> reports, int64_t now_ms) {
  // Counters are locked in one order, or two nodes could wait for each other.
  std::vector<size_t> order(reports.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return reports[i].key; });
  return database_.write_row_locks([&](Transaction& tx) -> Result<std::vector<QuotaAnswer>> {
    REDOUBT_TRY(const int64_t nodes, count_nodes(tx, now_ms));
    std::vector<QuotaAnswer> answers(reports.size());
    for (const size_t i : order) {
      REDOUBT_TRY(answers[i], report_one(tx, reports[i], nodes, now_ms));
    }
    return answers;
  });
}

// ---- What nobody needs any more

Result<std::vector<QuotaKey>> DatabaseLedger::prunable(int64_t now_ms) const {
  const KeptFrom kept(now_ms);
  const std::string known = is_of_known_kind("counter");
  return database_.read([&](Transaction& tx) -> Result<std::vector<QuotaKey>> {
    std::set<QuotaKey> keys;
    const auto add = [&](const auto& rows) {
      for (const auto& [counter, period] : rows) keys.insert({counter, period});
    };
    REDOUBT_TRY(const auto ended, tx.rows<std::string, int64_t>(
                                      "SELECT counter, period FROM quota_leases WHERE ends_ms <= ? AND process <> ? "
                                      "AND " +
                                          known + " LIMIT ?",
                                      now_ms - kLeaseMarginMs, process_, kMostPicked));
    add(ended);
    REDOUBT_TRY(const auto minutes,
                tx.rows<std::string, int64_t>(
                    "SELECT DISTINCT counter, CAST(0 AS BIGINT) FROM quota_window WHERE second_ms <= ? AND " + known +
                        " LIMIT ?",
                    now_ms - kMinuteMs, kMostPicked));
    add(minutes);
    REDOUBT_TRY(const auto counters,
                tx.rows<std::string, int64_t>(
                    "SELECT c.counter, c.period FROM quota_counters c WHERE ((c.period = 0 AND NOT EXISTS (SELECT 1 "
                    "FROM quota_window w WHERE w.counter = c.counter)) OR (c.period >= ? AND c.period < ?) OR "
                    "(c.period > 0 AND c.period < ?)) AND NOT EXISTS (SELECT 1 FROM quota_leases l "
                    "WHERE l.counter = c.counter AND l.period = c.period) AND " +
                        is_of_known_kind("c.counter") + " LIMIT ?",
                    KeptFrom::kFirstDay, kept.day, kept.month, kMostPicked));
    add(counters);
    std::vector<QuotaKey> some(keys.begin(), keys.end());  // in the order in which reports lock them
    some.resize(std::min(some.size(), static_cast<size_t>(kMostPicked)));
    return some;
  });
}

Status DatabaseLedger::prune_one(Transaction& tx, const QuotaKey& key, bool is_past, int64_t now_ms) const {
  const auto kind = kind_of(std::string_view(key.counter).substr(0, key.counter.find(' ')));
  if (!kind) return ok();  // of a newer program
  Counter counter(tx, key, window_of(*kind));
  REDOUBT_TRY(const bool is_there, counter.lock());
  if (!is_there) return ok();
  REDOUBT_TRY(const OtherLeases leases, counter.settle_ended(node_, process_, now_ms));
  std::vector<std::pair<int64_t, int64_t>> in_window;
  REDOUBT_CHECK(counter.settled(now_ms, in_window));
  const bool is_over = key.period == 0 ? in_window.empty() : is_past;
  if (is_over && !leases.any) return counter.drop();
  return counter.save();
}

Result<bool> DatabaseLedger::prune(int64_t now_ms) {
  if (picked_.empty()) {
    REDOUBT_TRY(picked_, prunable(now_ms));
    may_be_more_ = picked_.size() >= static_cast<size_t>(kMostPicked);
    return !picked_.empty();
  }
  // Gone from the list whatever comes of it, so that one that cannot be pruned does not keep the others.
  const auto end = picked_.begin() + std::min<ptrdiff_t>(kMostPruned, std::ssize(picked_));
  const std::vector<QuotaKey> keys(picked_.begin(), end);
  picked_.erase(picked_.begin(), end);
  const KeptFrom kept(now_ms);
  REDOUBT_CHECK(database_.write_row_locks([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("DELETE FROM quota_nodes WHERE seen_ms < ?", now_ms - kNodeKeptMs));
    for (const QuotaKey& key : keys) REDOUBT_CHECK(prune_one(tx, key, kept.is_over(key.period), now_ms));
    return ok();
  }));
  return may_be_more_ || !picked_.empty();
}

// ---- Administration

Result<std::vector<QuotaStanding>> DatabaseLedger::standings(const std::string& prefix, int64_t now_ms) {
  constexpr std::string_view kBegins = "substr(counter, 1, length(CAST(? AS TEXT))) = CAST(? AS TEXT)";
  return database_.read([&](Transaction& tx) -> Result<std::vector<QuotaStanding>> {
    std::map<QuotaKey, QuotaStanding> found;
    const auto at = [&](const std::string& counter, int64_t period) -> QuotaStanding& {
      QuotaStanding& standing = found[{counter, period}];
      standing.key = {counter, period};
      return standing;
    };
    REDOUBT_TRY(
        const auto counters,
        tx.rows<std::string, int64_t, int64_t>(
            fmt::format("SELECT counter, period, settled FROM quota_counters WHERE {}", kBegins), prefix, prefix));
    for (const auto& [counter, period, settled] : counters) at(counter, period).settled += settled;
    REDOUBT_TRY(const auto window,
                tx.rows<std::string, int64_t>(
                    fmt::format("SELECT counter, amount FROM quota_window WHERE {} AND second_ms > ?", kBegins), prefix,
                    prefix, now_ms - kMinuteMs));
    for (const auto& [counter, amount] : window) at(counter, 0).settled += amount;
    REDOUBT_TRY(
        const auto leases,
        tx.rows<std::string, int64_t, int64_t>(
            fmt::format("SELECT counter, period, granted FROM quota_leases WHERE {}", kBegins), prefix, prefix));
    for (const auto& [counter, period, granted] : leases) at(counter, period).reserved += granted;
    std::vector<QuotaStanding> standings;
    for (auto& [key, standing] : found) standings.push_back(std::move(standing));
    return standings;
  });
}

}  // namespace redoubt
