// prepare_masks: which entries of a program's MaskCache its sequences will ask for, from its automata alone.

#include <algorithm>
#include <deque>
#include <set>

#include "core/clock.h"
#include "text/grammar_mask_cache.h"
#include "text/grammar_program.h"

namespace redoubt {
namespace grammar {
namespace {

constexpr size_t kMaxCalls = 50'000;  // of a program whose residues are followed
constexpr size_t kMaxBelow = 64;      // states below one rule that are looked at

using StateSets = std::vector<std::set<uint32_t>>;

// Per rule states that may lie right below it: where its callers go on, or, after a call that is a rule's last step and
// leaves no frame, what lies below the caller.
StateSets states_below(const Program& program) {
  StateSets below(program.rule_start.size());
  if (program.calls.size() > kMaxCalls) return below;
  const auto add = [&](uint32_t rule, uint32_t state) {
    if (below[rule].size() < kMaxBelow) below[rule].insert(state);
  };
  std::vector<std::set<uint32_t>> tail_callees(program.rule_start.size());  // by caller
  std::vector<uint32_t> work;
  for (const Program::State& state : program.states) {
    for (uint32_t e = state.calls_begin; e < state.calls_end; ++e) {
      const CallEdge& call = program.calls[e];
      if (program.states[call.target].final)
        tail_callees[state.rule].insert(call.rule);
      else
        add(call.rule, call.target);
    }
  }
  for (uint32_t rule = 0; rule < below.size(); ++rule) work.push_back(rule);
  while (!work.empty()) {
    const uint32_t caller = work.back();
    work.pop_back();
    for (const uint32_t callee : tail_callees[caller]) {
      const size_t known = below[callee].size();
      if (callee == caller) continue;
      for (const uint32_t state : below[caller]) add(callee, state);
      if (below[callee].size() > known) work.push_back(callee);
    }
  }
  return below;
}

// In which order states are looked at: what stands between values and begins them (few states, met in every answer),
// then what reads many characters (within texts, where sequences stand most of the time and masks take longest to
// find), what reads few of ASCII (numbers, escapes), then the rest (within a character).
enum class Turn : uint8_t { structure, text, narrow, rest };

Turn turn_of(const Program& program, uint32_t number) {
  constexpr uint32_t kSmallRule = 64;  // states
  constexpr int kWide = 23;            // bytes; an escape's hexadecimal digits are 22
  const Program::State& state = program.states[number];
  const size_t end =
      state.rule + 1 < program.rule_start.size() ? program.rule_start[state.rule + 1] : program.states.size();
  if (program.rule_text[state.rule] == nullptr || number == program.rule_start[state.rule] ||
      end - program.rule_start[state.rule] <= kSmallRule)
    return Turn::structure;
  int read = 0;
  for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e)
    read += std::min<int>(program.bytes[e].last, 127) - std::min<int>(program.bytes[e].first, 128) + 1;
  return read >= kWide ? Turn::text : read > 0 ? Turn::narrow : Turn::rest;
}

// The first states, in the order of their distance from the beginning.
std::vector<uint32_t> states_from_the_beginning(const Program& program, size_t count) {
  std::vector<uint32_t> order{program.rule_start[program.root]};
  std::vector<bool> seen(program.states.size(), false);
  seen[order[0]] = true;
  const auto visit = [&](uint32_t state) {
    if (!seen[state]) order.push_back(state);
    seen[state] = true;
  };
  for (size_t i = 0; i < order.size() && order.size() < count; ++i) {
    const Program::State& state = program.states[order[i]];
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e) visit(program.bytes[e].target);
    for (uint32_t e = state.calls_begin; e < state.calls_end; ++e) {
      visit(program.rule_start[program.calls[e].rule]);
      visit(program.calls[e].target);
    }
  }
  return order;
}

}  // namespace
}  // namespace grammar

size_t prepare_masks(const Grammar& grammar, const GrammarVocabulary& vocabulary, const PrepareLimits& limits) {
  const auto& program = static_cast<const grammar::Program&>(grammar);
  const auto& texts = static_cast<const grammar::Vocabulary&>(vocabulary);
  const SteadyClock clock;
  const int64_t end_ns = clock.now_ns() + limits.max_us * 1000;
  const grammar::StateSets below = grammar::states_below(program);

  struct Residue {
    std::shared_ptr<const grammar::MaskEntry> above;
    uint32_t state;
  };
  std::deque<Residue> residues;
  std::set<std::pair<const void*, uint32_t>> followed;  // entries, and the rule they stand in
  size_t looked_at = 0;
  const auto may_go_on = [&] { return looked_at < limits.max_masks && clock.now_ns() < end_ns; };
  const auto look = [&](const std::shared_ptr<const grammar::MaskEntry>& above, uint32_t state) {
    ++looked_at;
    const auto entry = program.masks->find(program, texts, above, state);
    if (entry->residue.empty() || !followed.emplace(entry.get(), program.states[state].rule).second) return;
    for (const uint32_t next : below[program.states[state].rule])
      if (residues.size() < limits.max_masks) residues.push_back({entry, next});
  };
  const std::vector<uint32_t> states = grammar::states_from_the_beginning(program, 8 * limits.max_masks);
  const auto look_at = [&](grammar::Turn turn) {
    for (const uint32_t state : states) {
      if (!may_go_on()) return;
      const bool reads = program.states[state].bytes_begin != program.states[state].bytes_end;
      if (reads && grammar::turn_of(program, state) == turn) look(nullptr, state);
    }
  };
  const auto look_at_residues = [&] {
    for (; !residues.empty() && may_go_on(); residues.pop_front()) look(residues.front().above, residues.front().state);
  };
  look_at(grammar::Turn::structure);
  look_at(grammar::Turn::text);
  look_at_residues();
  look_at(grammar::Turn::narrow);
  look_at(grammar::Turn::rest);
  look_at_residues();
  return looked_at;
}

}  // namespace redoubt
