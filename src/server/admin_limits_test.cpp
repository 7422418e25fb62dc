#include "server/admin_limits.h"

#include <gtest/gtest.h>

#include "governance/limit_service.h"
#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

struct AdminLimits : testing::Test {
  test::TestDatabase files{DatabaseKind::sqlite, 10'000};
  SteadyClock clock;
  SystemWallClock wall;
  std::unique_ptr<Database> database = files.open();
  LimitService service = LimitService::open(*database, "local", clock, wall).value();
  LimitAdministration admin{*service.store, *service.ledger, wall};

  static Json body(const std::string& text) { return parse_json(text).value(); }
};

TEST_F(AdminLimits, ALimitIsSetHoldsIsUsedAndLifted) {
  ASSERT_TRUE(admin.set(body(R"({"scope":"tenant","subject":"north","kind":"tokens_per_day","amount":100})")));
  ASSERT_TRUE(admin.set_tenant("north", body(R"({"time_zone":"Asia/Shanghai","share_weight":2})")));
  ASSERT_TRUE(admin.set_price("r1", body(R"({"prompt":550000,"answer":2190000})")));
  const Json all = admin.list().value();
  EXPECT_EQ(all["limits"].size(), 1u);
  EXPECT_EQ(all["limits"][0]["amount"], 100);
  EXPECT_EQ(all["tenants"][0]["time_zone"], "Asia/Shanghai");
  EXPECT_EQ(all["prices"][0]["answer"], 2190000);

  const Principal ann = test::person("ann");
  const LimitRequest request{.principal = &ann, .model = "r1", .prompt_tokens = 40, .max_tokens = 40};
  auto reservation = std::get<Reservation>(service.limits->reserve(request));
  EXPECT_EQ(reservation.bounds().share_weight, 2);
  EXPECT_TRUE(std::holds_alternative<LimitRefusal>(service.limits->reserve(request)));
  reservation.settle({40, 30, 0});
  ASSERT_TRUE(service.limits->sync());
  const Json usage = admin.usage("tokens_per_day tenant north").value()["usage"];
  ASSERT_EQ(usage.size(), 1u);
  EXPECT_EQ(usage[0]["settled"], 70);

  ASSERT_TRUE(admin.set(body(R"({"scope":"tenant","subject":"north","kind":"tokens_per_day","amount":null})")));
  EXPECT_TRUE(admin.list().value()["limits"].empty());
  EXPECT_FALSE(std::get<Reservation>(service.limits->reserve(request)).is_limited());
}

TEST_F(AdminLimits, WhatIsMisspeltIsAnErrorThatNamesIt) {
  const auto param = [&](const std::string& text) {
    const auto answer = admin.set(body(text));
    return answer ? std::string("accepted") : answer.error().param;
  };
  EXPECT_EQ(param(R"({"scope":"tenant","subject":"n","kind":"tokens_per_day","ammount":1})"), "ammount");
  EXPECT_EQ(param(R"({"scope":"tenants","subject":"n","kind":"tokens_per_day","amount":1})"), "scope");
  EXPECT_EQ(param(R"({"scope":"tenant","subject":"n","kind":"tokens_per_year","amount":1})"), "kind");
  EXPECT_EQ(param(R"({"scope":"tenant","subject":"n","kind":"tokens_per_day"})"), "amount");
  EXPECT_EQ(param(R"({"scope":"tenant","subject":"n","kind":"tokens_per_day","amount":-1})"), "amount");
  EXPECT_FALSE(admin.set_tenant("n", body(R"({"time_zone":"Here"})")));
}

TEST_F(AdminLimits, ItsRoutesHaveRulesThatPoliciesKnow) {
  std::vector<Route> routes;
  add_limit_routes(admin, routes);
  EXPECT_TRUE(check_rules(routes));
  EXPECT_EQ(routes.size(), 5u);
}

}  // namespace
}  // namespace redoubt
