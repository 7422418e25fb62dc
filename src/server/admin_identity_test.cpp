#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "governance/directory_fixture.h"
#include "governance/permit.h"
#include "governance/policy_actions.h"
#include "server/admin_call.h"
#include "server/routes_fixture.h"

namespace redoubt {
namespace {

class AdminIdentity : public test::DirectoryFixture {
 protected:
  Result<Json> call(const Actor& actor, std::string_view method, std::string_view path, const std::string& body = "{}",
                    std::vector<std::pair<std::string, std::string>> query = {}) {
    return run_admin_call(table_, method, path,
                          {.directory = *directory_,
                           .wall = wall_,
                           .actor = actor,
                           .query = std::move(query),
                           .body = parse_json(body).value()});
  }
  const std::vector<AdminEntry> table_ = admin_identity_table();
};

TEST_F(AdminIdentity, TwoTeamsAreSetUpInAFewCalls) {
  ASSERT_TRUE(call(system_, "POST", "/admin/v1/tenants", R"({"id":"bank","labels":{"tier":"1"}})"));
  for (const char* team : {"risk", "desk"})
    ASSERT_TRUE(call(system_, "POST", "/admin/v1/tenants/bank/teams", R"({"id":")" + std::string(team) + R"("})"));
  const auto user = call(system_, "POST", "/admin/v1/users", R"({"id":"ana","tenant":"bank","teams":["risk"]})");
  ASSERT_TRUE(user) << user.error().message;
  EXPECT_EQ((*user)["roles"], Json::array({"user"}));
  ASSERT_TRUE(
      call(system_, "POST", "/admin/v1/services",
           R"({"id":"bot","tenant":"bank","teams":["desk"],"identities":[{"method":"mtls","subject":"CN=bot"}]})"));
  const auto made =
      call(security_, "POST", "/admin/v1/keys", R"({"principal":"ana","name":"laptop","expires_in_s":3600})");
  ASSERT_TRUE(made) << made.error().message;
  EXPECT_TRUE((*made)["key"].get<std::string>().starts_with("rk_" + (*made)["id"].get<std::string>() + "_"));
  EXPECT_EQ((*made)["state"], "active");

  const auto shown = call(security_, "GET", "/admin/v1/keys/" + (*made)["id"].get<std::string>());
  ASSERT_TRUE(shown);
  EXPECT_FALSE(shown->contains("key"));  // once
  EXPECT_EQ((*call(system_, "GET", "/admin/v1/keys", "{}", {{"principal", "ana"}}))["data"].size(), 1u);
  EXPECT_EQ((*call(system_, "GET", "/admin/v1/users", "{}", {{"tenant", "bank"}}))["data"].size(), 1u);
  EXPECT_EQ((*call(system_, "GET", "/admin/v1/services", "{}", {{"team", "desk"}}))["data"].size(), 1u);
  EXPECT_EQ((*call(system_, "GET", "/admin/v1/tenants/bank/teams"))["data"].size(), 2u);

  ASSERT_TRUE(call(system_, "PATCH", "/admin/v1/users/ana", R"({"disabled":true})"));
  EXPECT_EQ((*call(system_, "GET", "/admin/v1/keys", "{}", {{"principal", "ana"}}))["data"][0]["state"], "disabled");
  ASSERT_TRUE(call(system_, "DELETE", "/admin/v1/users/ana"));
  EXPECT_EQ(code(call(system_, "GET", "/admin/v1/users/ana")), ErrorCode::not_found);
  EXPECT_EQ(code(call(system_, "GET", "/admin/v1/users/bot")), ErrorCode::not_found);  // a service is no user
  EXPECT_EQ(code(call(system_, "PATCH", "/admin/v1/users/bot", R"({"disabled":true})")), ErrorCode::not_found);
}

TEST_F(AdminIdentity, AChangeLeavesWhatItDoesNotName) {
  ASSERT_TRUE(call(system_, "POST", "/admin/v1/users",
                   R"({"id":"ana","name":"Ana","labels":{"site":"graz","floor":"3"},"identities":
                       [{"method":"mtls","subject":"CN=ana"},{"method":"oidc","issuer":"https://idp","subject":"x1"}]})"));
  const auto changed = call(system_, "PATCH", "/admin/v1/users/ana",
                            R"({"labels":{"floor":null,"desk":"9"},"identities":{"mtls":null}})");
  ASSERT_TRUE(changed) << changed.error().message;
  EXPECT_EQ((*changed)["name"], "Ana");
  EXPECT_EQ((*changed)["labels"].get<Labels>(), (Labels{{"desk", "9"}, {"site", "graz"}}));
  ASSERT_EQ((*changed)["identities"].size(), 1u);
  EXPECT_EQ((*changed)["identities"][0]["subject"], "x1");
  const auto all = call(system_, "PATCH", "/admin/v1/users/ana", R"({"identities":[]})");
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_TRUE((*all)["identities"].empty());
  for (const char* wrong : {R"({"identities":{"key":[]}})", R"({"identities":{"mtls":"CN=x"}})",
                            R"({"identities":"x"})", R"({"identities":{"mtls":["CN=x"]}})", R"({"labels":{"a":true}})"})
    EXPECT_EQ(code(call(system_, "PATCH", "/admin/v1/users/ana", wrong)), ErrorCode::invalid_argument) << wrong;
}

TEST_F(AdminIdentity, AMisspeltFieldIsAnErrorThatNamesIt) {
  const auto misspelt = call(security_, "POST", "/admin/v1/keys", R"({"principal":"first","expires_in":3600})");
  ASSERT_FALSE(misspelt);
  EXPECT_EQ(misspelt.error().param, "expires_in");
  EXPECT_EQ(code(call(security_, "POST", "/admin/v1/keys", R"({"principal":5})")), ErrorCode::invalid_argument);
  EXPECT_EQ(code(call(security_, "POST", "/admin/v1/keys", R"({"principal":"first","scopes":"generate"})")),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code(call(security_, "POST", "/admin/v1/keys")), ErrorCode::invalid_argument);
  EXPECT_EQ(code(call(system_, "POST", "/admin/v1/users", R"({"id":"x","labels":{"a":1}})")),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code(call(system_, "DELETE", "/admin/v1/nothing")), ErrorCode::not_found);
}

TEST_F(AdminIdentity, ListsComeInPages) {
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(call(system_, "POST", "/admin/v1/users", R"({"id":"u)" + std::to_string(i) + R"("})"));
  std::vector<std::string> seen;
  std::string after;
  for (bool more = true; more;) {
    const Json page = *call(system_, "GET", "/admin/v1/users", "{}", {{"limit", "2"}, {"after", after}});
    for (const Json& user : page["data"]) seen.push_back(user["id"]);
    after = seen.back();
    more = page["has_more"];
  }
  EXPECT_THAT(seen, testing::ElementsAre("first", "u0", "u1", "u2", "u3", "u4"));
  for (const char* limit : {"0", "1001", "x", "-1", "1x"})
    EXPECT_FALSE(call(system_, "GET", "/admin/v1/users", "{}", {{"limit", limit}})) << limit;
}

TEST_F(AdminIdentity, AnAdministratorRenewsItsOwnKey) {
  const auto keys =
      call(owner_, "POST", "/admin/v1/administrators", R"({"system":"sys","security":"sec","audit":"aud"})");
  ASSERT_TRUE(keys) << keys.error().message;
  const Actor auditor = key((*keys)["audit"]["key_id"])->who;
  const auto renewed = call(auditor, "POST", "/admin/v1/self/rotate", R"({"overlap_s":0})");
  ASSERT_TRUE(renewed) << renewed.error().message;
  EXPECT_EQ((*renewed)["principal"], "aud");
  EXPECT_FALSE(key((*keys)["audit"]["key_id"])->valid_at(wall_.now_s()));
  EXPECT_EQ((*call(auditor, "GET", "/admin/v1/self"))["roles"], Json::array({"audit_admin"}));
  EXPECT_FALSE(call(owner_, "POST", "/admin/v1/self/rotate"));
}

TEST_F(AdminIdentity, EveryRouteIsForTheAdminListenerWithAnActionThatPoliciesKnow) {
  std::vector<Route> routes;
  add_admin_identity_routes(*directory_, wall_, routes);
  EXPECT_EQ(routes.size(), table_.size());
  EXPECT_TRUE(check_rules(routes));
  for (const Route& route : routes) {
    EXPECT_EQ(route.rule->listener, RouteListener::admin) << route.path;
    EXPECT_NE(find_action(route.rule->action), nullptr) << route.path;
    const bool changes = route.method != "GET";
    EXPECT_EQ(route.rule->action == "read_system", !changes || route.path == "/admin/v1/self/rotate") << route.path;
  }
}

class Everything final : public Authority {
 public:
  Verdict decide(const Principal&, const AccessQuestion&) const override { return Verdict::permitted; }
  Status still_valid(const Principal&) const override { return ok(); }
  uint64_t version() const override { return 0; }
};

TEST_F(AdminIdentity, ARequestIsItsPermitsPrincipalsAndNeverTheOwners) {
  std::vector<Route> routes;
  add_admin_identity_routes(*directory_, wall_, routes);
  const auto appoint =
      std::ranges::find_if(routes, [](const Route& route) { return route.path == "/admin/v1/administrators"; });
  const auto ask = [&](std::shared_ptr<Permit> permit) {
    auto request = std::make_shared<HttpRequest>();
    request->method = "POST";
    request->body = R"({"system":"a","security":"b","audit":"c"})";
    request->permit = std::move(permit);
    const auto writer = std::make_shared<RecordingWriter>();
    appoint->handler(request, writer);
    return writer->status();
  };
  EXPECT_EQ(ask(nullptr), 401);
  EXPECT_EQ(ask(std::make_shared<Permit>(system_, std::make_shared<Everything>())), 403);
  EXPECT_TRUE(directory_->snapshot()->principals.find("a") == directory_->snapshot()->principals.end());
  PrincipalPtr appointer;
  const auto there = directory_->snapshot();
  for (const auto& [id, key] : there->keys) {
    if (key->who != nullptr && key->who->kind == PrincipalKind::appointer) appointer = key->who;
  }
  EXPECT_EQ(ask(std::make_shared<Permit>(appointer, std::make_shared<Everything>())), 200);
}

}  // namespace
}  // namespace redoubt
