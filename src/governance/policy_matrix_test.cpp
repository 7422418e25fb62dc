// The matrix against brute force: every cell asked as a request, in many contexts, of policies made at random.
#include "governance/policy_matrix.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "core/mapped_file.h"
#include "governance/default_policies.h"
#include "governance/policy_actions.h"
#include "governance/policy_check.h"
#include "governance/policy_expectations.h"
#include "governance/policy_explain.h"
#include "governance/policy_guarded.h"

namespace redoubt {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Random = std::mt19937;

std::shared_ptr<const PolicySnapshot> snapshot_of(std::string text, const Json& entities = Json::array()) {
  auto made = make_policy_snapshot(std::move(text), entities, 7);
  EXPECT_TRUE(made) << made.error().message;
  return *made;
}

template <size_t N>
std::string one_of(Random& random, const std::array<const char*, N>& choices) {
  return choices[random() % N];
}

std::string random_policy(Random& random) {
  const std::string head = fmt::format(
      "{} ({}, {}, {})", one_of<3>(random, {"permit", "permit", "forbid"}),
      one_of<6>(random, {"principal", "principal == Redoubt::User::\"alice\"", "principal in Redoubt::Team::\"a/t\"",
                         "principal in Redoubt::Role::\"user\"", "principal is Redoubt::Service",
                         "principal in Redoubt::Role::\"security_admin\""}),
      one_of<4>(random, {"action", "action in Redoubt::Action::\"use\"", "action == Redoubt::Action::\"generate\"",
                         "action in [Redoubt::Action::\"shape\", Redoubt::Action::\"manage_policies\"]"}),
      one_of<5>(random, {"resource", "resource == Redoubt::Model::\"r1\"", "resource is Redoubt::Model",
                         "resource is Redoubt::Route", "resource is Redoubt::Dataset in Redoubt::Tenant::\"a\""}));
  const std::string body = one_of<13>(
      random, {"", "when { context has purpose && context.purpose == \"triage\" }",
               "when { principal has nothing && principal.nothing == 1 }", "when { context.purpose == \"triage\" }",
               "when { resource has label && resource.label == \"open\" }", "unless { context has purpose }",
               "when { principal has nothing } when { context.budget_left > 10 }",
               "when { context has budget_left && context.budget_left > 10 && resource has label }",
               "when { resource.label == \"open\" }", "unless { resource has label && resource.label == \"open\" }",
               "unless { resource is Redoubt::Route }",
               "when { principal in Redoubt::Team::\"a/t\" } unless { context.budget_left < 50 }",
               "when { context.purpose like \"tri*\" || resource == Redoubt::Model::\"r1\" }"});
  return head + " " + body + ";\n";
}

const Json& described() {
  static const Json kEntities = Json::parse(R"([
    {"uid": {"type": "Redoubt::Model", "id": "r1"}, "attrs": {"label": "open"}},
    {"uid": {"type": "Redoubt::Dataset", "id": "d"}, "attrs": {"label": 3}, "parents": [{"type": "Redoubt::Tenant", "id": "a"}]},
    {"uid": {"type": "Redoubt::User", "id": "bob"}, "parents": [{"type": "Redoubt::Role", "id": "user"}]}])");
  return kEntities;
}

const std::vector<Json>& contexts() {
  static const std::vector<Json> kContexts{Json::object(),
                                           {{"purpose", "triage"}},
                                           {{"purpose", "play"}, {"budget_left", 100}},
                                           {{"budget_left", 5}},
                                           {{"budget_left", 20}, {"purpose", "trial"}},
                                           {{"purpose", 3}, {"budget_left", "x"}}};
  return kContexts;
}

