#include "governance/limit_store.h"

#include <gtest/gtest.h>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

class LimitStoreTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
  }
  test::TestDatabase files_{GetParam(), 10'000};
  SteadyClock clock_;
  SystemWallClock wall_;
};
INSTANTIATE_TEST_SUITE_P(Databases, LimitStoreTest, test::both_databases(), test::database_test_name);

TEST_P(LimitStoreTest, AChangeHoldsHereAtOnceAndElsewhereWhenItLooks) {
  const auto here = files_.open(), there = files_.open();
  LimitRules seen_here, seen_there;
  const auto store = LimitStore::open(
                         *here, [&](const LimitRules& rules) { seen_here = rules; }, clock_, wall_, 0)
                         .value();
  const auto other = LimitStore::open(
                         *there, [&](const LimitRules& rules) { seen_there = rules; }, clock_, wall_, 0)
                         .value();
  const LimitRule rule = test::of_tenant(LimitKind::tokens_per_day, 1000);
  ASSERT_TRUE(store->set(rule));
  ASSERT_TRUE(store->set_tenant("north", {.time_zone = "Asia/Shanghai", .share_weight = 2.5}));
  ASSERT_TRUE(store->set_price("r1", {.prompt = 550'000, .answer = 2'190'000}));
  ASSERT_EQ(seen_here.rules.size(), 1u);
  EXPECT_EQ(seen_here.rules[0].amount, 1000);
  ASSERT_TRUE(other->refresh());
  ASSERT_EQ(seen_there.rules.size(), 1u);
  EXPECT_EQ(seen_there.rules[0].subject, rule.subject);
  EXPECT_EQ(seen_there.rules[0].kind, rule.kind);
  EXPECT_EQ(seen_there.tenants["north"].time_zone, "Asia/Shanghai");
  EXPECT_EQ(seen_there.tenants["north"].share_weight, 2.5);
  EXPECT_EQ(seen_there.prices["r1"].answer, 2'190'000);

  LimitRule more = rule;
  more.amount = 2000;
  ASSERT_TRUE(store->set(more));
  ASSERT_EQ(seen_here.rules.size(), 1u);
  EXPECT_EQ(seen_here.rules[0].amount, 2000);
  ASSERT_TRUE(store->remove(rule));
  EXPECT_TRUE(seen_here.rules.empty());
  EXPECT_EQ(store->remove(rule).error().code, ErrorCode::not_found);
}

TEST_P(LimitStoreTest, WhatMakesNoSenseIsRefused) {
  const auto database = files_.open();
  const auto store = LimitStore::open(
                         *database, [](const LimitRules&) {}, clock_, wall_, 0)
                         .value();
  EXPECT_FALSE(store->set(test::of_tenant(LimitKind::tokens_per_day, -1)));
  EXPECT_FALSE(store->set_tenant("north", {.time_zone = "Nowhere/At_All"}));
  EXPECT_FALSE(store->set_price("r1", {.prompt = -1}));
  EXPECT_TRUE(store->rules()->rules.empty());
}

}  // namespace
}  // namespace redoubt
