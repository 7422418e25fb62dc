#include "server/admin_policies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "governance/cedar_extensions.h"
#include "governance/default_policies.h"
#include "governance/directory_fixture.h"
#include "governance/permit.h"
#include "governance/policy_authority.h"
#include "server/gate.h"
#include "server/routes_fixture.h"
#include "test_database.h"

namespace redoubt {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class AdminPolicies : public test::DirectoryFixture {
 protected:
  void SetUp() override {
    test::DirectoryFixture::SetUp();
    const Json labelled = {{"uid", {{"type", "Redoubt::Model"}, {"id", "r1"}}}, {"attrs", {{"label", "patient-data"}}}};
    auto store = PolicyStore::open(*database_, {}, clock_, wall_,
                                   {.node = "n", .entities = Json::array({labelled}), .stages = {{"r1", "pilot"}}}, 0);
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::move(*store);
    permits_ = std::make_unique<PermitRegister>(
        std::make_shared<PolicyAuthority>(store_->engine(), PrincipalCheck{}, wall_), PermitRegister::Options());
    serve({});
  }
  void serve(WaysIn ways) {
    routes_.clear();
    add_policy_routes(*store_, *directory_, std::move(ways), routes_);
    EXPECT_TRUE(check_rules(routes_));
  }
  // Status and body.
  std::pair<int, Json> call(const std::string& method, const std::string& path, const Json& body = nullptr,
                            const std::string& id = "") {
    for (const Route& route : routes_) {
      if (route.method != method || route.path != path) continue;
      auto request = std::make_shared<HttpRequest>();
      request->method = method;
      request->path = path;
      if (!body.is_null()) request->body = body.dump();
      if (!id.empty()) request->path_params["id"] = id;
      request->remote_address = from_;
      if (asks_ != nullptr) request->permit = permits_->issue(asks_);
      auto writer = std::make_shared<RecordingWriter>();
      route.handler(request, writer);
      return {writer->status(), Json::parse(writer->body())};
    }
    ADD_FAILURE() << "no route " << method << " " << path;
    return {0, nullptr};
  }
  std::unique_ptr<PolicyStore> store_;
  std::vector<Route> routes_;
  PrincipalPtr asks_;  // null: nobody was asked for a key
  std::string from_ = "127.0.0.1";
  std::unique_ptr<PermitRegister> permits_;
};

TEST_F(AdminPolicies, ADryRunSaysWhatWouldChangeAndChangesNothing) {
  const Json change = {{"text", "permit (principal, action == Redoubt::Action::\"generte\", resource);"},
                       {"dry_run", true}};
  const auto [status, body] = call("PUT", "/admin/v1/policies", change);
  EXPECT_EQ(status, 200);
  EXPECT_THAT(body["warnings"], SizeIs(2)) << "the action that is none, and that it permits her nothing either";
  EXPECT_GT(body["changed_cells"], 0);
  EXPECT_EQ(body["version"], 1);
  EXPECT_EQ(call("GET", "/admin/v1/policies").second["text"], default_policy_text());
  // Misspelt, it must not be a change.
  const auto [refused, error] = call("PUT", "/admin/v1/policies", {{"text", change["text"]}, {"dryrun", true}});
  EXPECT_EQ(refused, 400);
  EXPECT_EQ(error["error"]["param"], "dryrun");
  EXPECT_EQ(call("GET", "/admin/v1/policies").second["text"], default_policy_text());
}

TEST_F(AdminPolicies, AChangeHoldsAndIsRemembered) {
  const std::string text = "@id(\"all\") permit (principal, action, resource);";
  const auto [status, body] =
      call("PUT", "/admin/v1/policies", {{"text", text}, {"note", "open day"}, {"expected_version", 1}});
  EXPECT_EQ(status, 200);
  EXPECT_EQ(body["version"], 2);
  EXPECT_EQ(call("GET", "/admin/v1/policies").second["note"], "open day");
  EXPECT_THAT(call("GET", "/admin/v1/policies/versions").second["versions"], SizeIs(2));
  EXPECT_EQ(call("GET", "/admin/v1/policies/versions/{id}", nullptr, "1").second["text"], default_policy_text());
  EXPECT_EQ(call("GET", "/admin/v1/policies/versions/{id}", nullptr, "7").first, 404);
  EXPECT_EQ(call("GET", "/admin/v1/policies/versions/{id}", nullptr, "x").first, 404);
  EXPECT_EQ(call("PUT", "/admin/v1/policies", {{"text", text}, {"expected_version", 1}}).first, 409);
  const Json asked = {{"principal", {{"id", "first"}}}, {"action", "generate"}, {"resource", "Redoubt::Model::\"m\""}};
  EXPECT_EQ(call("POST", "/admin/v1/policies/explain", asked).second["why"], "allowed by \"all\"");
}

// Who is nothing but an id is whom the directory has under it, and the model's stage is the configuration's.
TEST_F(AdminPolicies, AnExplanationKnowsWhatTheServerKnows) {
  const auto explained = [&](const Json& principal, const Json& context = Json::object()) {
    return call("POST", "/admin/v1/policies/explain",
                {{"principal", principal},
                 {"action", "generate"},
                 {"resource", "Redoubt::Model::\"r1\""},
                 {"context", context}});
  };
  EXPECT_EQ(explained({{"id", "first"}}).second["decision"], "allow");
  EXPECT_EQ(explained({{"id", "first"}, {"roles", Json::array()}}).second["decision"], "deny") << "as it is said";
  EXPECT_EQ(explained({{"id", "nobody"}}).first, 404);
  const std::string forbid =
      "@id(\"pilots\") forbid (principal, action, resource) when { context has stage && context.stage == \"pilot\" && "
      "!(context has purpose && context.purpose == \"trial\") };";
  ASSERT_TRUE(store_->change({.text = std::string(default_policy_text()) + forbid, .author = "sue"}));
  EXPECT_EQ(explained({{"id", "first"}}).second["why"], "denied: forbidden by \"pilots\"");
  EXPECT_EQ(explained({{"id", "first"}}, {{"stage", "open"}}).second["not_known"], Json::array({"purpose"}));
}

TEST_F(AdminPolicies, WhatIsWrongIsSaidWithItsPlace) {
  const auto [status, body] = call("PUT", "/admin/v1/policies", {{"text", "permit (principal, action, resource"}});
  EXPECT_EQ(status, 400);
  EXPECT_THAT(body["error"]["message"].get<std::string>(), HasSubstr("line 1, column 36"));
  EXPECT_EQ(call("PUT", "/admin/v1/policies", Json::object()).first, 400);
  EXPECT_EQ(call("POST", "/admin/v1/policies/explain", {{"action", "x"}}).first, 400);
}

TEST_F(AdminPolicies, TheMatrixAndTestsAreComputedFromWhatHolds) {
  const auto [status, body] = call("GET", "/admin/v1/policies/matrix");
  EXPECT_EQ(status, 200);
  bool seen = false;
  for (const Json& cell : body["cells"]) {
    if (cell["principal"] != "in Redoubt::Role::\"user\"" || cell["action"] != "generate") continue;
    if (cell["resource"] != "any other Redoubt::Model") continue;
    EXPECT_EQ(cell["access"], "allowed");
    seen = true;
  }
  EXPECT_TRUE(seen);
  const Json tests = {{"tests", Json::array({{{"principal", {{"id", "a"}, {"roles", Json::array({"user"})}}},
                                              {"action", "generate"},
                                              {"resource", "Redoubt::Model::\"m\""},
                                              {"expect", "deny"}}})}};
  const auto [tested, results] = call("POST", "/admin/v1/policies/test", tests);
  EXPECT_EQ(tested, 200);
  EXPECT_EQ(results["passed"], false);
}

TEST_F(AdminPolicies, WhomTheDirectoryDescribesIsNotDescribedBeside) {
  for (const char* type : {"User", "Role", "Team", "Tenant"}) {
    const Json uid = {{"type", std::string("Redoubt::") + type}, {"id", "x"}};
    const Json change = {{"text", default_policy_text()},
                         {"entities", Json::array({{{"uid", uid}, {"attrs", Json::object()}}})}};
    const auto [status, body] = call("PUT", "/admin/v1/policies", change);
    EXPECT_EQ(status, 400) << type;
    EXPECT_EQ(body["error"]["param"], "entities") << type;
  }
}

TEST_F(AdminPolicies, WhoDecidesLocksHerselfOutOnlyWithAWordOfHerOwn) {
  ASSERT_TRUE(directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"}));
  const auto put = [&](const std::string& text, const Json& more = Json::object()) {
    Json body = {{"text", text}};
    body.update(more);
    return call("PUT", "/admin/v1/policies", body);
  };
  const std::string everything = "permit (principal, action, resource);\n";
  for (const std::string& text :
       {std::string("forbid (principal, action, resource);"), std::string(),
        everything + "forbid (principal == Redoubt::User::\"sue\", action, resource);",
        everything + "forbid (principal, action, resource == Redoubt::Route::\"PUT /admin/v1/policies\");",
        std::string("permit (principal == Redoubt::User::\"first\", action, resource);")}) {
    SCOPED_TRACE(text);
    const auto [tried, said] = put(text, {{"dry_run", true}});
    EXPECT_EQ(tried, 200);
    ASSERT_FALSE(said["warnings"].empty());
    EXPECT_THAT(said["warnings"][0].get<std::string>(), HasSubstr("no security administrator could change policies"));
    const auto [refused, error] = put(text);
    EXPECT_EQ(refused, 400);
    EXPECT_EQ(error["error"]["param"], "allow_lockout");
    EXPECT_EQ(call("GET", "/admin/v1/policies").second["text"], default_policy_text());
  }
  for (const std::string& text :
       {everything, everything + "forbid (principal, action, resource) when { context.priority > 3 };",
        std::string("permit (principal == Redoubt::User::\"sue\", action, resource);"),
        everything +
            "forbid (principal, action, resource) unless { context.source_ip.isInRange(ip(\"10.0.0.0/8\")) };"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(put(text).first, 200) << "she still may, from somewhere";
  }
  EXPECT_EQ(put("", {{"allow_lockout", true}}).first, 200);
}

TEST_F(AdminPolicies, ConditionsThatWouldNotLetHerBackInAreALockOut) {
  ASSERT_TRUE(directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"}));
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "sue", .name = "k"}));
  asks_ = directory_->snapshot()->principal("sue", "");
  ASSERT_NE(asks_, nullptr);
  const auto put_text = [&](const std::string& text, bool dry_run = false) {
    return call("PUT", "/admin/v1/policies", {{"text", text}, {"dry_run", dry_run}});
  };
  const auto put = [&](const std::string& condition, bool dry_run = false) {
    return put_text("permit (principal, action, resource) when { " + condition + " };", dry_run);
  };
  const std::string inside = R"(context.source_ip.isInRange(ip("10.0.0.0/8")))";
  for (const std::string& condition :
       {std::string(R"(principal.tenant == Redoubt::Tenant::"ta")"),
        std::string(R"(context.now < datetime("2020-01-01"))"), std::string(R"(context.now < "2026-01-01")"),
        std::string("context has budget_left"), inside}) {
    SCOPED_TRACE(condition);
    const auto [refused, error] = put(condition);
    EXPECT_EQ(refused, 400);
    EXPECT_EQ(error["error"]["param"], "allow_lockout");
    EXPECT_THAT(put(condition, true).second["warnings"][0].get<std::string>(), HasSubstr("could not change policies"));
  }
  const auto [refused, error] = put(R"(context.now < datetime("2099-01-01"))");
  EXPECT_EQ(refused, 400);
  EXPECT_THAT(error["error"]["message"].get<std::string>(), HasSubstr("any more once a time that they name has come"));
  const auto [refused_for_long, unused] = put(R"(context.now < datetime("2026-01-01").offset(duration("1d")) ||
                                               context.now > datetime("2110-01-01"))");
  EXPECT_EQ(refused_for_long, 400);
  // A time that begins and ends between those that are looked at whatever the policies say.
  constexpr int64_t kDayMs = 86'400'000;
  const auto date = [&](int64_t day) {
    return "datetime(\"" + cedar::datetime_text(wall_.now_ms() + day * kDayMs) + "\")";
  };
  const auto but_from_day_to_day = [&](int64_t from, int64_t to) {
    return "context.now < " + date(from) + " || context.now > " + date(to);
  };
  for (const auto& [from, to] : {std::pair(8, 29), std::pair(38, 364), std::pair(373, 3652), std::pair(3661, 36524)})
    EXPECT_EQ(put(but_from_day_to_day(from, to)).first, 400) << from << " to " << to;
  const std::string since = "context.now.durationSince(" + date(0) + ")";
  EXPECT_EQ(put(since + " < duration(\"38d\") || " + since + " > duration(\"364d\")").first, 400);
  EXPECT_EQ(put(but_from_day_to_day(8, 10)).first, 200) << "some days are no lock-out";
  std::string many = "context.now > datetime(\"2020-01-01\")";
  for (int64_t day = 0; day < 600; ++day) many += " || " + but_from_day_to_day(day, day);
  EXPECT_EQ(put(many).first, 400) << "too many to be sure";
  const std::string days = since + ".toDays()";
  EXPECT_EQ(put(days + " <= 40 || " + days + " >= 270").first, 400);
  EXPECT_EQ(put(days + " < 40 || " + days + " > 43").first, 200) << "some days";
  EXPECT_EQ(put(days + " < 30 + 30 || " + days + " > 50 * 2").first, 400) << "times that are computed";
  EXPECT_EQ(put("context.now.toDate() <= " + date(373) + " || context.now.toDate() >= " + date(3652)).first, 400);
  // Those of policies that are for others tell nothing of her, and those of one say nothing of another's spans.
  std::string of_others;
  for (int64_t day = 1; day <= 600; ++day)
    of_others += "permit (principal == Redoubt::User::\"guest\", action, resource) when { " +
                 but_from_day_to_day(day, day + 1) + " };\n";
  for (int64_t day = 1; day <= 200; ++day)
    of_others += "forbid (principal, action, resource) when { context.purpose == \"audit\" && !(" +
                 but_from_day_to_day(day, day) + ") };\n";
  const std::string hours = "context.now.toTime() >= duration(\"0h\") && context.now.toTime() < duration(\"25h\")";
  EXPECT_EQ(put_text(of_others + "permit (principal, action, resource) when { " + hours + " };").first, 200);
  const std::string now_of_day = "context.now.toTime()";
  EXPECT_EQ(put(now_of_day + R"( >= duration("0h") && context.now > datetime("2020-01-01"))").first, 200);
  EXPECT_EQ(put(R"(principal.tenant == Redoubt::Tenant::"default")").first, 200);
  from_ = "10.1.2.3";
  EXPECT_EQ(put(inside).first, 200) << "as she comes now, she may";
}

TEST_F(AdminPolicies, AnotherWhoCannotComeInIsNobodyToRelyOn) {
  ASSERT_TRUE(directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"}));
  ASSERT_TRUE(directory_->create_principal(
      nullptr, {.id = "eve", .fields = {.roles = std::vector<std::string>{std::string(kSecurityAdmin)}}}));
  asks_ = directory_->snapshot()->principal("sue", "");
  const auto put = [&] {
    const auto [status, body] =
        call("PUT", "/admin/v1/policies",
             {{"text", "permit (principal == Redoubt::User::\"eve\", action, resource);"}, {"dry_run", false}});
    EXPECT_EQ(status == 400, body.contains("error") && body["error"]["param"] == "allow_lockout");
    return status;
  };
  EXPECT_EQ(put(), 400) << "she has no key";
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "eve", .name = "k", .scopes = {"generate"}}));
  EXPECT_EQ(put(), 400) << "which opens no administration";
  const auto key = directory_->create_key(nullptr, {.principal = "eve", .name = "k", .expires_in_s = 60});
  ASSERT_TRUE(key);
  ASSERT_TRUE(directory_->revoke_key(nullptr, key->id));
  EXPECT_EQ(put(), 400);
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "eve", .name = "k", .expires_in_s = 60}));
  EXPECT_EQ(put(), 400) << "it ends in a minute";
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "eve", .name = "k", .scopes = {"admin"}}));
  EXPECT_EQ(put(), 200);
}

