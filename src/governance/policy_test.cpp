#include "governance/policy.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "governance/default_policies.h"
#include "governance/policy_actions.h"
#include "governance/policy_authority.h"

namespace redoubt {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Principal person(std::string id, std::vector<std::string> roles, std::string tenant = "acme") {
  Principal principal;
  principal.id = std::move(id);
  principal.tenant = std::move(tenant);
  principal.teams = {"research"};
  principal.roles = std::move(roles);
  principal.auth_method = "api_key";
  return principal;
}

std::unique_ptr<PolicyEngine> engine_of(std::string text, const Json& entities = Json::array()) {
  auto engine = PolicyEngine::with_text(std::move(text), entities);
  EXPECT_TRUE(engine) << engine.error().message;
  return std::move(*engine);
}

Decision ask(const PolicyEngine& engine, const Principal& who, std::string_view action, std::string_view kind = "Model",
             std::string_view id = "r1", const PolicyContext& context = {}) {
  return engine.decide(AuthorizationRequest(who, action, kind, id, context));
}

TEST(Policy, WhatNoPolicyPermitsIsDenied) {
  const auto engine = engine_of("");
  const Decision decision = ask(*engine, person("alice", {"user"}), "generate");
  EXPECT_FALSE(decision.allowed);
  EXPECT_FALSE(decision.forbidden());
  EXPECT_THAT(decision.reason_ids(), IsEmpty());
}

TEST(Policy, AForbidWinsOverAnyPermit) {
  const auto engine = engine_of(R"(
    @id("all") permit (principal, action, resource);
    @id("not-bob") forbid (principal == Redoubt::User::"bob", action, resource);)");
  EXPECT_THAT(ask(*engine, person("alice", {}), "generate").reason_ids(), ElementsAre("all"));
  const Decision bob = ask(*engine, person("bob", {}), "generate");
  EXPECT_TRUE(bob.forbidden());
  EXPECT_THAT(bob.reason_ids(), ElementsAre("not-bob"));
}

TEST(Policy, APolicyThatCannotBeEvaluatedHasNoSayAndIsReported) {
  const auto engine = engine_of(R"(
    @id("all") permit (principal, action, resource);
    @id("broken") forbid (principal, action, resource)
    when { context.purpose == "play" };)");
  const Decision decision = ask(*engine, person("alice", {}), "generate");
  EXPECT_TRUE(decision.allowed);
  EXPECT_THAT(decision.error_texts(),
              ElementsAre("policy \"broken\": line 4, column 20: there is no attribute \"purpose\""));
}

TEST(Policy, ConditionsReadTheContext) {
  const auto engine = engine_of(R"(
    permit (principal in Redoubt::Team::"acme/research", action == Redoubt::Action::"generate", resource)
    when {
      context.source_ip.isInRange(ip("10.0.0.0/8")) && context.purpose == "triage" &&
      context.now.toTime() < duration("18h") && context.budget_left > 100
    };)");
  PolicyContext context{.now_ms = 9 * 3'600'000, .source_ip = "10.1.2.3", .purpose = "triage", .budget_left = 101};
  EXPECT_TRUE(ask(*engine, person("alice", {}), "generate", "Model", "r1", context).allowed);
  context.source_ip = "11.1.2.3";
  EXPECT_FALSE(ask(*engine, person("alice", {}), "generate", "Model", "r1", context).allowed);
  context.source_ip = "10.1.2.3";
  context.now_ms = 19 * 3'600'000;
  EXPECT_FALSE(ask(*engine, person("alice", {}), "generate", "Model", "r1", context).allowed);
  context.now_ms = 0;
  context.budget_left = 100;
  EXPECT_FALSE(ask(*engine, person("alice", {}), "generate", "Model", "r1", context).allowed);
}

TEST(Policy, TheDefaultTextLetsUsersWorkWithModelsAndNothingElse) {
  const auto engine = engine_of(std::string(default_policy_text()));
  const Principal user = person("alice", {"user"});
  for (const ActionEntry& action : action_table()) {
    EXPECT_EQ(ask(*engine, user, action.name).allowed, action.name == "use" || action.group == "use") << action.name;
  }
  EXPECT_FALSE(ask(*engine, person("nobody", {}), "generate").allowed);
}

TEST(Policy, AModelOfOneTenantIsDeniedToOthers) {
  const Json models = Json::parse(R"([{"uid": {"type": "Redoubt::Model", "id": "secret"},
      "attrs": {"tenant": {"__entity": {"type": "Redoubt::Tenant", "id": "acme"}}}}])");
  const auto engine = engine_of(std::string(default_policy_text()), models);
  EXPECT_TRUE(ask(*engine, person("alice", {"user"}, "acme"), "generate", "Model", "secret").allowed);
  EXPECT_TRUE(ask(*engine, person("eve", {"user"}, "other"), "generate", "Model", "secret").forbidden());
  EXPECT_TRUE(ask(*engine, person("eve", {"user"}, "other"), "generate", "Model", "r1").allowed);
}