// A cell asked as a request, without the index.
bool asked(const PolicySnapshot& by, const MatrixAxis::Principal& who, const std::string& action,
           const MatrixAxis::Resource& resource, const cedar::RecordValue* context,
           const cedar::RecordValue* attributes = nullptr) {
  cedar::Entities own;
  std::vector<cedar::EntityName> parents;
  for (const auto& [type, id] : who.parents) parents.push_back(cedar::entity_name(type, id));
  own.add(cedar::entity_name(who.type, who.id), attributes, nullptr, parents);
  EXPECT_TRUE(own.close());
  cedar::Request request{.principal = cedar::entity_name(who.type, who.id),
                         .action = cedar::entity_name("Redoubt::Action", action),
                         .resource = cedar::entity_name(resource.type, resource.id),
                         .context = context,
                         .near = by.entities->find(cedar::entity_name(who.type, who.id)) != nullptr ? nullptr : &own,
                         .far = by.entities.get()};
  const PolicyVerdict guard = by.guards->decide_one_by_one(request);
  if (!guard.determining.empty() || !guard.errors.empty()) return guard.allowed && guard.errors.empty();
  cedar::Arena arena;
  if (const auto route = route_request(request, arena)) {
    const PolicyVerdict first = by.policies->decide_one_by_one(*route, true);
    if (!first.allowed && !first.determining.empty()) return false;
  }
  return by.policies->decide_one_by_one(request).allowed;
}

TEST(PolicyMatrix, EveryCellIsWhatTheRequestsSay) {
  Random random(5);
  cedar::Arena arena;
  std::vector<const cedar::RecordValue*> records;
  for (const Json& context : contexts()) records.push_back(cedar::value_from_json(context, arena)->record);
  const auto* something = cedar::value_from_json({{"nothing", 1}}, arena)->record;
  int cells = 0, dependent = 0;
  for (int round = 0; round < 30; ++round) {
    std::string text;
    for (int i = 0; i < 1 + static_cast<int>(random() % 8); ++i) text += random_policy(random);
    SCOPED_TRACE(text);
    const auto by = snapshot_of(text, described());
    const MatrixAxis axis = axis_of(*by);
    const auto general = compute_matrix(by, axis);
    ASSERT_TRUE(general);
    for (const cedar::RecordValue* context : records) {
      const auto particular = compute_matrix(by, axis, context);
      ASSERT_TRUE(particular);
      for (size_t p = 0; p < axis.principals.size(); ++p) {
        for (size_t a = 0; a < axis.actions.size(); ++a) {
          for (size_t r = 0; r < axis.resources.size(); ++r) {
            const bool allowed = asked(*by, axis.principals[p], axis.actions[a], axis.resources[r], context);
            const std::string where =
                axis.principals[p].label + ", " + axis.actions[a] + ", " + axis.resources[r].label;
            ASSERT_EQ(particular->at(p, a, r) == Access::allowed, allowed) << where;
            ASSERT_NE(particular->at(p, a, r), Access::depends) << where;
            const Access access = general->at(p, a, r);
            ++cells;
            dependent += access == Access::depends;
            if (access == Access::depends) continue;
            ASSERT_EQ(access == Access::allowed, allowed) << where;
            const bool otherwise =
                asked(*by, axis.principals[p], axis.actions[a], axis.resources[r], context, something);
            ASSERT_EQ(access == Access::allowed, otherwise) << where;
          }
        }
      }
    }
  }
  EXPECT_GT(cells, 10'000);
  EXPECT_GT(dependent, 100);
  EXPECT_LT(dependent, cells / 2);
}

TEST(PolicyMatrix, ADifferenceIsTheCellsThatChange) {
  const auto before = snapshot_of(std::string(default_policy_text()));
  const auto after = snapshot_of(std::string(default_policy_text()) + R"(
    permit (principal in Redoubt::Team::"acme/press", action == Redoubt::Action::"set_priority", resource == Redoubt::Model::"r1")
    when { context.purpose == "deadline" };)");
  const auto found = changes(before, after);
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().principal, "in Redoubt::Team::\"acme/press\"");
  EXPECT_EQ(found->front().action, "set_priority");
  EXPECT_EQ(found->front().resource, "Redoubt::Model::\"r1\"");
  EXPECT_EQ(found->front().before, Access::denied);
  EXPECT_EQ(found->front().after, Access::depends);
  EXPECT_TRUE(changes(before, before)->empty());
}

