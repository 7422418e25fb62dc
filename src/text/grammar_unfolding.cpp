#include "text/grammar_unfolding.h"

#include <algorithm>
#include <map>

namespace redoubt::grammar {
namespace {

constexpr size_t kManyCalls = 16;  // of one state; each is up to two ways, and unions stand in unions
constexpr int kRounds = 4;         // a union's objects, the constants that tell them apart, and as much once more

size_t most_calls(const Automaton& rule) {
  size_t most = 0;
  for (const auto& state : rule.states) most = std::max(most, state.calls.size());
  return most;
}

std::vector<bool> reached_from(const std::vector<Automaton>& rules, uint32_t root) {
  std::vector<bool> reached(rules.size(), false);
  std::vector<uint32_t> open{root};
  reached[root] = true;
  while (!open.empty()) {
    const uint32_t r = open.back();
    open.pop_back();
    for (const auto& state : rules[r].states) {
      for (const CallEdge& call : state.calls) {
        if (!reached[call.rule]) open.push_back(call.rule);
        reached[call.rule] = true;
      }
    }
  }
  return reached;
}

Status spend_steps_of(const Automaton& rule, AutomatonBudget& budget) {
  for (const Automaton::State& state : rule.states)
    REDOUBT_CHECK(budget.spend_steps(1 + state.bytes.size() + state.calls.size()));
  return ok();
}

// Adds the states of `rule` and their byte steps; its first state's number.
uint32_t add_states(Nfa& nfa, const Automaton& rule) {
  const auto base = static_cast<uint32_t>(nfa.size());
  for (size_t s = 0; s < rule.states.size(); ++s) nfa.add_state();
  for (uint32_t s = 0; s < rule.states.size(); ++s)
    for (const ByteEdge& e : rule.states[s].bytes) nfa.add_bytes(base + s, e.first, e.last, base + e.target);
  return base;
}

Result<Automaton> unfold_once(const std::vector<Automaton>& rules, uint32_t r, const Automaton& rule,
                              AutomatonBudget& budget) {
  Nfa nfa;
  REDOUBT_CHECK(spend_steps_of(rule, budget));
  add_states(nfa, rule);
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> unfolded;  // a call's rule and target: where the rule begins
  for (uint32_t s = 0; s < rule.states.size(); ++s) {
    const Automaton::State& state = rule.states[s];
    if (state.accepting) nfa.accept(s);
    for (const CallEdge& call : state.calls) {
      if (state.calls.size() <= kManyCalls || call.rule == r) {
        nfa.add_call(s, call.rule, call.target);
        continue;
      }
      const Automaton& callee = rules[call.rule];
      if (callee.states.empty()) continue;  // matches nothing
      const auto [it, is_new] = unfolded.try_emplace({call.rule, call.target}, 0);
      if (is_new) {
        REDOUBT_CHECK(budget.spend_states(callee.states.size()));
        REDOUBT_CHECK(spend_steps_of(callee, budget));
        const uint32_t base = it->second = add_states(nfa, callee);
        for (uint32_t c = 0; c < callee.states.size(); ++c) {
          for (const CallEdge& e : callee.states[c].calls) nfa.add_call(base + c, e.rule, base + e.target);
          if (callee.states[c].accepting) nfa.add_empty(base + c, call.target);
        }
      }
      nfa.add_empty(s, it->second);
    }
  }
  return nfa.determinise(budget);
}

}  // namespace

void unfold_wide_choices(std::vector<Automaton>& rules, uint32_t root, AutomatonBudget& budget) {
  std::vector<bool> before;
  for (uint32_t r = 0; r < rules.size(); ++r) {
    const size_t most = most_calls(rules[r]);
    if (most <= kManyCalls) continue;
    if (before.empty()) before = reached_from(rules, root);
    Automaton unfolded = rules[r];
    for (int round = 0; round < kRounds && most_calls(unfolded) > kManyCalls; ++round) {
      auto once = unfold_once(rules, r, unfolded, budget);
      if (!once) break;
      unfolded = *std::move(once);
    }
    if (most_calls(unfolded) < most) rules[r] = std::move(unfolded);
  }
  if (before.empty()) return;
  const std::vector<bool> after = reached_from(rules, root);
  for (uint32_t r = 0; r < rules.size(); ++r)
    if (before[r] && !after[r]) rules[r].states.clear();
}

}  // namespace redoubt::grammar
