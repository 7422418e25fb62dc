#include "governance/policy_types.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "governance/policy.h"
#include "governance/policy_check.h"

namespace redoubt {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> warnings_of(const std::string& conditions) {
  const auto set = PolicySet::parse("permit (principal, action, resource)\n" + conditions + ";");
  EXPECT_TRUE(set) << set.error().message;
  return policy_warnings(**set);
}

TEST(PolicyTypes, WhatNeverFitsIsWarnedOf) {
  const std::string never = ": the policy never applies";
  EXPECT_THAT(warnings_of("when { context.now < \"2026\" }"),
              ElementsAre("line 2, column 22: expected long or datetime or duration, found string" + never));
  EXPECT_THAT(warnings_of("when { principal.id < 3 }"),
              ElementsAre("line 2, column 18: expected long or datetime or duration, found string" + never));
  EXPECT_THAT(warnings_of("when { context.now < 3 }"),
              ElementsAre("line 2, column 20: datetime and long have no order" + never));
  EXPECT_THAT(warnings_of("when { context.source_ip.isInRange(\"10.0.0.0/8\") }"),
              ElementsAre("line 2, column 36: expected ipaddr, found string" + never));
  EXPECT_THAT(warnings_of("when { context.source_ip == \"10.0.0.1\" }"),
              ElementsAre("line 2, column 26: ipaddr and string are never equal" + never));
  EXPECT_THAT(warnings_of("when { 1 == 1 && \"x\" }"),
              ElementsAre("line 2, column 18: expected bool, found string" + never));
  EXPECT_THAT(warnings_of("when { !\"text\" }"), ElementsAre("line 2, column 9: expected bool, found string" + never));
  EXPECT_THAT(warnings_of("unless { principal.tenant }"),
              ElementsAre("line 2, column 20: expected bool, found entity" + never));
  EXPECT_THAT(warnings_of("when { principal.labels.x < datetime(\"2026-01-01\") }"),
              ElementsAre("line 2, column 25: expected long or datetime or duration, found string" + never));
  EXPECT_THAT(warnings_of("when { principal.tenant.labels.x + 1 == 2 }"),
              ElementsAre("line 2, column 32: expected long, found string" + never));
  EXPECT_THAT(warnings_of("when { principal in \"acme/research\" }"),
              ElementsAre("line 2, column 21: expected entity or set, found string" + never));
  EXPECT_THAT(warnings_of("when { principal in [principal, \"x\"] }"),
              ElementsAre("line 2, column 33: expected entity, found string" + never));
  EXPECT_THAT(warnings_of("when { principal in [Redoubt::User::\"a\", 3] }"),
              ElementsAre("line 2, column 21: expected a set of entities, found long in it" + never));
  EXPECT_THAT(warnings_of("when { context.now.toTime() > context.now }"),
              ElementsAre("line 2, column 29: duration and datetime have no order" + never));
  EXPECT_THAT(warnings_of("when { context.purpose.contains(\"a\") }"),
              ElementsAre("line 2, column 16: expected set, found string" + never));
}

TEST(PolicyTypes, WhatIsWithinRecordsAndSetsIsKnown) {
  const std::string never = ": the policy never applies";
  EXPECT_THAT(warnings_of("when { {a: 1}.a == \"x\" }"),
              ElementsAre("line 2, column 17: long and string are never equal" + never));
  EXPECT_THAT(warnings_of("when { {a: {b: principal}}.a.b == \"x\" }"),
              ElementsAre(testing::EndsWith("entity and string are never equal" + never)));
  EXPECT_THAT(warnings_of("when { {a: {b: 1}}.a.b == \"x\" }"),
              ElementsAre(testing::EndsWith("long and string are never equal" + never)));
  EXPECT_THAT(warnings_of("when { [1, 2].contains(\"a\") }"),
              ElementsAre(testing::EndsWith("a set of long contains no string" + never)));
  EXPECT_THAT(warnings_of("when { [[1], [2]].contains(1) }"),
              ElementsAre(testing::EndsWith("a set of set contains no long" + never)));
  EXPECT_THAT(warnings_of("when { [principal].containsAny([\"a\"]) }"),
              ElementsAre(testing::EndsWith("a set of entity contains no string" + never)));
  EXPECT_THAT(warnings_of("when { {} == [] }"),
              ElementsAre(testing::EndsWith("record and set are never equal" + never)));
  EXPECT_THAT(warnings_of("when { context has purpose || 1 == \"a\" }"),
              ElementsAre(testing::EndsWith("long and string are never equal")));
}

TEST(PolicyTypes, WhatNoPrincipalOrResourceIs) {
  const std::string never = ": the policy never applies";
  EXPECT_THAT(warnings_of("when { principal is Redoubt::Model }"),
              ElementsAre("line 2, column 18: no principal is a Redoubt::Model" + never));
  EXPECT_THAT(warnings_of("when { resource is Redoubt::User in Redoubt::Team::\"acme/x\" }"),
              ElementsAre(testing::EndsWith("no resource is a Redoubt::User" + never)));
  EXPECT_THAT(warnings_of("when { Redoubt::Team::\"acme/x\" == principal }"),
              ElementsAre(testing::EndsWith("no principal is a Redoubt::Team" + never)));
  EXPECT_THAT(warnings_of("when { principal == resource }"),
              ElementsAre(testing::EndsWith("principal and resource are never equal" + never)));
  const auto set = PolicySet::parse("permit (principal is Redoubt::Model, action, resource == Redoubt::User::\"a\");");
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_THAT(policy_warnings(**set), ElementsAre("line 1, column 1: no principal is a Redoubt::Model" + never,
                                                  "line 1, column 1: no resource is a Redoubt::User" + never));
}

TEST(PolicyTypes, WhereItIsReachedByChanceItFailsWhereItIsEvaluated) {
  const std::string reached = ": the policy fails wherever this is evaluated";
  EXPECT_THAT(warnings_of("when { context has purpose || context.now < 3 }"),
              ElementsAre("line 2, column 43: datetime and long have no order" + reached));
  EXPECT_THAT(warnings_of("when { context has purpose && context.now < 3 }"),
              ElementsAre("line 2, column 43: datetime and long have no order: the policy never applies"));
  EXPECT_THAT(warnings_of("when { if context has purpose then context.purpose > 1 else true }"),
              ElementsAre("line 2, column 44: expected long or datetime or duration, found string" + reached));
}

TEST(PolicyTypes, WhatMayFitIsNot) {
  for (const char* fits :
       {"when { context.now < datetime(\"2026-01-01\") && context.now.toTime() < duration(\"18h\") }",
        "when { resource.size < 3 && resource.label < datetime(\"2026-01-01\") }", "when { context.scope == 3 }",
        "when { principal.tenant == resource.tenant || [1] == [] }",
        "when { {a: context.purpose}.a == \"x\" && [principal, resource].contains(resource.owner) }",
        "when { [].containsAll([1]) || [1].containsAll([]) || [1, \"a\"].contains(context.purpose) }",
        "when { resource is Redoubt::Dataset || principal == Redoubt::Service::\"s\" || resource.owner == principal }",
        "when { principal in [resource, resource.owner] || principal in resource.readers }",
        "when { context.priority + 1 <= 3 && context.budget_left > -1 && 3 - 1 < 2 }",
        "when { principal.labels.site like \"10.*\" && ip(principal.labels.site).isInRange(ip(\"10.0.0.0/8\")) }",
        "when { (if resource has big then context.now else resource.since) < datetime(\"2026-01-01\") }",
        "when { true == false || resource.getTag(principal.id) > 3 }",
        "when { principal is Redoubt::User in Redoubt::Team::\"acme/x\" && principal.labels has site }"})
    EXPECT_THAT(warnings_of(fits), IsEmpty()) << fits;
}

// Every expression of random policies, most of them of kinds that never fit, over random requests of a server: where it
// can be evaluated, its value is of a kind that was told.
class RandomPolicies : public testing::Test {
 protected:
  size_t pick(size_t below) { return random_() % below; }
  std::string one_of(const std::vector<std::string>& options) { return options[pick(options.size())]; }
  std::string expression(int depth);
  std::string text_of_policy() {
    return "permit (principal, action, resource) when { " + expression(4) + " }\n" +
           (pick(3) == 0 ? "unless { " + expression(3) + " }" : "") + ";\n";
  }

