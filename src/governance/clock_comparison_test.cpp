#include "governance/clock_comparison.h"

#include <gmock/gmock.h>

#include <chrono>
#include <ctime>
#include <thread>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

class ClockComparisonTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
  }
  // As the first letters of a time in UTC.
  static std::string minute(int64_t unix_ms) {
    const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
    char text[32];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M", std::gmtime(&seconds));
    return text;
  }
  test::TestDatabase files_{GetParam(), 10'000};
  std::unique_ptr<Database> database_;
  test::ShiftedWallClock wall_;
};
INSTANTIATE_TEST_SUITE_P(Databases, ClockComparisonTest, test::both_databases(), test::database_test_name);

TEST_P(ClockComparisonTest, AClockThatIsFurtherOffThanTheMarginIsToldWithBothTimes) {
  ClockComparison clocks(*database_, wall_, {.period_ms = 0});
  const bool has_clock = GetParam() == DatabaseKind::postgres;  // a file has none
  for (const int64_t shift_ms : {0, 2'500, -2'500}) {
    wall_.shift_ms = shift_ms;
    ASSERT_TRUE(clocks.look());
    EXPECT_FALSE(clocks.are_apart()) << shift_ms;
    EXPECT_EQ(clocks.apart(), "");
  }
  for (const int64_t shift_ms : {3'500, 86'400'000, -3'500, -86'400'000}) {
    wall_.shift_ms = shift_ms;
    const int64_t now_ms = SystemWallClock().now_ms();
    ASSERT_TRUE(clocks.look());
    EXPECT_EQ(clocks.are_apart(), has_clock) << shift_ms;
    if (!has_clock || std::abs(shift_ms) < 60'000) continue;
    EXPECT_THAT(clocks.apart(), testing::HasSubstr("this node says " + minute(now_ms + shift_ms)));
    EXPECT_THAT(clocks.apart(), testing::HasSubstr("the database " + minute(now_ms)));
  }
  wall_.shift_ms = 0;
  ASSERT_TRUE(clocks.look());
  EXPECT_FALSE(clocks.are_apart());
}

TEST_P(ClockComparisonTest, IsMadeAgainAndAgain) {
  ClockComparison clocks(*database_, wall_, {.period_ms = 10, .apart_period_ms = 10});
  const auto becomes = [&](bool apart) {
    for (int i = 0; i < 1000 && clocks.are_apart() != apart; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return clocks.are_apart() == apart;
  };
  if (GetParam() == DatabaseKind::sqlite) return;
  wall_.shift_ms = 65'000;
  EXPECT_TRUE(becomes(true));
  wall_.shift_ms = 0;
  EXPECT_TRUE(becomes(false));
}

}  // namespace
}  // namespace redoubt
