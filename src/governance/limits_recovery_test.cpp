// After an outage the limits open by themselves, each of them: also one that nobody has a lease of, which nothing but
// its failed report would make the node ask about again.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "governance/limit_counter.h"
#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

using std::chrono::milliseconds;
using test::Node;
using test::person;
using test::rules_of;
using Fault = test::FaultyLedger::Fault;

constexpr int64_t kSecondNs = 1'000'000'000;

QuotaAnswer answer_of(const QuotaReport& report) {
  const int64_t granted = report.handed + report.least + report.ahead;
  if (report.close) return {.free = report.cap};
  return {.number = report.number + 1, .granted = granted, .mark = granted, .free = report.cap - granted};
}

// Of a counter that is new, and of one whose lease went back because nobody asked for long.
TEST(LimitCounter, WhoseReportFailedIsReportedUntilOneIsRecorded) {
  for (const bool is_new : {true, false}) {
    SCOPED_TRACE(is_new);
    int64_t now_ns = kSecondNs;
    LimitCounter counter({"tokens_per_day tenant north", 1}, LimitKind::tokens_per_day, "north's", {});
    counter.set_cap(1000);
    if (!is_new) {
      counter.want(10);
      counter.recorded(answer_of(counter.report(now_ns)), now_ns);
      now_ns += 11 * kSecondNs;
      ASSERT_TRUE(counter.needs_report(now_ns, kSecondNs));
      const QuotaReport last = counter.report(now_ns);
      ASSERT_TRUE(last.close);
      counter.recorded(answer_of(last), now_ns);
      ASSERT_TRUE(counter.is_forgettable());
    }
    counter.want(10);
    static_cast<void>(counter.report(now_ns));
    counter.failed();
    for (int i = 0; i < 3; ++i) {  // nobody asks meanwhile
      EXPECT_TRUE(counter.last_failed());
      EXPECT_FALSE(counter.is_forgettable());
      EXPECT_FALSE(counter.needs_report(now_ns + kLedgerRetryNs - 1, kSecondNs));
      now_ns += kLedgerRetryNs;
      ASSERT_TRUE(counter.needs_report(now_ns, kSecondNs));
      static_cast<void>(counter.report(now_ns));
      counter.failed();
    }
    now_ns += kLedgerRetryNs;
    const QuotaReport report = counter.report(now_ns);
    EXPECT_EQ(report.used, 0);
    counter.recorded(answer_of(report), now_ns);
    EXPECT_FALSE(counter.last_failed());
    EXPECT_FALSE(counter.needs_report(now_ns, kSecondNs));
    EXPECT_GE(counter.available(now_ns), 10);
  }
}

class LimitsRecovery : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    reader_ = files_.open();
    ASSERT_TRUE(prepare_quota_tables(*reader_, wall_));
    node_ = std::make_unique<Node>(files_.open(), "a", wall_, LimitsOptions{.wait_ms = 10'000, .sync_ms = 20});
    node_->limits.set_rules(
        rules_of({{.scope = LimitScope::tenant, .subject = "*", .kind = LimitKind::tokens_per_day, .amount = kCap}}));
  }

  // A request of 80 tokens: of those that were admitted the books must tell.
  std::optional<LimitRefusal::Why> ask(const std::string& tenant) {
    const Principal who = person("ann", tenant);
    auto answer = node_->limits.reserve({.principal = &who, .model = "r1", .prompt_tokens = 50, .max_tokens = 50});
    if (const auto* refusal = std::get_if<LimitRefusal>(&answer)) return refusal->why;
    std::get<Reservation>(answer).settle({50, 30, 0});
    used_[tenant] += 80;
    return std::nullopt;
  }
  static bool soon(const std::function<bool()>& holds, milliseconds within = milliseconds(5000)) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    while (!holds()) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return true;
  }
  bool is_open() const { return node_->limits.stats().failing_ns == 0; }
  int64_t syncs() const { return static_cast<int64_t>(node_->limits.stats().syncs); }
  bool asks_no_more() const {  // for long enough to have found a counter that needs it
    const int64_t before = syncs();
    std::this_thread::sleep_for(milliseconds(400));
    return syncs() == before;
  }
  void expect_true_books() {
    ASSERT_TRUE(node_->limits.sync());
    for (const auto& [tenant, used] : used_)
      EXPECT_EQ(test::settled_of(*reader_, "tokens_per_day tenant " + tenant, wall_.now_ms()), used) << tenant;
  }

  static constexpr int64_t kCap = 100'000;
  static constexpr auto kUnavailable = LimitRefusal::Why::unavailable;
  test::TestDatabase files_{GetParam(), 500};
  test::ShiftedWallClock wall_;
  std::unique_ptr<Database> reader_;
  std::unique_ptr<Node> node_;
  std::map<std::string, int64_t> used_;
};
INSTANTIATE_TEST_SUITE_P(Databases, LimitsRecovery, test::both_databases(), test::database_test_name);