 private:
  std::mt19937 random_{11};
};

std::string RandomPolicies::expression(int depth) {
  if (depth == 0 || pick(6) == 0) {
    return one_of({"true",
                   "false",
                   "1",
                   "-3",
                   "\"x\"",
                   "\"10.0.0.1\"",
                   "principal",
                   "action",
                   "resource",
                   "context",
                   "ip(\"10.0.0.0/8\")",
                   "ip(\"nowhere\")",
                   "datetime(\"2026-01-01\")",
                   "duration(\"1h\")",
                   "decimal(\"1.5\")",
                   "[]",
                   "[1, \"a\"]",
                   "[principal]",
                   "{\"a\": 1}",
                   "{\"a\": {\"a\": \"x\"}}[\"a\"]",
                   "Redoubt::Model::\"m\"",
                   "principal.id",
                   "principal.labels",
                   "principal.tenant",
                   "principal.tenant.labels",
                   "principal.labels.site",
                   "principal.kind",
                   "context.now",
                   "context.source_ip",
                   "context.purpose",
                   "context.budget_left",
                   "context.priority",
                   "context.stage",
                   "context.auth_method",
                   "context.other",
                   "resource.tenant",
                   "resource.label",
                   "Redoubt::Role::\"user\""});
  }
  const auto e = [&] { return "(" + expression(depth - 1) + ")"; };
  switch (pick(14)) {
    case 0:
      return e() + one_of({" && ", " || "}) + e() + one_of({"", " && " + e(), " || " + e()});
    case 1:
      return one_of({"!", "-"}) + e();
    case 2:
      return "if " + e() + " then " + e() + " else " + e();
    case 3:
    case 4:
      return e() + one_of({" == ", " != "}) + e();
    case 5:
    case 6:
      return e() + one_of({" < ", " <= ", " > ", " >= "}) + e();
    case 7:
      return e() + one_of({" + ", " - ", " * "}) + e();
    case 8:
      return e() + " in " + one_of({e(), "[" + e() + ", " + e() + "]", "[principal, 1]"});
    case 9:
      return e() + one_of({" is Redoubt::User", " is Redoubt::Model", " is Redoubt::Role in " + e(),
                           " is Redoubt::User in " + e(), " like \"1*\"", " has site", " has a.b"});
    case 10:
      return e() +
             one_of({".contains", ".containsAll", ".containsAny", ".isInRange", ".lessThan", ".offset",
                     ".durationSince", ".hasTag", ".getTag"}) +
             e();
    case 11:
      return e() + one_of({".isEmpty()", ".isIpv4()", ".toDate()", ".toTime()", ".toHours()", ".isLoopback()"});
    case 12:
      return one_of({"[" + e() + ", " + e() + "]", "{\"a\": " + e() + "}", "ip" + e(), "datetime" + e()});
    default:
      return e() + one_of({".site", ".labels", ".tenant", ".id", "[\"a\"]", ".now"});
  }
}

TEST_F(RandomPolicies, HaveValuesOfTheKindsThatWereTold) {
  const Json entities = Json::parse(R"([{"uid": {"type": "Redoubt::Model", "id": "m"}, "tags": {"x": 1},
      "attrs": {"label": "x", "tenant": {"__entity": {"type": "Redoubt::Tenant", "id": "acme"}}}}])");
  size_t values = 0, told = 0, always = 0;
  for (int round = 0; round < 400; ++round) {
    std::string text;
    for (int i = 0; i < 20; ++i) text += text_of_policy();
    const auto snapshot = make_policy_snapshot(text, entities, 1);
    ASSERT_TRUE(snapshot) << snapshot.error().message << "\n" << text;
    const PolicySet& set = *(*snapshot)->policies;
    const PolicyTypes types = types_of(set.program(), Vocabulary::served);
    const PolicyTypes without = types_of(set.program(), Vocabulary::any);
    for (const Kinds kinds : types.kinds) told += kinds.empty() ? 1 : 0;
    for (int asked = 0; asked < 4; ++asked) {
      Principal who{.id = one_of({"x", "ann"}), .tenant = "acme", .roles = {"user"}};
      who.kind = pick(2) == 0 ? PrincipalKind::user : PrincipalKind::service;
      if (pick(2) == 0) who.labels["site"] = one_of({"x", "10.0.0.1"});
      if (pick(2) == 0) who.tenant_labels["site"] = "x";
      PolicyContext context{.now_ms = static_cast<int64_t>(pick(3)) * 900'000'000'000, .auth_method = "api_key"};
      if (pick(2) == 0) context.source_ip = "10.0.0.1";
      if (pick(2) == 0) context.purpose = "x";
      if (pick(2) == 0) context.stage = "x";
      if (pick(2) == 0) context.budget_left = 1;
      if (pick(2) == 0) context.numbers["priority"] = 1;
      if (pick(2) == 0) context.strings["other"] = "x";
      const AuthorizationRequest question(who, "generate", "Model", one_of({"m", "r1"}), context);
      cedar::Request request = question.request();
      request.far = (*snapshot)->entities.get();
      for (uint32_t node = 0; node < set.program().nodes.size(); ++node) {
        cedar::Arena arena;
        cedar::Evaluator evaluator(set.program(), request, arena);
        cedar::Value value;
        if (!evaluator.evaluate(node, value)) continue;
        ++values;
        ASSERT_TRUE(types.kinds[node].meets(Kinds::of(value)))
            << text << "line " << set.place_of_node(node).line << ", column " << set.place_of_node(node).column;
        ASSERT_TRUE(without.kinds[node].meets(Kinds::of(value)));
      }
      const PolicyVerdict verdict = set.decide_one_by_one(request);
      for (const uint32_t policy : verdict.determining)
        ASSERT_FALSE(types.never_applies(set.policies()[policy])) << text;
    }
    for (const cedar::Policy& policy : set.policies()) always += types.never_applies(policy) ? 1 : 0;
  }
  EXPECT_GT(values, 100'000u);
  EXPECT_GT(told, 10'000u);
  EXPECT_GT(always, 1000u);
}

}  // namespace
}  // namespace redoubt