TEST(PolicyMatrix, AddingAForbidNeverWidens) {
  Random random(11);
  cedar::Arena arena;
  for (int round = 0; round < 40; ++round) {
    std::string text;
    for (int i = 0; i < 6; ++i) text += random_policy(random);
    std::string forbid = random_policy(random);
    forbid.replace(0, forbid.find(' '), "forbid");
    const auto narrow = snapshot_of(text + forbid, described()), wide = snapshot_of(text, described());
    const MatrixAxis axis = joined(axis_of(*narrow), axis_of(*wide));
    for (const Json& context : contexts()) {
      const auto* record = cedar::value_from_json(context, arena)->record;
      const auto fewer = compute_matrix(narrow, axis, record), more = compute_matrix(wide, axis, record);
      for (size_t i = 0; i < axis.cells(); ++i) {
        ASSERT_FALSE(fewer->cells[i] == Access::allowed && more->cells[i] != Access::allowed) << text << forbid;
      }
    }
  }
}

struct OfMatrix {
  std::vector<Access> cells;
  bool allows(size_t cell) const { return cells[cell] == Access::allowed; }
};

// What a random text allows, a permit of it allows alone; and nothing that a forbid of it speaks of.
TEST(PolicyMatrix, DenyIsTheDefaultAndAForbidWins) {
  Random random(17);
  cedar::Arena arena;
  int allowed = 0, forbidden = 0;
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> texts(6);
    std::string text;
    for (std::string& one : texts) text += one = random_policy(random);
    const auto whole = snapshot_of(text, described());
    const MatrixAxis axis = axis_of(*whole);
    const auto* record = cedar::value_from_json(contexts()[random() % contexts().size()], arena)->record;
    const auto matrix_of = [&](const std::string& policies) {
      return OfMatrix{compute_matrix(snapshot_of(policies, described()), axis, record)->cells};
    };
    std::vector<OfMatrix> permits, as_permits;  // each permit alone; each forbid, as if it permitted
    for (const std::string& one : texts) {
      const bool is_permit = one.starts_with("permit");
      (is_permit ? permits : as_permits).push_back(matrix_of("permit" + one.substr(one.find(' '))));
    }
    const OfMatrix all = matrix_of(text), guarded = matrix_of("");
    for (size_t cell = 0; cell < axis.cells(); ++cell) {
      if (guarded.allows(cell)) continue;  // the audit administrator's, whatever a text says
      const auto allows = [&](const OfMatrix& one) { return one.allows(cell); };
      const bool is_forbidden = std::ranges::any_of(as_permits, allows);
      ASSERT_FALSE(all.allows(cell) && std::ranges::none_of(permits, allows)) << text;
      ASSERT_FALSE(all.allows(cell) && is_forbidden) << text;
      allowed += all.allows(cell);
      forbidden += is_forbidden && std::ranges::any_of(permits, allows);
    }
  }
  EXPECT_GT(allowed, 100);
  EXPECT_GT(forbidden, 100);
}

// Whatever policies say of one tenant's teams, users and models changes nothing for another's.
TEST(PolicyMatrix, TenantsDoNotInterfere) {
  Random random(13);
  const auto of_tenant = [&](const std::string& tenant) {
    return fmt::format("{} (principal in Redoubt::Tenant::\"{}\", {}, resource) {};\n",
                       one_of<3>(random, {"permit", "permit", "forbid"}), tenant,
                       one_of<2>(random, {"action", "action in Redoubt::Action::\"use\""}),
                       one_of<3>(random, {"", "when { principal.id == \"alice\" }", "unless { context has purpose }"}));
  };
  for (int round = 0; round < 100; ++round) {
    std::string a, b;
    for (int i = 0; i < 3; ++i) a += of_tenant("a"), b += of_tenant("b");
    const auto both = snapshot_of(a + b), alone = snapshot_of(a);
    for (const char* id : {"alice", "bob"}) {
      for (const char* action : {"generate", "set_priority"}) {
        Principal who{.id = id, .tenant = "a"};
        const AuthorizationRequest request(who, action, "Model", "r1", {});
        EXPECT_EQ(decide(both, request.request()).allowed, decide(alone, request.request()).allowed) << a << b;
      }
    }
  }
}