// A policy that reads an attribute of another kind would fail, and a forbid that fails forbids nothing.
TEST(Policy, ATenantThatIsNoneIsRefusedWhereModelsAreDescribed) {
  const Json models =
      Json::parse(R"([{"uid": {"type": "Redoubt::Model", "id": "secret"}, "attrs": {"tenant": "acme"}}])");
  const auto engine = PolicyEngine::with_text(std::string(default_policy_text()), models);
  ASSERT_FALSE(engine);
  EXPECT_EQ(engine.error().message,
            "entities: Redoubt::Model::\"secret\": tenant: expected an entity of type Redoubt::Tenant, "
            "found \"acme\"");
}

TEST(Policy, ATeamThatIsNamedTwiceIsOneTeam) {
  const auto engine = engine_of("permit (principal in Redoubt::Team::\"acme/research\", action, resource);");
  Principal who = person("alice", {});
  who.teams = {"research", "research"};
  EXPECT_TRUE(ask(*engine, who, "generate").allowed);
}

// No set of roles may do the parts of two administrators, whatever the text says.
TEST(Policy, NoPrincipalCanChangePoliciesAndSilenceTheAudit) {
  for (const std::string& text :
       {std::string(default_policy_text()), std::string("permit (principal, action, resource);")}) {
    const auto engine = engine_of(text);
    const std::vector<std::string> roles{"system_admin", "security_admin", "audit_admin", "user"};
    for (unsigned held = 0; held < 1u << roles.size(); ++held) {
      for (const PrincipalKind kind :
           {PrincipalKind::user, PrincipalKind::service, PrincipalKind::appointer, PrincipalKind::open}) {
        Principal who = person("x", {});
        who.kind = kind;
        for (size_t i = 0; i < roles.size(); ++i) {
          if ((held >> i & 1) != 0) who.roles.push_back(roles[i]);
        }
        const auto may = [&](std::string_view action) { return ask(*engine, who, action, "Route", "x").allowed; };
        const bool system = may("manage_users") || may("manage_nodes") || may("manage_models");
        const bool security = may("manage_policies") || may("manage_keys") || may("manage_limits");
        const bool audit = may("manage_audit") || may("read_audit") || may("export_audit");
        EXPECT_LE(system + security + audit, 1) << "roles " << held << " by " << text.substr(0, 40);
        EXPECT_TRUE(!may("appoint_administrators") || kind == PrincipalKind::appointer);
      }
    }
  }
}

