#include "storage/refresher.h"

#include <gtest/gtest.h>

#include "test_database.h"

namespace redoubt {
namespace {

class RefresherTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    other_node_ = files_.open();
    ASSERT_TRUE(prepare_topics(*database_, wall_));
    ASSERT_TRUE(prepare_topics(*other_node_, wall_));
    ASSERT_TRUE(database_->write([](Transaction& tx) -> Status {
      REDOUBT_CHECK(tx.execute("CREATE TABLE t (n BIGINT)"));
      REDOUBT_CHECK(tx.execute("INSERT INTO t VALUES (1)"));
      return ok();
    }));
  }
  static Status set(Database& database, int64_t n) {
    return database.write([&](Transaction& tx) -> Status {
      REDOUBT_CHECK(tx.execute("UPDATE t SET n = ?", n));
      return bump(tx, "numbers");
    });
  }
  Refresher::Load load() {
    return [this](Transaction& tx) -> Status {
      REDOUBT_TRY(const auto row, tx.row<int64_t>("SELECT n FROM t"));
      seen_ = std::get<0>(*row);
      return ok();
    };
  }
  test::TestDatabase files_{GetParam()};
  std::unique_ptr<Database> database_, other_node_;
  ManualWallClock wall_;
  ManualClock clock_;
  std::atomic<int64_t> seen_{0};
};
INSTANTIATE_TEST_SUITE_P(Databases, RefresherTest, test::both_databases(), test::database_test_name);

TEST_P(RefresherTest, LoadsOnlyWhatIsNewAndTellsItsAge) {
  Refresher refresher(*database_, {.topic = "numbers", .period_ms = 0}, load(), clock_);
  EXPECT_EQ(refresher.age_ns(), INT64_MAX);
  ASSERT_TRUE(refresher.refresh());
  EXPECT_EQ(seen_, 1);
  clock_.advance_ns(5);
  EXPECT_EQ(refresher.age_ns(), 5);
  ASSERT_TRUE(refresher.refresh());
  EXPECT_EQ(refresher.age_ns(), 0);
  EXPECT_EQ(refresher.loads(), 1);
  ASSERT_TRUE(set(*other_node_, 2));
  ASSERT_TRUE(refresher.refresh());
  EXPECT_EQ(seen_, 2);
  EXPECT_EQ(refresher.loads(), 2);
}

TEST_P(RefresherTest, AnotherNodesChangeIsKnownWithinHalfASecond) {
  const SteadyClock steady;
  Refresher refresher(*database_, {.topic = "numbers"}, load(), steady);
  ASSERT_TRUE(refresher.refresh());
  for (int64_t n = 10; n < 13; ++n) {
    ASSERT_TRUE(set(*other_node_, n));
    const auto changed = std::chrono::steady_clock::now();
    while (seen_ != n && std::chrono::steady_clock::now() - changed < std::chrono::seconds(10))
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(seen_, n);
  }
}

TEST_P(RefresherTest, AFailedLoadIsTriedAgainAndDoesNotCountAsYoung) {
  bool fail = true;
  Refresher refresher(
      *database_, {.topic = "numbers", .period_ms = 0},
      [&](Transaction& tx) -> Status {
        if (fail) return corrupt("by choice");
        return load()(tx);
      },
      clock_);
  EXPECT_FALSE(refresher.refresh());
  refresher.read_back();  // a change was made: that it cannot be read yet is no error of the change
  EXPECT_EQ(refresher.age_ns(), INT64_MAX);
  fail = false;
  ASSERT_TRUE(refresher.refresh());
  EXPECT_EQ(seen_, 1);
}

}  // namespace
}  // namespace redoubt