TEST(PolicyExplain, SaysWhatBecameOfEachPolicyThatFits) {
  const auto by = snapshot_of(R"(@id("night")
permit (principal, action, resource)
when { context.now.toTime() > duration("20h") };
@id("team") permit (principal in Redoubt::Team::"a/t", action, resource);
@id("elsewhere") permit (principal == Redoubt::User::"x", action, resource);)");
  const auto request = request_from_json(Json::parse(R"({"principal": {"id": "alice", "tenant": "a", "teams": ["t"]},
      "action": "generate", "resource": "Redoubt::Model::\"r1\"", "context": {"now": "2026-11-25T08:00:00Z"}})"));
  ASSERT_TRUE(request) << request.error().message;
  const Explanation explanation = explain(by, request->request());
  EXPECT_TRUE(explanation.allowed);
  EXPECT_EQ(explanation.why, "allowed by \"team\"");
  ASSERT_EQ(explanation.lines.size(), 2u);
  EXPECT_EQ(explanation.lines[0].policy, "team");
  EXPECT_TRUE(explanation.lines[0].decides);
  EXPECT_EQ(explanation.lines[1].outcome, "not_satisfied");
  EXPECT_THAT(explanation.lines[1].detail, HasSubstr("line 3, column 29"));
}

// Asked in the order in which a server asks: a forbid that reads what only a model has does not bite before.
TEST(PolicyExplain, JudgesAsAServerDoes) {
  const std::string permit = "permit (principal, action, resource);\n";
  const auto why = [&](const std::string& text, const Json& context = Json::object()) {
    const auto request = request_from_json({{"principal", {{"id", "u"}}},
                                            {"action", "generate"},
                                            {"resource", "Redoubt::Model::\"r1\""},
                                            {"context", context}});
    EXPECT_TRUE(request) << request.error().message;
    return explain(snapshot_of(permit + text, described()), request->request()).why;
  };
  EXPECT_EQ(why("forbid (principal, action, resource) unless { resource has label && resource.label == \"open\" };"),
            "allowed by \"policy0\"");
  EXPECT_EQ(why("forbid (principal, action, resource) unless { context has stage && context.stage == \"canary\" };",
                {{"stage", "canary"}}),
            "allowed by \"policy0\"");
  EXPECT_EQ(why("forbid (principal, action, resource) unless { resource has label && resource.label == \"x\" };"),
            "denied: forbidden by \"policy1\"");
  for (const char* on_routes :
       {"forbid (principal, action, resource is Redoubt::Route);",
        "forbid (principal, action, resource) when { resource is Redoubt::Route };",
        "forbid (principal, action == Redoubt::Action::\"generate\", resource is Redoubt::Route) when { true };"}) {
    EXPECT_EQ(why(on_routes), "denied: forbidden by \"policy1\", on every route") << on_routes;
  }
}

TEST(PolicyExplain, NamesWhatIsNotKnownAndMightTurnTheDecision) {
  const auto unknown = [](const std::string& text, const Json& context, ModelStages stages) {
    const auto by = make_policy_snapshot(text, Json::array(), 1, std::move(stages));
    EXPECT_TRUE(by);
    const auto request = request_from_json({{"principal", {{"id", "u"}}},
                                            {"action", "generate"},
                                            {"resource", "Redoubt::Model::\"r1\""},
                                            {"context", context}});
    EXPECT_TRUE(request) << request.error().message;
    return explain(*by, request->request()).not_known;
  };
  using Names = std::vector<std::string>;
  const std::string permit = "permit (principal, action, resource);\n";
  const std::string forbid =
      "forbid (principal, action, resource) when { context has stage && context.stage == \"pilot\" && "
      "!(context has source_ip && context.source_ip.isInRange(ip(\"10.0.0.0/8\"))) };";
  EXPECT_EQ(unknown(permit + forbid, Json::object(), {}), (Names{"source_ip", "stage"}));
  EXPECT_EQ(unknown(permit + forbid, {{"source_ip", "10.1.1.1"}}, {}), Names{"stage"});
  EXPECT_EQ(unknown(permit + forbid, Json::object(), {{"r1", ""}}), Names{"source_ip"}) << "it has no stage";
  EXPECT_EQ(unknown(permit + forbid, Json::object(), {{"r1", "open"}}), Names{"source_ip"});
  EXPECT_EQ(unknown(permit + forbid, Json::object(), {{"r1", "pilot"}}), Names{}) << "forbidden whatever else there is";
  EXPECT_EQ(unknown(permit + "permit (principal, action, resource) when { context.priority > 1 };", Json::object(), {}),
            Names{})
      << "allowed whatever further permits read";
  EXPECT_EQ(unknown("permit (principal, action, resource) when { context.purpose == \"x\" };", Json::object(), {}),
            Names{"purpose"});
  EXPECT_EQ(unknown("permit (principal == Redoubt::User::\"x\", action, resource) when { context.purpose == \"x\" };",
                    Json::object(), {}),
            Names{})
      << "its head fits somebody else";
}