// Who writes policies takes the audit from nobody who has that role, and gives it to nobody else.
TEST(Policy, NoTextTakesTheAuditFromTheAuditAdministrator) {
  const std::vector<std::string> texts{
      "",
      "forbid (principal, action, resource);",
      "permit (principal, action, resource); forbid (principal in Redoubt::Role::\"audit_admin\", action, resource);",
      "forbid (principal == Redoubt::User::\"ann\", action in Redoubt::Action::\"administer_audit\", resource);",
      "forbid (principal, action in [Redoubt::Action::\"read_audit\", Redoubt::Action::\"export_audit\", "
      "Redoubt::Action::\"manage_audit\"], resource);",
      "forbid (principal, action, resource is Redoubt::Route);",
      "forbid (principal, action, resource == Redoubt::Route::\"GET /admin/v1/audit\");",
      "forbid (principal, action, resource) when { context.now > datetime(\"2026-01-01\") };",
      "forbid (principal, action, resource) unless { context.source_ip == ip(\"10.0.0.1\") };",
      "forbid (principal, action, resource) unless { context has purpose };"};
  const PolicyContext context{.now_ms = 1'790'000'000'000, .source_ip = "192.0.2.1"};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text);
    const auto engine = engine_of(text);
    for (const char* action : {"read_audit", "export_audit", "manage_audit"}) {
      const auto may = [&](const std::vector<std::string>& roles) {
        return ask(*engine, person("ann", roles), action, "Route", "GET /admin/v1/audit", context).allowed;
      };
      EXPECT_TRUE(may({"audit_admin"})) << action;
      EXPECT_TRUE(may({"audit_admin", "user"})) << action;
      EXPECT_FALSE(may({"audit_admin", "security_admin"})) << action;
      EXPECT_FALSE(may({"security_admin"})) << action;
      EXPECT_FALSE(may({"user"})) << action;
    }
    const Decision decision = ask(*engine, person("ann", {"audit_admin"}), "read_audit", "Route", "x", context);
    EXPECT_TRUE(decision.guarded);
    EXPECT_THAT(decision.reason_ids(), ElementsAre("guard: no text takes the audit from the audit administrator"));
  }
}

TEST(Policy, APermitsQuestionIsAnsweredByPoliciesAndTakenBackWithThem) {
  const std::string text = R"(permit (principal, action == Redoubt::Action::"set_priority", resource)
    when { context.priority <= 3 && context.source_ip.isInRange(ip("10.0.0.0/8")) && context.purpose == "12" };
    forbid (principal == Redoubt::User::"bob", action, resource);)";
  const std::shared_ptr<PolicyEngine> engine = engine_of(text);
  const ManualWallClock clock;
  bool fresh = true;
  uint64_t principals = 1;
  const PolicyAuthority authority(engine, {.version = [&] { return principals; }}, clock, [&] { return fresh; });
  AccessQuestion question{.action = "set_priority",
                          .resource_kind = "Model",
                          .resource_id = "r1",
                          .context = {{"priority", "3"}, {"source_ip", "10.1.1.1"}, {"purpose", "12"}}};
  EXPECT_EQ(authority.decide(person("alice", {}), question), Verdict::permitted);
  EXPECT_EQ(authority.decide(person("bob", {}), question), Verdict::forbidden);
  question.context["priority"] = "4";
  EXPECT_EQ(authority.decide(person("alice", {}), question), Verdict::not_permitted);
  question.context["priority"] = "3";
  fresh = false;
  EXPECT_EQ(authority.decide(person("alice", {}), question), Verdict::unknown);
  EXPECT_EQ(authority.still_valid(person("alice", {})).error().code, ErrorCode::unavailable);
  const uint64_t before = authority.version();
  principals = 2;
  EXPECT_NE(authority.version(), before);
  principals = 1;
  ASSERT_TRUE(engine->replace("", 2));
  EXPECT_NE(authority.version(), before);
}

TEST(Policy, AnErrorInATextSaysWhereAndLeavesTheOldPolicies) {
  const auto engine = engine_of("permit (principal, action, resource);");
  const Status status = engine->replace("permit (principal, action, resource)\nwhen { context. };", 2);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "line 2, column 17: expected an attribute or method, found '}'");
  EXPECT_EQ(engine->version(), 1u);
  EXPECT_TRUE(ask(*engine, person("alice", {}), "generate").allowed);
}

struct Answers {
  size_t determined = 0, failed = 0;  // policies, over all questions
  size_t looked_at = 0;               // of the index's
};

