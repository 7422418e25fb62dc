#include "governance/policy_expectations.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "governance/policy_actions.h"
#include "governance/policy_explain.h"

namespace redoubt {
namespace {

std::string listed(const std::vector<std::string>& ids) {
  std::string out;
  for (const std::string& id : ids) out += (out.empty() ? "" : ", ") + cedar::in_quotes(id);
  return out.empty() ? "no policy" : out;
}

Result<ExpectationResult> run_one(const std::shared_ptr<const PolicySnapshot>& by, const Json& test, std::string name) {
  for (const auto& [key, unused] : test.items()) {
    constexpr std::array kKnown{"name", "principal", "action", "resource", "context", "expect", "by"};
    if (std::find(kKnown.begin(), kKnown.end(), key) == kKnown.end()) {
      return invalid(fmt::format("expected name, principal, action, resource, context, expect, by, found {}",
                                 cedar::in_quotes(key)));
    }
  }
  if (!test.contains("expect") || (test["expect"] != "allow" && test["expect"] != "deny")) {
    return invalid("expect: expected allow or deny");
  }
  REDOUBT_TRY(const AuthorizationRequest request, request_from_json(test));
  cedar::Arena arena;
  const Decision decision = decide_as_served(by, with_stage(*by, request.request(), arena));
  const bool allow = test["expect"] == "allow";
  ExpectationResult result{
      .name = std::move(name), .passed = decision.allowed == allow, .expected = allow ? "allow" : "deny"};
  if (test.contains("by")) {
    if (!test["by"].is_array()) return invalid("by: expected a list of policies' ids");
    std::vector<std::string> wanted, found = decision.reason_ids();
    for (const Json& id : test["by"]) {
      if (!id.is_string()) return invalid("by: expected a list of policies' ids");
      wanted.push_back(id.get<std::string>());
    }
    result.expected += " by " + listed(wanted);
    std::sort(wanted.begin(), wanted.end());
    std::sort(found.begin(), found.end());
    result.passed = result.passed && wanted == found;
  }
  result.found = explain(by, request.request()).why;
  return result;
}

}  // namespace

Result<std::vector<ExpectationResult>> run_expectations(const PolicySnapshot& given, const Json& file) {
  if (!file.is_object() || !file.contains("tests") || !file["tests"].is_array()) {
    return invalid("expected an object with a list of tests");
  }
  for (const auto& [key, unused] : file.items()) {
    if (key != "tests" && key != "entities") {
      return invalid(fmt::format("expected entities, tests, found {}", cedar::in_quotes(key)));
    }
  }
  auto by = std::make_shared<PolicySnapshot>(given);
  if (file.contains("entities")) {
    REDOUBT_TRY(by->entities, shared_entities(file["entities"]));
    by->stages.clear();
  }
  std::vector<ExpectationResult> results;
  for (size_t i = 0; i < file["tests"].size(); ++i) {
    const Json& test = file["tests"][i];
    std::string name = fmt::format("tests[{}]", i);
    if (!test.is_object()) return invalid(name + ": expected an object");
    if (test.contains("name") && test["name"].is_string()) name = test["name"].get<std::string>();
    auto result = run_one(by, test, name);
    if (!result) return std::move(result).error().within(name);
    results.push_back(*std::move(result));
  }
  return results;
}

Json to_json(const std::vector<ExpectationResult>& results) {
  Json list = Json::array();
  for (const ExpectationResult& result : results) {
    list.push_back(
        {{"name", result.name}, {"passed", result.passed}, {"expected", result.expected}, {"found", result.found}});
  }
  return list;
}

}  // namespace redoubt
