// The same behaviour on SQLite and PostgreSQL; what only one of them can do wrong is in database_fault_test.cpp.
#include "storage/database.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "storage/migration.h"
#include "test_database.h"

namespace redoubt {
namespace {

class DatabaseTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    ASSERT_NE(database_, nullptr);
    const Status made = database_->write([](Transaction& tx) -> Status {
      REDOUBT_CHECK(tx.execute("CREATE TABLE t (id TEXT PRIMARY KEY, n BIGINT, x DOUBLE PRECISION, b BYTEA)"));
      return ok();
    });
    ASSERT_TRUE(made) << made.error().message;
  }
  static Status insert(Database& database, const std::string& id, int64_t n) {
    return database.write([&](Transaction& tx) -> Status {
      REDOUBT_CHECK(tx.execute("INSERT INTO t (id, n) VALUES (?, ?)", id, n));
      return ok();
    });
  }
  static Result<int64_t> count(Database& database) {
    return database.read([](Transaction& tx) -> Result<int64_t> {
      REDOUBT_TRY(const auto row, tx.row<int64_t>("SELECT COUNT(*) FROM t"));
      return std::get<0>(*row);
    });
  }
  test::TestDatabase files_{GetParam()};
  std::unique_ptr<Database> database_;
};
INSTANTIATE_TEST_SUITE_P(Databases, DatabaseTest, test::both_databases(), test::database_test_name);

TEST_P(DatabaseTest, EveryTypeComesBackAsItWent) {
  const Blob bytes{0, 1, 0xff, '\'', '\\'};
  const std::string text = "it's \"quoted\" \\ 中文 \n?";
  const Status done = database_->write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("INSERT INTO t (id, n, x, b) VALUES (?, ?, ?, ?)", text, INT64_MIN, 0.1, bytes));
    REDOUBT_CHECK(
        tx.execute("INSERT INTO t (id, n, x, b) VALUES (?, ?, ?, ?)", "", nullptr, std::optional<double>(), Blob()));
    return ok();
  });
  ASSERT_TRUE(done) << done.error().message;
  using Row = std::tuple<std::string, std::optional<int64_t>, std::optional<double>, std::optional<Blob>>;
  const auto rows = database_->read([&](Transaction& tx) {
    return tx.rows<std::string, std::optional<int64_t>, std::optional<double>, std::optional<Blob>>(
        "SELECT id, n, x, b FROM t");
  });
  ASSERT_TRUE(rows) << rows.error().message;
  EXPECT_THAT(*rows, testing::UnorderedElementsAre(Row{text, INT64_MIN, 0.1, bytes},
                                                   Row{"", std::nullopt, std::nullopt, Blob()}));
}

TEST_P(DatabaseTest, AColumnOfAnotherTypeIsAnError) {
  ASSERT_TRUE(insert(*database_, "a", 7));
  const auto wrong = database_->read([](Transaction& tx) { return tx.rows<int64_t>("SELECT id FROM t"); });
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::corrupt_data);
  const auto null = database_->read([](Transaction& tx) { return tx.rows<double>("SELECT x FROM t"); });
  EXPECT_FALSE(null);
  const auto narrow = database_->read([](Transaction& tx) { return tx.rows<std::string>("SELECT id, n FROM t"); });
  EXPECT_FALSE(narrow);
  const auto two =
      database_->read([](Transaction& tx) { return tx.row<int64_t>("SELECT n FROM t UNION ALL SELECT n FROM t"); });
  EXPECT_FALSE(two);
}

TEST_P(DatabaseTest, TextThatOneOfThemCouldNotHoldIsRefused) {
  EXPECT_EQ(insert(*database_, std::string("a\0b", 3), 1).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(insert(*database_, "\xff", 1).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(*count(*database_), 0);
}

TEST_P(DatabaseTest, AnErrorRollsBackEverything) {
  const Status failed = database_->write([](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("INSERT INTO t (id, n) VALUES ('a', 1)"));
    return not_found("by choice");
  });
  EXPECT_EQ(failed.error().message, "by choice");
  EXPECT_EQ(*count(*database_), 0);
}

TEST_P(DatabaseTest, AFailedStatementFailsTheTransactionEvenIfItsFunctionGoesOn) {
  ASSERT_TRUE(insert(*database_, "a", 1));
  const Status failed = database_->write([](Transaction& tx) -> Status {
    static_cast<void>(tx.execute("INSERT INTO t (id, n) VALUES ('a', 2)"));
    static_cast<void>(tx.execute("INSERT INTO t (id, n) VALUES ('b', 3)"));
    return ok();
  });
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::conflict);
  EXPECT_EQ(*count(*database_), 1);
  ASSERT_TRUE(insert(*database_, "b", 4));  // the connection is as good as before
}

