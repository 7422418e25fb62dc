// One rule as a finite automaton whose steps read a byte or call a rule.
//
// Deterministic over bytes and calls where that stays small (a subset construction in which a call is a letter);
// otherwise without empty steps but with several steps for one byte, which the matcher follows all.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace redoubt::grammar {

struct ByteEdge {
  uint8_t first = 0, last = 0;  // inclusive
  uint32_t target = 0;
};
struct CallEdge {
  uint32_t rule = 0;
  uint32_t target = 0;  // where to go on when the rule has ended
};

struct Automaton {
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    bool accepting = false;
  };
  std::vector<State> states;  // 0 is the start; none: matches nothing
};

struct AutomatonLimits {
  size_t max_states = 400'000;      // of all rules together, before determinisation
  size_t max_edges = 4'000'000;     // of all rules together, after
  size_t max_subsets = 10'000'000;  // the sizes of the sets of states met on the way; what is beyond stays as it is
  size_t max_steps = 4'000'000;     // edges of expressions before determinisation: of each copy of what is repeated
  size_t max_looks = 30'000'000;    // edges looked at to compare automata, or to tell whether one matches a text
};

// What one grammar has used of its limits: bounds compile time, since each step of construction spends from it.
struct AutomatonBudget {
  AutomatonLimits limits;
  size_t states = 0;
  size_t edges = 0;
  size_t subsets = 0;
  size_t steps = 0;
  size_t looks = 0;
  Status spend_states(size_t count) { return spend(states, limits.max_states, count); }
  Status spend_edges(size_t count) { return spend(edges, limits.max_edges, count); }
  Status spend_steps(size_t count) { return spend(steps, limits.max_steps, count); }
  Status spend_looks(size_t count) { return spend(looks, limits.max_looks, count); }
  double part() const;  // the largest of what is used of each limit, as a part of it

 private:
  static Status spend(size_t& used, size_t limit, size_t count);
};

// With empty steps, as expressions are translated to. States are numbered from 0, the start.
class Nfa {
 public:
  uint32_t add_state();
  void add_empty(uint32_t from, uint32_t to) { add({0, 0, Kind::empty, to, 0, 0}, from); }
  void add_bytes(uint32_t from, uint8_t first, uint8_t last, uint32_t to) {
    add({first, last, Kind::bytes, to, 0, 0}, from);
  }
  void add_call(uint32_t from, uint32_t rule, uint32_t to) { add({0, 0, Kind::call, to, rule, 0}, from); }
  void accept(uint32_t state) { accepting_[state] = true; }
  size_t size() const { return head_.size(); }

  Result<Automaton> determinise(AutomatonBudget& budget) const;

 private:
  enum class Kind : uint8_t { empty, bytes, call };
  struct Edge {
    uint8_t first, last;
    Kind kind;
    uint32_t target, rule, next;
  };
  static constexpr uint32_t kNone = 0xffffffff;
  void add(Edge edge, uint32_t from);
  size_t close(std::vector<uint32_t>& set, std::vector<uint32_t>& stamp, uint32_t mark) const;
  Result<Automaton> without_empty_steps(AutomatonBudget& budget) const;

  std::vector<uint32_t> head_;  // per state its first edge
  std::vector<Edge> edges_;
  std::vector<bool> accepting_;
  friend class Determiniser;
};

// Of call-free automata. The operands are made deterministic first if they are not.
Result<Automaton> intersect(const Automaton& a, const Automaton& b, AutomatonBudget& budget);
Result<Automaton> subtract(const Automaton& a, const Automaton& b, AutomatonBudget& budget);
bool matches_nothing(const Automaton& automaton);                                                  // call-free
Result<bool> matches(const Automaton& automaton, std::string_view text, AutomatonBudget& budget);  // call-free
void merge_equal_states(Automaton& automaton);  // not the least automaton, but no two states alike; for small ones
void trim(Automaton& automaton);                // drops states that cannot be reached or reach no end

}  // namespace redoubt::grammar
