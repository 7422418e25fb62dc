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
      one_of<4>(random, {"resource", "resource == Redoubt::Model::\"r1\"", "resource is Redoubt::Model",
                         "resource is Redoubt::Dataset in Redoubt::Tenant::\"a\""}));
  const std::string body =
      one_of<9>(random, {"", "when { context.purpose == \"triage\" }",
                         "when { resource has label && resource.label == \"open\" }", "unless { context has purpose }",
                         "when { principal has nothing } when { context.budget_left > 10 }",
                         "when { context has budget_left && context.budget_left > 10 && resource has label }",
                         "when { resource.label == \"open\" }",
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

TEST(PolicyCheck, PointsAtNamesThatMeanNobody) {
  const auto by =
      snapshot_of(R"(permit (principal in Redoubt::Team::"research", action == Action::"generate", resource);
permit (principal, action in [Redoubt::Action::"genrate"], resource)
when { principal is User && context.source_ip.isInRange(ip("10.0.0/8")) };)");
  EXPECT_THAT(
      policy_warnings(*by->policies),
      ElementsAre("line 1, column 1: a team is named with its tenant, \"default/research\"",
                  "line 1, column 1: Action is no type here; Redoubt::Action is",
                  "line 2, column 1: there is no action \"genrate\"",
                  "line 3, column 18: User is no type here; Redoubt::User is",
                  "line 3, column 57: the text is not one of this type: the policy fails wherever this is evaluated"));
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