TEST_P(DatabaseTest, ChangedRowsAreCountedAndReturned) {
  ASSERT_TRUE(insert(*database_, "a", 1));
  ASSERT_TRUE(insert(*database_, "b", 1));
  const auto changed =
      database_->write([](Transaction& tx) { return tx.execute("UPDATE t SET n = n + ? WHERE n <= ?", 1, 1); });
  EXPECT_EQ(*changed, 2);
  const auto none = database_->write([](Transaction& tx) { return tx.execute("DELETE FROM t WHERE id = ?", "c"); });
  EXPECT_EQ(*none, 0);
  const auto returned = database_->write([](Transaction& tx) {
    return tx.row<int64_t>(
        "INSERT INTO t (id, n) VALUES ('a', 5) ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n RETURNING n");
  });
  ASSERT_TRUE(returned) << returned.error().message;
  EXPECT_EQ(std::get<0>(**returned), 7);
}

TEST_P(DatabaseTest, AWrongStatementIsOursAndLeavesTheConnectionWhole) {
  const auto wrong = database_->read([](Transaction& tx) { return tx.rows<int64_t>("SELECT nothing FROM t"); });
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::internal);
  EXPECT_TRUE(count(*database_));
}

TEST_P(DatabaseTest, TwoNodesCountExactlyUnderBothIsolations) {
  ASSERT_TRUE(insert(*database_, "sum", 0));
  ASSERT_TRUE(insert(*database_, "capped", 0));
  const auto other = files_.open();
  constexpr int kThreads = 6, kTimes = 15;
  std::atomic<int> added = 0, admitted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Database& database = i % 2 == 0 ? *database_ : *other;
      for (int k = 0; k < kTimes; ++k) {
        // Read, then write: right only if transactions are serialisable.
        const Status done = database.write([](Transaction& tx) -> Status {
          REDOUBT_TRY(const auto row, tx.row<int64_t>("SELECT n FROM t WHERE id = 'sum'"));
          REDOUBT_CHECK(tx.execute("UPDATE t SET n = ? WHERE id = 'sum'", std::get<0>(*row) + 1));
          return ok();
        });
        if (done) ++added;
        const auto taken = database.write_row_locks([](Transaction& tx) {
          return tx.execute("UPDATE t SET n = n + 1 WHERE id = 'capped' AND n + 1 <= ?", 40);
        });
        if (taken && *taken == 1) ++admitted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto rows =
      database_->read([](Transaction& tx) { return tx.rows<std::string, int64_t>("SELECT id, n FROM t"); });
  using Row = std::tuple<std::string, int64_t>;
  EXPECT_THAT(*rows, testing::UnorderedElementsAre(Row{"sum", added.load()}, Row{"capped", 40}));
  EXPECT_EQ(admitted, 40);
  EXPECT_GT(added, kThreads * kTimes / 2);
}

TEST_P(DatabaseTest, AReadSeesOneMomentWhileOthersWrite) {
  ASSERT_TRUE(insert(*database_, "a", 1));
  const Status done = database_->read([&](Transaction& tx) -> Status {
    REDOUBT_TRY(const auto before, tx.row<int64_t>("SELECT COUNT(*) FROM t"));
    REDOUBT_CHECK(insert(*database_, "b", 2));
    REDOUBT_TRY(const auto after, tx.row<int64_t>("SELECT COUNT(*) FROM t"));
    EXPECT_EQ(std::get<0>(*before), std::get<0>(*after));
    return ok();
  });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(*count(*database_), 2);
}

TEST_P(DatabaseTest, WaitingForAConnectionEndsInTime) {
  DatabaseOptions options = files_.options();
  options.max_connections = 1;
  options.timeout_ms = 200;
  const auto small = Database::open(options).value();
  const Status outer = small->write_within(5000, [&](Transaction&) -> Status {
    const auto inner = count(*small);
    EXPECT_FALSE(inner);
    EXPECT_EQ(inner.error().code, ErrorCode::unavailable);
    return ok();
  });
  EXPECT_TRUE(outer);
  EXPECT_TRUE(count(*small));
}

TEST_P(DatabaseTest, WhatAnotherNodeHoldsIsUnavailableAfterTheTimeLimit) {
  ASSERT_TRUE(insert(*database_, "a", 1));
  DatabaseOptions options = files_.options();
  options.timeout_ms = 300;
  const auto other = Database::open(options).value();
  const Status held = database_->write_row_locks([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("UPDATE t SET n = 2 WHERE id = 'a'"));
    const auto refused =
        other->write_row_locks([](Transaction& tx) { return tx.execute("UPDATE t SET n = 3 WHERE id = 'a'"); });
    EXPECT_FALSE(refused);
    EXPECT_TRUE(refused || refused.error().code == ErrorCode::unavailable) << refused.error().message;
    return ok();
  });
  ASSERT_TRUE(held) << held.error().message;
  const auto free =
      other->write_row_locks([](Transaction& tx) { return tx.execute("UPDATE t SET n = 3 WHERE id = 'a'"); });
  EXPECT_TRUE(free) << free.error().message;
}