TEST(PolicyCheck, PointsAtNamesThatMeanNobody) {
  const auto by =
      snapshot_of(R"(permit (principal in Redoubt::Team::"research", action == Action::"generate", resource);
permit (principal, action in [Redoubt::Action::"genrate"], resource)
when { principal is User && context.source_ip.isInRange(ip("10.0.0/8")) };)");
  EXPECT_THAT(policy_warnings(*by->policies),
              ElementsAre("line 1, column 1: a team is named with its tenant, \"default/research\"",
                          "line 1, column 1: Action is no type here; Redoubt::Action is",
                          "line 2, column 1: there is no action \"genrate\"",
                          "line 3, column 18: User is no type here; Redoubt::User is",
                          "line 3, column 57: the text is not one of this type: the policy never applies"));
  const auto forbids = snapshot_of(R"(forbid (principal, action, resource)
when { context.purpose == "play" && context.now > datetime("2026-01-01") && resource has label.a && resource.label.a == 1 }
unless { resource.owner == principal };)");
  EXPECT_THAT(
      policy_warnings(*forbids->policies),
      ElementsAre("line 2, column 16: a forbid reads context.purpose without asking `context has purpose` first; "
                  "where that is absent it forbids nothing",
                  "line 3, column 19: a forbid reads resource.owner without asking `resource has owner` first; "
                  "where that is absent it forbids nothing"));
  EXPECT_THAT(policy_warnings(*snapshot_of(std::string(default_policy_text()))->policies), testing::IsEmpty());
  EXPECT_THAT(policy_warnings(*by->guards), testing::IsEmpty());
}

TEST(PolicyCheck, PointsAtRolesThatNobodyHasAndRoutesThatAreNone) {
  const auto by = snapshot_of(R"(permit (principal in Redoubt::Role::"clerk", action, resource);
permit (principal in Redoubt::Role::"usr", action, resource);
permit (principal in Redoubt::Role::"audit_admin", action, resource == Redoubt::Route::"GET /metrics");
permit (principal, action, resource == Redoubt::Route::"/metrics");)");
  KnownNames known{.people = KnownNames::People{.roles = {"clerk"}}};
  EXPECT_THAT(
      policy_warnings(*by->policies, known),
      ElementsAre("line 2, column 1: nobody in the directory has the role \"usr\"; only a provider's group could "
                  "give it",
                  "line 4, column 1: there is no route \"/metrics\": one is named \"GET /metrics\""));
}

TEST(PolicyCheck, PointsAtWhatGuardsDecideWhateverTheTextSays) {
  const auto warnings = [](const std::string& text) {
    const auto by = snapshot_of(text);
    return policy_warnings(*by->policies, {.described = by->entities.get(), .guards = by->guards.get()});
  };
  const std::string changes =
                        "line 1, column 1: it changes nothing: guards alone decide all that it speaks of "
                        "(redoubt policy show --guards)",
                    permits =
                        "line 1, column 1: it permits nothing: guards forbid all that it speaks of "
                        "(redoubt policy show --guards)";
  for (const char* forbid :
       {"forbid (principal, action in Redoubt::Action::\"administer_audit\", resource);",
        "forbid (principal == Redoubt::User::\"ann\", action == Redoubt::Action::\"read_audit\", resource) when { "
        "context has purpose };",
        "forbid (principal in Redoubt::Role::\"audit_admin\", action in [Redoubt::Action::\"manage_audit\", "
        "Redoubt::Action::\"export_audit\"], resource);",
        "permit (principal, action == Redoubt::Action::\"read_audit\", resource);"})
    EXPECT_THAT(warnings(forbid), ElementsAre(changes)) << forbid;
  for (const char* permit :
       {"permit (principal in Redoubt::Role::\"security_admin\", action == Redoubt::Action::\"manage_users\", "
        "resource);",
        "permit (principal is Redoubt::User, action == Redoubt::Action::\"appoint_administrators\", resource);",
        "permit (principal is Redoubt::Appointer, action in Redoubt::Action::\"use\", resource);",
        "permit (principal in Redoubt::Role::\"audit_admin\", action in [Redoubt::Action::\"manage_keys\", "
        "Redoubt::Action::\"manage_nodes\"], resource);"})
    EXPECT_THAT(warnings(permit), ElementsAre(permits)) << permit;
  for (const char* has_effect :
       {"permit (principal, action, resource);", "forbid (principal, action, resource);",
        "permit (principal in Redoubt::Team::\"a/b\", action == Redoubt::Action::\"manage_users\", resource);",
        "forbid (principal in Redoubt::Role::\"audit_admin\", action == Redoubt::Action::\"read_policies\", resource);",
        "permit (principal in Redoubt::Role::\"audit_admin\", action in [Redoubt::Action::\"read_audit\", "
        "Redoubt::Action::\"read_metrics\"], resource);",
        "permit (principal in Redoubt::Role::\"security_admin\", action in Redoubt::Action::\"administer_security\", "
        "resource);",
        "permit (principal is Redoubt::Appointer, action == Redoubt::Action::\"appoint_administrators\", resource);"})
    EXPECT_THAT(warnings(has_effect), testing::IsEmpty()) << has_effect;
  EXPECT_THAT(warnings(std::string(default_policy_text())), testing::IsEmpty());
}

