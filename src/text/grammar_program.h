// A compiled grammar: the automata of all rules in flat arrays, and what the matcher needs to know beforehand.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "text/grammar.h"
#include "text/grammar_automaton.h"
#include "text/grammar_expr.h"

namespace redoubt::grammar {

class MaskCache;

// The steps of a rule without calls whose bytes leave no choice; states are counted from the rule's first.
struct RuleTable {
  std::array<uint8_t, 256> byte_class{};
  std::array<uint8_t, 256> last_alike{};  // the last byte of the byte's class; classes are ranges
  uint32_t classes = 0;
  std::vector<uint32_t> steps;  // [states, classes]; 0xffffffff: no way
  uint32_t next(uint32_t state, uint8_t byte) const { return steps[state * classes + byte_class[byte]]; }
};

class Program : public Grammar {
 public:
  struct State {
    uint32_t bytes_begin = 0, bytes_end = 0;
    uint32_t calls_begin = 0, calls_end = 0;
    uint32_t rule = 0;
    uint16_t height = 0;  // fewest further frames that any way to this rule's end needs at its highest
    bool accepting = false;
    bool final = false;  // accepting, and nothing can follow: a call that returns here needs no frame
  };
  Program();
  ~Program() override;
  size_t size_bytes() const override;
  size_t cost() const override { return compile_cost; }

  std::vector<State> states;
  std::vector<ByteEdge> bytes;  // targets are global state numbers
  std::vector<CallEdge> calls;  // likewise
  std::vector<uint32_t> rule_start;
  // Per rule without calls its own automaton, spelled out: equal rules of different grammars share their masks.
  std::vector<std::shared_ptr<const std::string>> rule_text;
  std::vector<std::unique_ptr<const RuleTable>> tables;  // per rule; null: has calls, or choices, or is too large
  uint32_t root = 0;                                     // rule
  uint32_t max_depth = 256;
  size_t own_bytes = 0;  // of all above, once it is linked
  size_t compile_cost = 0;
  std::unique_ptr<MaskCache> masks;
};

// Rules of our own around whole grammars. Rule 0 is the root; a call of rule own.size() + i is one of parts[i]'s root.
// The deepest nesting is that of the strictest part.
Result<GrammarPtr> link_around(std::vector<Automaton> own, std::span<const GrammarPtr> parts);

// Links the rules: refuses left recursion (invalid, naming the rule) and a root that matches nothing.
Result<std::shared_ptr<Program>> link_program(const ExprPool& pool, const std::vector<Rule>& rules, uint32_t root,
                                              const GrammarLimits& limits, AutomatonBudget& budget);

}  // namespace redoubt::grammar