// Nobody asks in between, and no other counter has anything to say.
TEST_P(LimitsRecovery, TheOnlyCounterHadNoLease) {
  for (const Fault fault : {Fault::before, Fault::after}) {
    const std::string tenant = fault == Fault::before ? "before" : "after";
    node_->faulty.always = fault;
    EXPECT_EQ(ask(tenant), kUnavailable);
    EXPECT_FALSE(is_open());
    std::this_thread::sleep_for(milliseconds(300));
    EXPECT_EQ(ask(tenant), kUnavailable);
    node_->faulty.always = Fault::none;
    EXPECT_TRUE(soon([&] { return is_open(); }));
    EXPECT_EQ(ask(tenant), std::nullopt);
    EXPECT_TRUE(soon([&] { return asks_no_more(); }));
  }
  expect_true_books();
}

// The node opens with another's report; the counter that was new in the outage opens too.
TEST_P(LimitsRecovery, AnotherCounterHasALease) {
  for (const Fault fault : {Fault::before, Fault::after}) {
    const std::string fresh = fault == Fault::before ? "before" : "after";
    EXPECT_EQ(ask("old"), std::nullopt);
    ASSERT_TRUE(node_->limits.sync());
    EXPECT_EQ(ask("old"), std::nullopt);  // to be reported
    node_->faulty.always = fault;
    EXPECT_EQ(ask(fresh), kUnavailable);
    node_->faulty.always = Fault::none;
    EXPECT_TRUE(soon([&] { return ask("old") == std::nullopt; }));
    EXPECT_TRUE(soon([&] { return ask(fresh) == std::nullopt; }));
  }
  expect_true_books();
}

// At midnight: what the day before still has to say is said, and the new day begins.
TEST_P(LimitsRecovery, ADayBegins) {
  for (const Fault fault : {Fault::before, Fault::after}) {
    EXPECT_EQ(ask("north"), std::nullopt);
    ASSERT_TRUE(node_->limits.sync());
    EXPECT_EQ(ask("north"), std::nullopt);
    node_->faulty.always = fault;
    wall_.shift_ms += 86'400'000;
    EXPECT_EQ(ask("north"), kUnavailable);
    node_->faulty.always = Fault::none;
    EXPECT_TRUE(soon([&] { return is_open(); }));
    EXPECT_TRUE(soon([&] { return ask("north") == std::nullopt; }));
  }
  expect_true_books();  // the sum of all days
}

// What somebody waits for goes first, but a counter that is closed by itself has its turn however many those are.
TEST_P(LimitsRecovery, ACounterThatWasClosedAloneOpensUnderLoad) {
  node_->faulty.corrupt("tokens_per_day tenant bad");
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (int i = 0; i < 8; ++i) {
    callers.emplace_back([this, i, &stop] {
      for (int request = 0; !stop; ++request) {  // each of a tenant that was never seen
        const Principal who = person("ann", fmt::format("t{}_{}", i, request));
        static_cast<void>(node_->limits.reserve({.principal = &who, .model = "r1", .prompt_tokens = 1}));
      }
    });
  }
  EXPECT_EQ(ask("bad"), kUnavailable);
  std::this_thread::sleep_for(milliseconds(300));
  node_->faulty.corrupt("");
  EXPECT_TRUE(soon([&] { return ask("bad") == std::nullopt; }, milliseconds(20'000)));
  stop = true;
  for (std::thread& caller : callers) caller.join();
  expect_true_books();
}

// In earnest: another session holds what the ledger writes to, longer than the database's time limit.
TEST_P(LimitsRecovery, TheDatabaseIsLockedForAWhile) {
  const auto other = files_.open();
  std::promise<void> is_held, may_end;
  const auto holds = std::async(std::launch::async, [&] {
    static_cast<void>(other->write([&](Transaction& tx) -> Status {
      if (GetParam() == DatabaseKind::postgres) REDOUBT_CHECK(tx.execute("LOCK TABLE quota_counters, quota_nodes"));
      is_held.set_value();
      may_end.get_future().wait();
      return ok();
    }));
  });
  is_held.get_future().wait();
  EXPECT_EQ(ask("north"), kUnavailable);
  EXPECT_EQ(ask("south"), kUnavailable);
  may_end.set_value();
  holds.wait();
  EXPECT_TRUE(soon([&] { return is_open(); }));
  EXPECT_EQ(ask("north"), std::nullopt);
  EXPECT_EQ(ask("south"), std::nullopt);
  expect_true_books();
}

}  // namespace
}  // namespace redoubt