// That what the index finds decides as all policies do, one after the other.
class FoundPolicies : public testing::Test {
 protected:
  int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }
  template <class... Options>
  auto one_of(Options... options) {
    const std::array all{options...};
    return all[static_cast<size_t>(pick(static_cast<int>(all.size())))];
  }

  // `asked`: whose labels, and what the context says.
  Answers decide(std::string text, int questions, const std::function<void(Principal&, PolicyContext&)>& asked) {
    const auto engine = engine_of(std::move(text));
    const auto snapshot = engine->snapshot();
    PolicyIndex index;
    for (uint32_t i = 0; i < snapshot->policies->policies().size(); ++i) index.add(i, snapshot->policies->program());
    Answers answers;
    for (int i = 0; i < questions; ++i) {
      Principal who = person("alice", {"user"});
      PolicyContext context;
      asked(who, context);
      const AuthorizationRequest question(who, "generate", "Model", "r1", context);
      cedar::Request request = question.request();
      request.far = snapshot->entities.get();
      const PolicyVerdict by_index = snapshot->policies->decide(request);
      const PolicyVerdict by_all = snapshot->policies->decide_one_by_one(request);
      EXPECT_EQ(by_index.allowed, by_all.allowed);
      EXPECT_EQ(by_index.determining, by_all.determining);
      EXPECT_EQ(failed(by_index), failed(by_all));
      std::vector<uint32_t> found;
      index.find(ResolvedRequest(request), {}, found);
      answers.looked_at += found.size();
      answers.determined += by_all.determining.size();
      answers.failed += by_all.errors.size();
    }
    return answers;
  }

 private:
  static std::vector<uint32_t> failed(const PolicyVerdict& verdict) {
    std::vector<uint32_t> policies;
    for (const PolicyError& error : verdict.errors) policies.push_back(error.policy);
    return policies;
  }

  std::mt19937 random_{7};
};

// Ranges of all lengths, of both families, with and without a guard, and of what is no address.
TEST_F(FoundPolicies, ByAddressDecideAsAllOfThemDo) {
  const auto v4 = [&] { return fmt::format("10.{}.{}.{}", pick(3), pick(4) * 64, pick(256)); };
  const auto v6 = [&] { return fmt::format("fd00:{:x}:0:{:x}::{:x}", pick(2), pick(3), pick(4)); };
  std::string text;
  for (int i = 0; i < 600; ++i) {
    const std::string range =
        pick(3) > 0 ? fmt::format("{}/{}", v4(), pick(33)) : fmt::format("{}/{}", v6(), pick(129));
    const char* path = i % 10 == 0 ? "principal.labels.site" : "context.source_ip";
    text += fmt::format("{} (principal, action, resource) when {{ {}{}.isInRange(ip(\"{}\")) }};\n",
                        one_of("permit", "permit", "permit", "forbid"),
                        one_of("", "context has source_ip && ", "", "principal.labels has site && "), path, range);
  }
  const Answers answers = decide(text, 400, [&](Principal& who, PolicyContext& context) {
    if (pick(3) == 0) who.labels["site"] = "10.0.0.1";  // a text, no address
    context.source_ip = one_of(v4(), v6(), std::string(), std::string("10.0.0.1"));
  });
  EXPECT_LT(answers.looked_at, 400u * 600 * 7 / 10);  // some begin with another condition, or fail and must say so
  EXPECT_GT(answers.determined, 1000u);
  EXPECT_GT(answers.failed, 1000u);
}