// What is warned of as idle changes no decision: every policy of one head, with and without it.
TEST(PolicyCheck, WhatGuardsDecideIsDecidedWithAndWithoutThePolicy) {
  std::vector<std::string> actions{"action"}, principals{"principal"};
  for (const ActionEntry& action : action_table()) {
    actions.push_back("action == Redoubt::Action::\"" + std::string(action.name) + "\"");
    if (action.group.empty()) actions.push_back("action in Redoubt::Action::\"" + std::string(action.name) + "\"");
  }
  for (const char* role : {"system_admin", "security_admin", "audit_admin", "user"})
    principals.push_back("principal in Redoubt::Role::\"" + std::string(role) + "\"");
  for (const char* type : {"User", "Appointer"}) {
    principals.push_back("principal is Redoubt::" + std::string(type));
    principals.push_back("principal == Redoubt::" + std::string(type) + "::\"x\"");
  }
  const std::array with{snapshot_of(""), snapshot_of("permit (principal, action, resource);")};
  const GuardedActions guarded(*with[0]->guards, *with[0]->entities);
  int idle = 0;
  for (const char* effect : {"permit", "forbid"}) {
    for (const std::string& principal : principals) {
      for (const std::string& action : actions) {
        const std::string text = std::string(effect) + " (" + principal + ", " + action + ", resource);";
        const std::array more{snapshot_of(text), snapshot_of("permit (principal, action, resource);" + text)};
        if (guarded.why_idle(more[0]->policies->policies()[0]).empty()) continue;
        ++idle;
        for (unsigned held = 0; held < 16; ++held) {
          for (const PrincipalKind kind : {PrincipalKind::user, PrincipalKind::appointer}) {
            Principal who{.id = "x", .tenant = "a"};
            who.kind = kind;
            for (unsigned i = 0; i < 4; ++i)
              if ((held >> i & 1) != 0)
                who.roles.emplace_back(std::array{"system_admin", "security_admin", "audit_admin", "user"}[i]);
            for (const ActionEntry& asked : action_table()) {
              const AuthorizationRequest question(who, asked.name, "Route", "GET /x", {});
              for (size_t i = 0; i < 2; ++i)
                ASSERT_EQ(decide(more[i], question.request()).allowed, decide(with[i], question.request()).allowed)
                    << text << " " << asked.name;
            }
          }
        }
      }
    }
  }
  EXPECT_GT(idle, 50);
}

TEST(PolicyExplain, SaysThatThereIsNoSuchAction) {
  const auto request =
      request_from_json({{"principal", {{"id", "u"}}}, {"action", "nosuch"}, {"resource", "Redoubt::Model::\"r1\""}});
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(explain(snapshot_of(std::string(default_policy_text())), request->request()).why,
            "denied: no policy permits it; there is no action \"nosuch\"");
}

