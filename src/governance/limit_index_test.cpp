#include "governance/limit_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

using test::of_tenant;
using test::person;
using test::rules_of;

TEST(LimitRule, NamesAndValues) {
  for (int i = 0; i < kLimitKinds; ++i)
    EXPECT_EQ(kind_of(kind_name(static_cast<LimitKind>(i))), static_cast<LimitKind>(i));
  EXPECT_EQ(scope_of("team"), LimitScope::team);
  EXPECT_EQ(kind_of("tokens_per_year"), std::nullopt);
  EXPECT_FALSE(of_tenant(LimitKind::tokens_per_day, -1).validate());
  EXPECT_FALSE((LimitRule{.subject = ""}).validate());
  EXPECT_TRUE(of_tenant(LimitKind::tokens_per_day, 0).validate());
  EXPECT_FALSE((TenantSetting{.time_zone = "Nowhere"}).validate());
  EXPECT_FALSE((TenantSetting{.share_weight = 0}).validate());
}

TEST(LimitIndex, TheSubjectsOwnRuleGoesBeforeTheOneForEach) {
  const LimitIndex index(rules_of({
      {.scope = LimitScope::user, .subject = "*", .kind = LimitKind::tokens_per_day, .model = {}, .amount = 10},
      {.scope = LimitScope::user, .subject = "north/ann", .kind = LimitKind::tokens_per_day, .model = {}, .amount = 20},
      {.scope = LimitScope::user, .subject = "*", .kind = LimitKind::tokens_per_day, .model = "r1", .amount = 5},
      {.scope = LimitScope::team,
       .subject = "north/risk",
       .kind = LimitKind::requests_per_minute,
       .model = {},
       .amount = 3},
      {.scope = LimitScope::model, .subject = "r1", .kind = LimitKind::concurrent_streams, .model = {}, .amount = 2},
  }));
  const auto names = [&](const Principal& who, const std::string& model) {
    std::vector<std::string> found;
    for (const auto& met : index.limits_of(who, model))
      found.push_back(met.limit + "=" + std::to_string(met.rule->amount));
    return found;
  };
  EXPECT_THAT(names(person("ann"), "v3"), testing::ElementsAre("tokens_per_day of user north/ann=20"));
  EXPECT_THAT(names(person("bob", "north", {"risk"}), "r1"),
              testing::ElementsAre("requests_per_minute of team north/risk=3", "tokens_per_day of user north/bob=10",
                                   "tokens_per_day of user north/bob for r1=5", "concurrent_streams of model r1=2"));
  EXPECT_THAT(names(person("ann", "south"), "v3"), testing::ElementsAre("tokens_per_day of user south/ann=10"));
}

TEST(LimitIndex, MoneyIsRoundedUpAndExact) {
  const ModelPrice price{.prompt = 550'000, .answer = 2'190'000};  // 0.55 and 2.19 for a million tokens
  EXPECT_EQ(amount_of(LimitKind::money_per_day, {1'000'000, 1'000'000, 0}, price), 2'740'000);
  EXPECT_EQ(amount_of(LimitKind::money_per_day, {1, 0, 0}, price), 1);
  EXPECT_EQ(amount_of(LimitKind::money_per_day, {0, 0, 0}, price), 0);
}

}  // namespace
}  // namespace redoubt
