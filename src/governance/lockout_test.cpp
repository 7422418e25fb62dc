#include "governance/lockout.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

class LockoutTest : public testing::Test {
 protected:
  void fail(int times, std::string_view address, std::string_view account = "") {
    for (int i = 0; i < times; ++i) lockout_.failed(address, account);
  }
  ManualClock clock_;
  Lockout lockout_{{.failures = 5,
                    .window_s = 60,
                    .lock_s = 60,
                    .max_lock_s = 200,
                    .verifications_per_s = 3,
                    .max_addresses = 3,
                    .max_accounts = 2},
                   clock_};
};

TEST_F(LockoutTest, AnAddressWaitsLongerEachTimeAndNobodyElseDoes) {
  fail(4, "10.0.0.1");
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 0);
  fail(1, "10.0.0.1");
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 60);
  EXPECT_EQ(lockout_.wait_of("10.0.0.2"), 0);
  for (const int64_t expected : {120, 200, 200}) {
    clock_.advance_ns(200 * kSecond);
    EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 0);
    fail(5, "10.0.0.1");
    EXPECT_EQ(lockout_.wait_of("10.0.0.1"), expected);
  }
  clock_.advance_ns(1000 * kSecond);  // quiet: forgotten
  fail(5, "10.0.0.1");
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 60);
}

TEST_F(LockoutTest, AFewFailuresNowAndThenLockNobody) {
  for (int i = 0; i < 50; ++i) {
    fail(2, "10.0.0.1");
    clock_.advance_ns(61 * kSecond);
  }
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 0);
}

TEST_F(LockoutTest, AChosenKeyIsKnownForADayWhereItCameIn) {
  lockout_.chosen_came_in("10.0.0.1");
  EXPECT_TRUE(lockout_.chosen_is_known("10.0.0.1"));
  EXPECT_FALSE(lockout_.chosen_is_known("10.0.0.2"));
  fail(5, "10.0.0.1");
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 60);
  EXPECT_TRUE(lockout_.chosen_is_known("10.0.0.1"));
  clock_.advance_ns(86'400 * kSecond);
  EXPECT_FALSE(lockout_.chosen_is_known("10.0.0.1"));
}

TEST_F(LockoutTest, AFewSignaturesASecondAreVerifiedForAnAddress) {
  const auto verified = [&](std::string_view address) {
    int count = 0;
    for (int i = 0; i < 10; ++i) count += lockout_.may_verify(address) ? 1 : 0;
    return count;
  };
  EXPECT_EQ(verified("10.0.0.1"), 3);
  EXPECT_EQ(verified("10.0.0.1"), 0);
  EXPECT_EQ(verified("10.0.0.2"), 3);
  clock_.advance_ns(kSecond);
  EXPECT_EQ(verified("10.0.0.1"), 3);
}

TEST_F(LockoutTest, AnAccountsOwnFailuresCountAgainstItAtThatAddressAlone) {
  for (int i = 0; i < 5; ++i) EXPECT_EQ(lockout_.failed("10.0.0.1", "robot"), 0);
  EXPECT_EQ(lockout_.failed("10.0.0.1", "robot"), 60);
  EXPECT_EQ(lockout_.failed("10.0.0.2", "robot"), 0);
  EXPECT_EQ(lockout_.failed("10.0.0.1", "alice"), 0);
  EXPECT_EQ(lockout_.wait_of("10.0.0.1"), 0);
}

TEST_F(LockoutTest, AnIpv6CustomersAddressesAreOne) {
  EXPECT_EQ(address_group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(address_group("::ffff:10.0.0.1"), "10.0.0.1");
  EXPECT_EQ(address_group("10.0.0.1"), "10.0.0.1");
  for (int i = 0; i < 5; ++i) lockout_.failed("2001:db8:1:2::" + std::to_string(i + 1), "");
  EXPECT_EQ(lockout_.wait_of("2001:db8:1:2::ffff"), 60);
  EXPECT_EQ(lockout_.wait_of("2001:db8:1:3::1"), 0);
}

TEST_F(LockoutTest, MemoryIsBounded) {
  for (int i = 0; i < 10; ++i) fail(5, "10.0.1." + std::to_string(i));
  EXPECT_EQ(lockout_.wait_of("10.0.1.0"), 0);  // the quietest are forgotten
  EXPECT_EQ(lockout_.wait_of("10.0.1.9"), 60);
  // So are accounts: from then on each failure is the address's.
  for (int i = 0; i < 7; ++i) lockout_.failed("10.0.2.1", "user" + std::to_string(i));
  EXPECT_EQ(lockout_.wait_of("10.0.2.1"), 60);
}

}  // namespace
}  // namespace redoubt