TEST(PolicyCheck, PointsAtAttributesThatNothingHas) {
  const auto by = snapshot_of(R"(permit (principal, action, resource)
when { context has purpos && context.purpos == "x" && principal.labels.site == "y" && principal.team == "z" }
when { resource has lable && resource.label == "open" && resource has tenant };)");
  const std::vector<std::string> always{"line 2, column 16: nothing is called context.purpos",
                                        "line 2, column 38: nothing is called context.purpos",
                                        "line 2, column 97: nothing is called principal.team"};
  EXPECT_EQ(policy_warnings(*by->policies), always);
  std::vector<std::string> with_models = always;
  with_models.emplace_back("line 3, column 17: nothing is called resource.lable");
  const auto models = shared_entities(described());
  ASSERT_TRUE(models);
  EXPECT_EQ(policy_warnings(*by->policies, {.described = models->get()}), with_models);
}

TEST(PolicyCheck, PointsAtWhomTheDirectoryDoesNotKnow) {
  const auto by = snapshot_of(R"(permit (principal == Redoubt::User::"alice", action, resource == Redoubt::Model::"r1");
permit (principal == Redoubt::User::"alcie", action, resource == Redoubt::Model::"r2");
permit (principal in Redoubt::Team::"a/t", action, resource)
when { principal in Redoubt::Team::"a/s" || principal in Redoubt::Tenant::"b" || principal == Redoubt::Service::"x" };
permit (principal == Redoubt::User::"corp:7", action, resource);)");
  EXPECT_THAT(policy_warnings(*by->policies), testing::IsEmpty()) << "nothing is known";
  const KnownNames known{.people = KnownNames::People{{"alice"}, {"y"}, {"a/t"}, {"a"}},
                         .models = std::set<std::string>{"r1"}};
  EXPECT_THAT(
      policy_warnings(*by->policies, known),
      ElementsAre(HasSubstr("line 2, column 1: there is no user \"alcie\""),
                  HasSubstr("line 2, column 1: there is no model \"r2\""), HasSubstr("there is no team \"a/s\""),
                  HasSubstr("there is no tenant \"b\""), HasSubstr("there is no service \"x\"")));
}

// docs/policies.md: its example is taken without a warning, and it names every action and type there is.
TEST(PolicyPage, SpeaksOfWhatThereIs) {
  const auto page = read_text_file(REDOUBT_SOURCE_DIR "/docs/policies.md");
  ASSERT_TRUE(page);
  const size_t begin = page->find("@id("), end = page->find("```", begin);
  ASSERT_NE(end, std::string::npos);
  EXPECT_THAT(policy_warnings(*snapshot_of(page->substr(begin, end - begin))->policies), testing::IsEmpty());
  for (const ActionEntry& action : action_table()) EXPECT_THAT(*page, HasSubstr("`" + std::string(action.name) + "`"));
  for (const std::string_view type : entity_types()) {
    EXPECT_THAT(*page, HasSubstr(std::string(type.substr(type.rfind(':') + 1)))) << type;
  }
}

TEST(PolicyExpectations, CompareDecisionAndReasons) {
  const auto by = snapshot_of(std::string(default_policy_text()));
  const Json file = Json::parse(R"({"entities": [{"uid": {"type": "Redoubt::Model", "id": "secret"},
        "attrs": {"tenant": {"__entity": {"type": "Redoubt::Tenant", "id": "a"}}}}],
      "tests": [
        {"name": "users generate", "principal": {"id": "u", "roles": ["user"]}, "action": "generate",
         "resource": "Redoubt::Model::\"r1\"", "expect": "allow", "by": ["users-work-with-models"]},
        {"principal": {"id": "u", "tenant": "b", "roles": ["user"]}, "action": "generate",
         "resource": "Redoubt::Model::\"secret\"", "expect": "allow"}]})");
  const auto results = run_expectations(*by, file);
  ASSERT_TRUE(results) << results.error().message;
  EXPECT_TRUE((*results)[0].passed);
  EXPECT_FALSE((*results)[1].passed);
  EXPECT_EQ((*results)[1].found, "denied: forbidden by \"a-model-of-one-tenant-is-not-another's\"");
  const auto wrong = run_expectations(*by, Json::parse(R"({"tests": [{"name": "n", "expect": "perhaps"}]})"));
  EXPECT_EQ(wrong.error().message, "n: expect: expected allow or deny");
}

}  // namespace
}  // namespace redoubt
