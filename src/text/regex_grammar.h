// Regular expressions, read as expressions of a grammar.
//
// The common subset: literals, `.`, classes with ranges and negation, \d \w \s (ASCII) and their negations, groups,
// alternation, * + ? {m} {m,} {m,n} (a lazy mark changes nothing here), ^ and $ at the ends of the whole or of a
// top-level alternative. Characters are Unicode code points. Refused by name: lookaround, backreferences, word
// boundaries, anchors elsewhere, inline flags.
#pragma once

#include <string_view>

#include "text/grammar_expr.h"

namespace redoubt::grammar {

enum class RegexText : uint8_t {
  plain,        // the text itself
  json_string,  // the inside of a JSON string: `"`, `\` and control characters are written as escapes
};
enum class RegexMatch : uint8_t {
  whole,   // as if anchored at both ends
  search,  // somewhere in the text, as JSON Schema's "pattern": unless anchored, anything may surround it
};

Result<ExprId> parse_regex(std::string_view pattern, RegexText text, RegexMatch match, ExprPool& pool);

// One character of the set, written as `text` asks.
ExprId characters(ExprPool& pool, const std::vector<CodeRange>& set, RegexText text);

}  // namespace redoubt::grammar