TEST_P(DatabaseTest, AnEndlessStatementIsEnded) {
  DatabaseOptions options = files_.options();
  options.timeout_ms = 300;
  const auto hasty = Database::open(options).value();
  const auto begun = std::chrono::steady_clock::now();
  const auto endless = hasty->read([](Transaction& tx) {
    return tx.rows<int64_t>(
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2000000000) SELECT MAX(n) FROM r");
  });
  ASSERT_FALSE(endless);
  EXPECT_EQ(endless.error().code, ErrorCode::unavailable);
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
  EXPECT_TRUE(count(*hasty));
}

TEST_P(DatabaseTest, MigrationsAreAppliedOnceInOrderByWhoeverComesFirst) {
  const ManualWallClock clock;
  const Migration first{1, "tables", "CREATE TABLE m (id TEXT PRIMARY KEY); INSERT INTO m VALUES ('a;b');"};
  const Migration second{2, "rows", "INSERT INTO m VALUES ('c');"};
  const Migration all[] = {first, second};
  const auto other = files_.open();
  std::vector<std::thread> nodes;
  for (Database* database : {database_.get(), other.get(), database_.get(), other.get()}) {
    nodes.emplace_back([&, database] {
      const Status done = migrate(*database, "test", std::span(all).first(1), clock);
      EXPECT_TRUE(done) << done.error().message;
    });
  }
  for (std::thread& node : nodes) node.join();
  ASSERT_TRUE(migrate(*database_, "test", all, clock));
  ASSERT_TRUE(migrate(*other, "test", all, clock));
  ASSERT_TRUE(migrate(*other, "another area", std::span<const Migration>(), clock));
  const auto rows = database_->read([](Transaction& tx) { return tx.rows<std::string>("SELECT id FROM m"); });
  EXPECT_THAT(*rows, testing::UnorderedElementsAre(std::tuple("a;b"), std::tuple("c")));

  const Status newer = migrate(*database_, "test", std::span(all).first(1), clock);
  EXPECT_EQ(newer.error().code, ErrorCode::unsupported);
  const Migration changed[] = {{1, "tables", "CREATE TABLE m (id TEXT)"}, second};
  EXPECT_EQ(migrate(*database_, "test", changed, clock).error().code, ErrorCode::corrupt_data);
  const Migration gap[] = {second};
  EXPECT_EQ(migrate(*database_, "gap", gap, clock).error().code, ErrorCode::internal);
}

TEST_P(DatabaseTest, AMigrationThatFailsLeavesNothing) {
  const ManualWallClock clock;
  const Migration bad[] = {{1, "bad", "CREATE TABLE half (id TEXT); INSERT INTO nowhere VALUES (1);"}};
  EXPECT_FALSE(migrate(*database_, "test", bad, clock));
  const auto half = database_->read([](Transaction& tx) { return tx.rows<std::string>("SELECT id FROM half"); });
  EXPECT_FALSE(half);
  const Migration good[] = {{1, "good", "CREATE TABLE half (id TEXT);"}};
  EXPECT_TRUE(migrate(*database_, "test", good, clock));
}

}  // namespace
}  // namespace redoubt
