// Files of requests with the decisions expected: how people test their policies before they hold.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/json.h"
#include "governance/policy.h"

namespace redoubt {

struct ExpectationResult {
  std::string name;  // the test's, or "tests[3]"
  bool passed = false;
  std::string expected;  // "allow by \"users-work-with-models\""
  std::string found;     // the explanation's sentence
};

// {"entities": [...], "tests": [{"name", "principal", "action", "resource", "context", "expect": "allow"|"deny",
// "by": ["policy id", ...]}]}. `entities` replaces what the snapshot has described; `by`, if given, is the exact set of
// policies that decide. Errors: invalid_argument, with the test's name.
Result<std::vector<ExpectationResult>> run_expectations(const PolicySnapshot& by, const Json& file);
Json to_json(const std::vector<ExpectationResult>& results);

}  // namespace redoubt
