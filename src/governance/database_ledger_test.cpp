// What the ledger lets go of, and what it must not.
#include "governance/database_ledger.h"

#include <gmock/gmock.h>

#include "governance/limit_calendar.h"
#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

constexpr int64_t kNowMs = 1'800'000'000'000, kDayMs = 86'400'000;  // 2027-01-15

class LedgerPruning : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    ASSERT_TRUE(prepare_quota_tables(*database_, wall_));
  }
  static QuotaAnswer report(DatabaseLedger& ledger, const QuotaReport& report, int64_t now_ms) {
    return ledger.report({&report, 1}, now_ms).value().front();
  }
  // A first report that takes a lease, and a second that says what was used of it.
  static void use(DatabaseLedger& ledger, QuotaKey key, LimitWindow window, int64_t used, int64_t now_ms) {
    QuotaReport first{.key = std::move(key), .window = window, .cap = 1000, .ahead = used};
    const QuotaAnswer answer = report(ledger, first, now_ms);
    ASSERT_EQ(answer.mark, used);
    first.number = answer.number;
    first.mark = answer.mark;
    first.used = used;
    report(ledger, first, now_ms);
  }
  int64_t rows(const std::string& table) {
    return std::get<0>(
        **database_->read([&](Transaction& tx) { return tx.row<int64_t>("SELECT COUNT(*) FROM " + table); }));
  }
  int64_t settled(const std::string& counter, int64_t now_ms) { return test::settled_of(*database_, counter, now_ms); }
  static void prune_all(DatabaseLedger& ledger, int64_t now_ms) {
    for (int i = 0; i < 100; ++i)
      if (!ledger.prune(now_ms).value()) return;
    ADD_FAILURE() << "there is always more";
  }

  test::TestDatabase files_{GetParam(), 10'000};
  SystemWallClock wall_;
  std::unique_ptr<Database> database_;
};
INSTANTIATE_TEST_SUITE_P(Databases, LedgerPruning, test::both_databases(), test::database_test_name);

TEST_P(LedgerPruning, WhatADeadNodeHeldOfACounterThatNobodyAsksAboutIsSettled) {
  DatabaseLedger dead(*database_, "dead"), living(*database_, "living");
  const int64_t day = periods_at("UTC", kNowMs).day.id;
  use(dead, {"tokens_per_day key k1", day}, LimitWindow::day, 100, kNowMs);  // and 100 are marked ahead
  prune_all(living, kNowMs + kLeaseMs);
  EXPECT_EQ(settled("tokens_per_day key k1", kNowMs), 100);  // it may live
  EXPECT_EQ(rows("quota_leases"), 1);
  prune_all(living, kNowMs + kLeaseMs + kLeaseMarginMs);
  EXPECT_EQ(settled("tokens_per_day key k1", kNowMs), 200);
  EXPECT_EQ(rows("quota_leases"), 0);
  EXPECT_EQ(rows("quota_counters"), 1);  // what was used of this day stays
}

TEST_P(LedgerPruning, MinutesGoWhenTheyAreOverAndDaysAndMonthsWhenTheyAreOld) {
  DatabaseLedger ledger(*database_, "node"), other(*database_, "other");
  const auto [day, month] = periods_at("UTC", kNowMs);
  for (int i = 0; i < 100; ++i)
    use(ledger, {"tokens_per_minute key k" + std::to_string(i), 0}, LimitWindow::minute, 5, kNowMs);
  use(ledger, {"concurrent_streams key k1", 0}, LimitWindow::level, 1, kNowMs);
  use(ledger, {"tokens_per_day key k1", day.id}, LimitWindow::day, 5, kNowMs);
  use(ledger, {"tokens_per_month key k1", month.id}, LimitWindow::month, 5, kNowMs);
  prune_all(other, kNowMs + 10'000);
  EXPECT_EQ(rows("quota_counters"), 103);
  EXPECT_EQ(settled("tokens_per_minute key k99", kNowMs + 10'000), 5);
  int64_t now_ms = kNowMs + kLeaseMs + kMinuteMs + 10'000;
  prune_all(other, now_ms);
  EXPECT_EQ(rows("quota_counters"), 2);
  EXPECT_EQ(rows("quota_window"), 0);
  EXPECT_EQ(rows("quota_leases"), 0);
  EXPECT_EQ(rows("quota_nodes"), 1);  // "node"; the other has reported nothing
  now_ms = kNowMs + 64 * kDayMs;
  prune_all(other, now_ms);
  EXPECT_EQ(settled("tokens_per_day", now_ms), 0);
  EXPECT_EQ(settled("tokens_per_month", now_ms), 10);
  EXPECT_EQ(rows("quota_nodes"), 0);
  prune_all(other, kNowMs + 400 * kDayMs);
  EXPECT_EQ(rows("quota_counters"), 0);
}

TEST_P(LedgerPruning, CountersOfANewerProgramsKindsStayAndKeepNothingElse) {
  DatabaseLedger ledger(*database_, "node"), other(*database_, "other");
  const int64_t day = periods_at("UTC", kNowMs).day.id;
  for (int i = 0; i < 100; ++i)
    use(ledger, {"a_newer_kind key k" + std::to_string(i), day}, LimitWindow::day, 5, kNowMs);
  use(ledger, {"tokens_per_day key k1", day}, LimitWindow::day, 5, kNowMs);
  prune_all(other, kNowMs + 64 * kDayMs);
  EXPECT_EQ(rows("quota_counters"), 100);
  EXPECT_EQ(rows("quota_leases"), 100);
  EXPECT_EQ(settled("tokens_per_day", kNowMs), 0);
}

TEST_P(LedgerPruning, AStepIsSmall) {
  DatabaseLedger ledger(*database_, "node"), other(*database_, "other");
  for (int i = 0; i < 20; ++i)
    use(ledger, {"concurrent_streams key k" + std::to_string(i), 0}, LimitWindow::level, 1, kNowMs);
  const int64_t now_ms = kNowMs + kMinuteMs;
  for (const int64_t left : {20, 12, 4, 0}) {
    EXPECT_EQ(other.prune(now_ms).value(), left > 0);
    EXPECT_EQ(rows("quota_counters"), left);
  }
  EXPECT_FALSE(other.prune(now_ms).value());
}

TEST_P(LedgerPruning, ItsOwnLeasesAreLeftAlone) {
  DatabaseLedger ledger(*database_, "node");
  use(ledger, {"tokens_per_minute key k1", 0}, LimitWindow::minute, 5, kNowMs);
  prune_all(ledger, kNowMs + 10 * kMinuteMs);  // it was stopped for so long, and goes on
  EXPECT_EQ(rows("quota_leases"), 1);
  EXPECT_EQ(rows("quota_counters"), 1);
}

TEST_P(LedgerPruning, StandingsAreOfThePrefixAlone) {
  DatabaseLedger ledger(*database_, "node");
  for (const char* counter : {"tokens_per_day tenant n_rth", "tokens_per_day tenant north", "tokens_per_day tenant N"})
    use(ledger, {counter, 1}, LimitWindow::day, 5, kNowMs);
  const auto found = ledger.standings("tokens_per_day tenant n_", kNowMs).value();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key.counter, "tokens_per_day tenant n_rth");
  EXPECT_EQ(ledger.standings("", kNowMs)->size(), 3u);
}

}  // namespace
}  // namespace redoubt
