#include "server/admin_limits.h"

#include <gtest/gtest.h>

#include "governance/directory_fixture.h"
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

// What is accepted and matches nobody looks like a limit, and is none.
TEST_F(AdminLimits, ALimitThatLimitsNothingIsRefusedOrWarnedOf) {
  const auto people = Directory::open(*database, test::test_hash(), clock, wall, {.period_ms = 0}).value();
  const Actor owner = nullptr;
  ASSERT_TRUE(people->create_tenant(owner, "north", {}));
  ASSERT_TRUE(people->create_team(owner, "north", "risk", {}));
  ASSERT_TRUE(people->create_principal(owner, {.id = "ann", .tenant = "north"}));
  const auto key = people->create_key(owner, {.principal = "ann"});
  const LimitAdministration knowing{*service.store, *service.ledger, wall, people.get(), {"r1", "v3"}};
  const auto set = [&](const std::string& scope, const std::string& subject, const std::string& model = "",
                       const std::string& kind = "tokens_per_day") {
    return knowing.set({{"scope", scope}, {"subject", subject}, {"model", model}, {"kind", kind}, {"amount", 5}});
  };
  for (const char* scope : {"team", "user"}) {
    const auto refused = set(scope, "risk");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().param, "subject");
    EXPECT_TRUE(set(scope, "*"));
  }
  for (const auto& [scope, subject] : {std::pair<std::string, std::string>{"tenant", "north"},
                                       {"team", "north/risk"},
                                       {"user", "north/ann"},
                                       {"user", "north/corp:bob"},
                                       {"key", key->id},
                                       {"model", "r1"},
                                       {"tenant", "*"}})
    EXPECT_TRUE((*set(scope, subject))["warnings"].empty()) << scope << " " << subject;
  for (const auto& [scope, subject] : {std::pair<std::string, std::string>{"tenant", "nort"},
                                       {"team", "north/risks"},
                                       {"user", "default/ann"},
                                       {"key", "nosuch"},
                                       {"model", "r2"}})
    EXPECT_EQ((*set(scope, subject))["warnings"].size(), 1u) << scope << " " << subject;
  EXPECT_EQ((*set("tenant", "north", "r2"))["warnings"].size(), 1u);
  EXPECT_FALSE(knowing.set_tenant("nosuch", body(R"({"share_weight":2})")));
  EXPECT_FALSE(knowing.set_tenant("north", body("{}")));
  EXPECT_FALSE(knowing.set_tenant("north", body(R"({"share_weight":0})")));
  EXPECT_FALSE(knowing.set_tenant("north", body(R"({"time_zone":""})")));
}

// Else whoever may rotate a key would be rid of its limits.
TEST_F(AdminLimits, AKeysLimitAndWhatWasUsedOfItOutliveItsRotation) {
  const auto people = Directory::open(*database, test::test_hash(), clock, wall, {.period_ms = 0}).value();
  const Actor owner = nullptr;
  ASSERT_TRUE(people->first_start(""));
  const auto first = people->create_key(owner, {.principal = "first"});
  const LimitAdministration knowing{*service.store, *service.ledger, wall, people.get()};
  ASSERT_TRUE(knowing.set({{"scope", "key"}, {"subject", first->id}, {"kind", "tokens_per_day"}, {"amount", 100}}));
  const auto ask = [&](const std::string& id) {
    const PrincipalPtr who = people->snapshot()->keys.at(id)->who;
    return service.limits->reserve({.principal = who.get(), .model = "r1", .prompt_tokens = 20, .max_tokens = 40});
  };
  std::get<Reservation>(ask(first->id)).settle({20, 40, 0});
  const auto second = people->rotate_key(owner, first->id);
  const auto third = people->rotate_key(owner, second->id);
  EXPECT_TRUE(std::holds_alternative<LimitRefusal>(ask(third->id)));
  EXPECT_TRUE(std::holds_alternative<LimitRefusal>(ask(first->id))) << "in the overlap they share it";
  // Named by any of them it is the same limit.
  const auto raised =
      knowing.set({{"scope", "key"}, {"subject", third->id}, {"kind", "tokens_per_day"}, {"amount", 1000}});
  EXPECT_EQ((*raised)["subject"], first->id);
  EXPECT_TRUE((*raised)["warnings"].empty());
  EXPECT_EQ(knowing.list().value()["limits"].size(), 1u);
  EXPECT_TRUE(std::holds_alternative<Reservation>(ask(third->id)));
  EXPECT_TRUE(
      knowing.set({{"scope", "key"}, {"subject", second->id}, {"kind", "tokens_per_day"}, {"amount", nullptr}}));
  EXPECT_TRUE(knowing.list().value()["limits"].empty());
}

TEST_F(AdminLimits, MoneyOfModelsWithoutAPriceIsWarnedOf) {
  const Json money = body(R"({"scope":"tenant","subject":"north","kind":"money_per_day","amount":5})");
  EXPECT_EQ(admin.set(money).value()["warnings"].size(), 1u);  // which models there are is not known here
  const LimitAdministration knowing{*service.store, *service.ledger, wall, nullptr, {"r1", "v3"}};
  EXPECT_EQ(knowing.set(money).value()["warnings"].size(), 2u);
  EXPECT_EQ(knowing.list().value()["warnings"].size(), 2u);
  ASSERT_TRUE(knowing.set_price("r1", body(R"({"prompt":1,"answer":2})")));
  EXPECT_EQ(knowing.list().value()["warnings"].size(), 1u);
  EXPECT_TRUE(admin.list().value()["warnings"].empty());
}

TEST_F(AdminLimits, APriceThatIsNotNamedStays) {
  ASSERT_TRUE(admin.set_price("r1", body(R"({"prompt":550000,"answer":2190000})")));
  EXPECT_EQ(admin.set_price("r1", body(R"({"prompt":700000})")).value()["answer"], 2190000);
  EXPECT_EQ(admin.set_price("r1", body(R"({"answer":0})")).value()["prompt"], 700000);
  EXPECT_FALSE(admin.set_price("r1", body("{}")));
  EXPECT_EQ(admin.list().value()["prices"][0]["prompt"], 700000);
}

TEST_F(AdminLimits, ItsRoutesHaveRulesThatPoliciesKnow) {
  std::vector<Route> routes;
  add_limit_routes(admin, routes);
  EXPECT_TRUE(check_rules(routes));
  EXPECT_EQ(routes.size(), 5u);
}

}  // namespace
}  // namespace redoubt