// Stars anywhere or nowhere, stars that mean themselves, empty patterns, characters of several bytes, a beginning that
// many share; of texts, of none, of very long ones, and of what is no text.
TEST_F(FoundPolicies, ByPatternDecideAsAllOfThemDo) {
  const auto parts = [&](int most, const std::function<std::string()>& part) {
    std::string out = one_of("", "", "https://bank.example/");
    for (int i = pick(most); i > 0; --i) out += part();
    return out;
  };
  const auto letters = [&] {
    return std::string(one_of("a", "b", "ab", "ba", "é", "ö", "\xE4\xBD\xA0", "x1y2z3w4v5"));
  };
  const auto pattern_part = [&] { return pick(3) == 0 ? std::string(one_of("*", "*", "**", "\\*")) : letters(); };
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    const char* path = one_of("context.purpose", "context.purpose", "principal.labels.site", "principal.labels.site",
                              "context.now", "principal.tenant", "resource.label");
    text += fmt::format("{} (principal, action, resource) when {{ {}{} like \"{}\" }};\n",
                        one_of("permit", "permit", "permit", "forbid"),
                        one_of("", "", "context has purpose && ", "principal has labels.site && ",
                               "principal has labels && principal.labels has site && "),
                        path, parts(7, pattern_part));
  }
  const Answers answers = decide(text, 400, [&](Principal& who, PolicyContext& context) {
    const auto value = [&] { return parts(9, [&] { return pick(5) == 0 ? std::string("*") : letters(); }); };
    if (pick(3) > 0) who.labels["site"] = value();
    if (pick(20) == 0) who.labels["site"] += std::string(5000, 'a') + "b";
    if (pick(3) > 0) context.purpose = value();
  });
  EXPECT_LT(answers.looked_at, 400u * 1000 * 85 / 100);  // half fail at each question, or at many, and must say so
  EXPECT_GT(answers.determined, 1000u);
  EXPECT_GT(answers.failed, 1000u);
}

// All four orders, the constant on either side, at the ends of the numbers too, of three kinds that do not mix.
TEST_F(FoundPolicies, ByOrderDecideAsAllOfThemDo) {
  const auto number = [&] {
    return std::string(one_of("-9223372036854775808", "9223372036854775807", "-1", "0", "1", "2", "3", "5", "8"));
  };
  std::string text;
  for (int i = 0; i < 600; ++i) {
    const bool is_time = pick(2) == 0;
    const std::string path = is_time ? "context.now" : "context.budget_left";
    const std::string constant = pick(9) == 0   ? fmt::format("duration(\"{}ms\")", pick(9))
                                 : is_time      ? fmt::format("datetime(\"1970-01-01T00:00:00.00{}Z\")", pick(9))
                                 : pick(9) == 0 ? "datetime(\"1970-01-01\")"
                                                : number();
    const char* order = one_of("<", "<=", ">", ">=");
    const bool turned = pick(3) == 0;
    text += fmt::format("{} (principal, action, resource) when {{ {}{} {} {} }};\n",
                        one_of("permit", "permit", "permit", "forbid"),
                        one_of("", "context has budget_left && ", "context has now && "), turned ? constant : path,
                        order, turned ? path : constant);
  }
  const Answers answers = decide(text, 400, [&](Principal&, PolicyContext& context) {
    context.now_ms = pick(10);
    if (pick(4) > 0) context.budget_left = one_of(int64_t{0}, int64_t{1}, int64_t{4}, int64_t{8}, INT64_MAX);
  });
  EXPECT_LT(answers.looked_at, 400u * 600 * 8 / 10);
  EXPECT_GT(answers.determined, 1000u);
  EXPECT_GT(answers.failed, 1000u);
}

TEST(Policy, DecisionsGoOnWhilePoliciesAreReplaced) {
  const auto engine = engine_of("permit (principal, action, resource);");
  std::atomic<bool> stop{false};
  std::atomic<int> mixed{0}, asked{0};
  std::vector<std::thread> askers;
  for (int i = 0; i < 4; ++i) {
    askers.emplace_back([&] {
      const Principal who = person("alice", {"user"});
      while (!stop) {
        const Decision decision = ask(*engine, who, "generate");
        if (decision.allowed != (decision.by->version % 2 == 1)) ++mixed;
        ++asked;
      }
    });
  }
  for (uint64_t version = 2; version < 300 || asked < 100; ++version) {
    ASSERT_TRUE(engine->replace(version % 2 == 1 ? "permit (principal, action, resource);" : "", version));
  }
  stop = true;
  for (std::thread& asker : askers) asker.join();
  EXPECT_EQ(mixed, 0);
}

}  // namespace
}  // namespace redoubt
