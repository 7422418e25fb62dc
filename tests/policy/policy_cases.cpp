// Decides cases that come on standard input, one JSON object a line, for tests/policy/differential.py:
//   {"policies": "...", "entities": [...], "requests": [{"principal", "action", "resource", "context"}]}
// and answers each with one line: {"results": [{"allowed", "reasons": [0], "errors": [1]}]} by place in the text, or
// {"refused": "line 1, column 2: ..."}. Each request is also decided without the index, and each expression evaluated
// to see that its value is of a kind that policy_types tells; a difference is said.
#include <iostream>
#include <memory>
#include <string>

#include "core/json.h"
#include "governance/policy.h"
#include "governance/policy_types.h"

namespace redoubt {
namespace {

Json numbers(const PolicyVerdict& verdict) {
  Json errors = Json::array();
  for (const PolicyError& error : verdict.errors) errors.push_back(error.policy);
  return {{"allowed", verdict.allowed}, {"reasons", verdict.determining}, {"errors", std::move(errors)}};
}

bool kinds_hold(const PolicySet& set, const PolicyTypes& types, const cedar::Request& request) {
  for (uint32_t node = 0; node < set.program().nodes.size(); ++node) {
    cedar::Arena arena;
    cedar::Value value;
    if (cedar::Evaluator(set.program(), request, arena).evaluate(node, value) &&
        !types.kinds[node].meets(Kinds::of(value)))
      return false;
  }
  return true;
}

Result<Json> decided(const std::string& line) {
  REDOUBT_TRY(const Json json, parse_json(line));
  REDOUBT_TRY(const auto policies, PolicySet::parse(json.at("policies").get<std::string>()));
  REDOUBT_TRY(cedar::Entities parsed, cedar::Entities::from_json(json.at("entities")));
  const auto entities = std::make_shared<const cedar::Entities>(std::move(parsed));
  const PolicyTypes types = types_of(policies->program(), Vocabulary::any);
  Json results = Json::array();
  for (const Json& asked : json.at("requests")) {
    REDOUBT_TRY(const AuthorizationRequest request, AuthorizationRequest::from_json(asked, entities));
    results.push_back(numbers(policies->decide(request.request())));
    if (numbers(policies->decide_one_by_one(request.request())) != results.back()) results.back()["index"] = "differs";
    if (!kinds_hold(*policies, types, request.request())) results.back()["types"] = "differ";
  }
  return Json{{"results", std::move(results)}};
}

}  // namespace
}  // namespace redoubt

int main() {
  std::ios::sync_with_stdio(false);
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto answer = redoubt::decided(line);
    std::cout << redoubt::dump_json(answer ? *answer : redoubt::Json{{"refused", answer.error().message}}) << std::endl;
  }
}
