#include "governance/node_claim.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

class NodeClaimTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    one_ = files_.open();
    other_ = files_.open();
  }
  Result<std::unique_ptr<NodeClaim>> take(Database& database, const std::string& node, NodeClaimOptions options) {
    return NodeClaim::take(database, node, wall_, options);
  }
  static constexpr NodeClaimOptions kQuick{.renew_ms = 20, .bound_ms = 3000};
  static constexpr NodeClaimOptions kSilent{.renew_ms = 1 << 30, .bound_ms = 200};  // as one that died
  test::TestDatabase files_{GetParam(), 10'000};
  std::unique_ptr<Database> one_, other_;
  SystemWallClock wall_;
};
INSTANTIATE_TEST_SUITE_P(Databases, NodeClaimTest, test::both_databases(), test::database_test_name);

TEST_P(NodeClaimTest, OfALiveProcessIsRefusedToASecondOne) {
  auto first = take(*one_, "n1", kQuick);
  ASSERT_TRUE(first) << first.error().message;
  const auto second = take(*other_, "n1", kQuick);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
  EXPECT_TRUE(take(*other_, "n2", kQuick)) << "another id is another node";
  EXPECT_FALSE((*first)->is_lost());
  first->reset();
  const auto began = std::chrono::steady_clock::now();
  EXPECT_TRUE(take(*other_, "n1", kQuick)) << "it ended";
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2)) << "and nothing is waited for";
}

TEST_P(NodeClaimTest, OfAProcessThatDiedIsFreeAfterItsBound) {
  const auto dead = take(*one_, "n1", kSilent);
  ASSERT_TRUE(dead);
  const auto began = std::chrono::steady_clock::now();
  const auto next = take(*other_, "n1", {.renew_ms = 20, .bound_ms = 200});
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(200));
  const auto other_dead = take(*one_, "n3", kSilent);
  ASSERT_TRUE(other_dead);
  EXPECT_TRUE(take(*other_, "n3", {.may_wait = false})) << "nobody else could have it";
}

TEST_P(NodeClaimTest, ThatAnotherTookIsKnownToBeLost) {
  const auto stalled = take(*one_, "n1", {.renew_ms = 400, .bound_ms = 50});
  ASSERT_TRUE(stalled);
  const auto next = take(*other_, "n1", {.renew_ms = 20, .bound_ms = 50});
  ASSERT_TRUE(next) << next.error().message;
  for (int i = 0; i < 500 && !(*stalled)->is_lost(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE((*stalled)->is_lost());
  EXPECT_FALSE((*next)->is_lost());
}

TEST_P(NodeClaimTest, ThatADatabaseForgotIsMadeAgain) {
  const auto claim = take(*one_, "n1", kQuick);
  ASSERT_TRUE(claim);
  ASSERT_TRUE(other_->write([](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("DELETE FROM node_claims"));
    return ok();
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_FALSE((*claim)->is_lost());
  EXPECT_FALSE(take(*other_, "n1", kQuick)) << "and it is still one";
}

// One that has limits and leases, and no claims.
TEST_P(NodeClaimTest, ADatabaseOfAnOlderProgramIsTaken) {
  ASSERT_TRUE(prepare_quota_tables(*one_, wall_));
  test::Node node(files_.open(), "n1", wall_);
  node.limits.set_rules(test::rules_of({test::of_tenant(LimitKind::tokens_per_day, 1000)}));
  const Principal ann = test::person("ann");
  auto taken = node.limits.reserve({.principal = &ann, .model = "r1", .prompt_tokens = 100, .max_tokens = 10});
  ASSERT_TRUE(std::holds_alternative<Reservation>(taken));
  std::get<Reservation>(taken).settle({100, 10, 0});
  ASSERT_TRUE(take(*other_, "n1", kQuick));
  EXPECT_TRUE(node.limits.sync());
  EXPECT_EQ(test::settled_of(*one_, "tokens_per_day tenant north", wall_.now_ms()), 110);
}

}  // namespace
}  // namespace redoubt
