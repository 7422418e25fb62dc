// Arrays with uniqueItems: of a few listed values, each is written once at most.

#include <bit>
#include <unordered_set>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMostValues = 8;  // each subset of them is a state

Error not_listed() {
  return unsupported("schema: uniqueItems is enforced of items with an enum of up to 8 values, and of no others",
                     "uniqueItems");
}

}  // namespace

Result<ExprId> SchemaCompiler::array_of_different(const Json& flat, const std::string& at, int64_t min, int64_t max) {
  if (flat.contains("prefixItems") || !flat.contains("items")) return not_listed();
  REDOUBT_TRY(Json items, flatten(flat["items"], place_of(at, "items")));
  if (is_never(items)) items = {{"enum", Json::array()}};
  const bool is_list = items.contains("enum") || items.contains("const");
  if (!is_list || items.contains("anyOf") || items.contains("oneOf")) return not_listed();
  REDOUBT_TRY(const Json values, listed(items));
  std::vector<uint32_t> rules;
  std::unordered_set<std::string> known;  // 1 and 1.0 are one value
  for (const Json& value : values) {
    if (!known.insert(value_text(value)).second) continue;
    if (rules.size() == kMostValues) return not_listed();
    rules.push_back(new_rule("value"));
    rules_[rules.back()].body = written(value);
  }
  const uint32_t ws = pool_[white_space()].index;

  // A state for each set of values that may have been written, which its bits are.
  Nfa nfa;
  const size_t sets = size_t{1} << rules.size();
  const uint32_t start = nfa.add_state(), open = nfa.add_state(), closing = nfa.add_state(), end = nfa.add_state();
  const auto state_of = [end](size_t set) { return end + 1 + static_cast<uint32_t>(set); };
  for (size_t set = 0; set < sets; ++set) nfa.add_state();
  nfa.add_bytes(start, '[', '[', open);
  nfa.add_call(open, ws, state_of(0));
  nfa.add_bytes(closing, ']', ']', end);
  nfa.accept(end);
  for (size_t set = 0; set < sets; ++set) {
    const int64_t count = std::popcount(set);
    uint32_t before = state_of(set);
    if (count >= min && count == 0) nfa.add_empty(before, closing);
    if (count >= min && count > 0) nfa.add_call(before, ws, closing);
    if (max >= 0 && count >= max) continue;
    if (count > 0) {
      const uint32_t comma = nfa.add_state(), after = nfa.add_state();
      nfa.add_bytes(before, ',', ',', comma);
      nfa.add_call(comma, ws, after);
      before = after;
    }
    for (size_t i = 0; i < rules.size(); ++i) {
      const size_t value = size_t{1} << i;
      if ((set & value) == 0) nfa.add_call(before, rules[i], state_of(set | value));
    }
  }
  REDOUBT_CHECK(budget_.spend_states(nfa.size()));
  REDOUBT_TRY(Automaton automaton, nfa.determinise(budget_));
  return automaton.states.empty() ? pool_.nothing() : pool_.automaton(std::move(automaton));
}

}  // namespace redoubt::grammar
