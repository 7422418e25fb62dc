// Reads policies in Cedar's language, the subset that docs/policies.md states, into a Program.
// What we take is taken by Cedar too, and means the same; templates (?principal) are refused by name.
// Errors: invalid_argument, one sentence with line and column.
#pragma once

#include <cstddef>
#include <string_view>

#include "core/result.h"
#include "governance/cedar_program.h"

namespace redoubt::cedar {

struct ParseLimits {
  size_t max_bytes = size_t{16} << 20;  // of the text
  size_t max_policies = 50'000;
  int max_depth = 64;  // parentheses, lists, records, calls, ifs and accesses inside one another
};

// `text` and `arena` outlive the program.
Result<Program> parse_policies(std::string_view text, const ParseLimits& limits, Arena& arena);

}  // namespace redoubt::cedar