TEST_F(AdminPolicies, WhoseOwnKeyEndsSoonIsNobodyToRelyOnEither) {
  ASSERT_TRUE(directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"}));
  const auto before = directory_->snapshot();
  for (const auto& [id, key] : before->keys) {
    if (key->principal != "sue") continue;
    EXPECT_TRUE(directory_->revoke_key(nullptr, id));
  }
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "sue", .name = "k", .expires_in_s = 60}));
  asks_ = directory_->snapshot()->principal("sue", "api_key");
  const auto put = [&] {
    return call("PUT", "/admin/v1/policies",
                {{"text", "permit (principal == Redoubt::User::\"sue\", action, resource);"}});
  };
  const auto [refused, error] = put();
  ASSERT_EQ(refused, 400);
  EXPECT_THAT(error["error"]["message"].get<std::string>(), HasSubstr("ends within 30 days"));
  ASSERT_TRUE(directory_->create_key(nullptr, {.principal = "sue", .name = "k"}));
  EXPECT_EQ(put().first, 200) << "she has another";
}

TEST_F(AdminPolicies, AWayThatIsNotConfiguredBringsNobodyIn) {
  ASSERT_TRUE(directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"}));
  const std::vector<std::string> roles{std::string(kSecurityAdmin)};
  const std::pair<ExternalIdentity, WaysIn> ways[] = {
      {{"mtls", "", "CN=eve"}, {.certificates = true}},
      {{"oidc", "https://idp.example", "eve"}, {.issuers = {"https://idp.example"}}}};
  asks_ = directory_->snapshot()->principal("sue", "");
  for (const auto& [identity, way] : ways) {
    const std::string eve = "eve-" + identity.method;
    ASSERT_TRUE(
        directory_->create_principal(nullptr, {.id = eve, .fields = {.roles = roles, .identities = {{identity}}}}));
    const Json change = {{"text", "permit (principal == Redoubt::User::\"" + eve + "\", action, resource);"},
                         {"dry_run", true}};
    const auto warned = [&](WaysIn configured) {
      serve(std::move(configured));
      return !call("PUT", "/admin/v1/policies", change).second["warnings"].empty();
    };
    EXPECT_TRUE(warned({}));
    EXPECT_TRUE(warned({.issuers = {"https://other.example"}}));
    EXPECT_FALSE(warned(way));
  }
}

// A security administrator's change, through the API, and the auditor's request at the real gate after it.
TEST_F(AdminPolicies, NoChangeTakesTheAuditFromTheAuditor) {
  const Principal ann{.id = "ann", .tenant = "default", .roles = {std::string(kAuditAdmin)}};
  PermitRegister permits(std::make_shared<PolicyAuthority>(store_->engine(), PrincipalCheck{}, wall_), {});
  const auto status_of_auditor = [&](const std::string& action) {
    Route route{.method = "GET", .path = "/admin/v1/audit", .rule = admin_rule(action)};
    const auto entered = enter_route(permits.issue(std::make_shared<Principal>(ann)), HttpRequest{}, &route);
    const auto* refusal = std::get_if<ApiError>(&entered);
    return refusal == nullptr ? 200 : refusal->status;
  };
  for (const char* forbid :
       {"forbid (principal, action, resource);",
        "forbid (principal in Redoubt::Role::\"audit_admin\", action, resource);",
        "forbid (principal, action in Redoubt::Action::\"administer_audit\", resource);",
        "forbid (principal, action, resource is Redoubt::Route);",
        "forbid (principal, action, resource) when { context.now >= datetime(\"1970-01-01\") };"}) {
    SCOPED_TRACE(forbid);
    const Json change = {{"text", std::string(default_policy_text()) + forbid}, {"allow_lockout", true}};
    EXPECT_EQ(call("PUT", "/admin/v1/policies", change).first, 200);
    for (const char* action : {"read_audit", "export_audit", "manage_audit"})
      EXPECT_EQ(status_of_auditor(action), 200) << action;
    EXPECT_EQ(status_of_auditor("manage_policies"), 403);
  }
}

}  // namespace
}  // namespace redoubt
