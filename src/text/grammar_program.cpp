#include "text/grammar_program.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

#include "text/grammar_mask_cache.h"
#include "text/grammar_stack.h"
#include "text/grammar_unfolding.h"

namespace redoubt::grammar {
namespace {

constexpr uint16_t kNever = 0xffff;
constexpr size_t kMaxTableSteps = 4'000'000;  // of one grammar, 16 MB
constexpr size_t kSharedRuleStates = 20'000;  // larger rules are rarely the same in two grammars

bool is_final(const Automaton::State& state) { return state.accepting && state.bytes.empty() && state.calls.empty(); }

// Rules from whose first state an accepting one is reached over calls of such rules and, if asked, over bytes. A call
// waits until its rule is one of them: each edge is followed once.
std::vector<bool> rules_that_end(const std::vector<Automaton>& rules, bool over_bytes) {
  struct At {
    uint32_t rule, state;
  };
  std::vector<bool> ends(rules.size(), false);
  std::vector<std::vector<bool>> seen(rules.size());
  std::vector<std::vector<At>> waiting(rules.size());  // for the end of a rule
  std::vector<At> open;
  const auto visit = [&](At at) {
    if (ends[at.rule] || seen[at.rule][at.state]) return;
    seen[at.rule][at.state] = true;
    open.push_back(at);
  };
  for (uint32_t r = 0; r < rules.size(); ++r) {
    seen[r].resize(rules[r].states.size(), false);
    if (!rules[r].states.empty()) visit({r, 0});
  }
  while (!open.empty()) {
    const At at = open.back();
    open.pop_back();
    if (ends[at.rule]) continue;
    const Automaton::State& state = rules[at.rule].states[at.state];
    if (state.accepting) {
      ends[at.rule] = true;
      for (const At& next : std::exchange(waiting[at.rule], {})) visit(next);
      continue;
    }
    for (const ByteEdge& e : state.bytes) {
      if (over_bytes) visit({at.rule, e.target});
    }
    for (const CallEdge& e : state.calls) {
      if (ends[e.rule]) {
        visit({at.rule, e.target});
      } else {
        waiting[e.rule].push_back({at.rule, e.target});
      }
    }
  }
  return ends;
}

// Rules from which some text can be made; calls of the others are cut, then states without an end.
void remove_unproductive(std::vector<Automaton>& rules) {
  const std::vector<bool> productive = rules_that_end(rules, true);
  for (size_t r = 0; r < rules.size(); ++r) {
    if (!productive[r]) {
      rules[r].states.clear();
      continue;
    }
    for (auto& state : rules[r].states)
      std::erase_if(state.calls, [&](const CallEdge& e) { return !productive[e.rule]; });
    trim(rules[r]);
  }
}

// A rule that can call itself before a byte is read would push for ever.
Status refuse_left_recursion(const std::vector<Automaton>& rules, const std::function<std::string(uint32_t)>& name) {
  const std::vector<bool> nullable = rules_that_end(rules, false);
  std::vector<std::vector<uint32_t>> left(rules.size());
  for (size_t r = 0; r < rules.size(); ++r) {
    if (rules[r].states.empty()) continue;
    std::vector<bool> seen(rules[r].states.size(), false);
    std::vector<uint32_t> open{0};
    while (!open.empty()) {
      const uint32_t s = open.back();
      open.pop_back();
      if (seen[s]) continue;
      seen[s] = true;
      for (const CallEdge& e : rules[r].states[s].calls) {
        left[r].push_back(e.rule);
        if (nullable[e.rule]) open.push_back(e.target);
      }
    }
  }
  std::vector<uint8_t> colour(rules.size(), 0);  // 1: on the path, 2: done
  for (uint32_t first = 0; first < rules.size(); ++first) {
    if (colour[first] != 0) continue;
    std::vector<std::pair<uint32_t, size_t>> path{{first, 0}};
    colour[first] = 1;
    while (!path.empty()) {
      auto& [rule, next] = path.back();
      if (next == left[rule].size()) {
        colour[rule] = 2;
        path.pop_back();
        continue;
      }
      const uint32_t callee = left[rule][next++];
      if (colour[callee] == 1)
        return invalid("grammar: rule '" + name(callee) + "' begins with itself (left recursion)");
      if (colour[callee] == 0) {
        colour[callee] = 1;
        path.emplace_back(callee, 0);
      }
    }
  }
  return ok();
}

// More ways on from one place than Arrival looks at. What could be unfolded (grammar_unfolding.h) calls few.
Status refuse_wide_choices(const std::vector<Automaton>& rules, const std::function<std::string(uint32_t)>& name) {
  for (uint32_t r = 0; r < rules.size(); ++r) {
    for (const Automaton::State& state : rules[r].states) {
      if (state.calls.size() > Arrival::kMaxCalls)
        return invalid("grammar: rule '" + name(r) + "' has more alternatives at one place than are followed");
    }
  }
  return ok();
}

// The least height of each state: a fixed point, since rules call one another.
void measure_heights(Program& program) {
  constexpr uint32_t kByte = UINT32_MAX;
  struct Before {
    uint32_t state, call;  // the edge, kByte: of bytes
  };
  std::vector<std::vector<Before>> before(program.states.size());
  for (uint32_t s = 0; s < program.states.size(); ++s) {
    const Program::State& state = program.states[s];
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e)
      before[program.bytes[e].target].push_back({s, kByte});
    for (uint32_t e = state.calls_begin; e < state.calls_end; ++e) {
      before[program.calls[e].target].push_back({s, e});
      before[program.rule_start[program.calls[e].rule]].push_back({s, e});
    }
  }
  std::vector<uint32_t> level;
  for (uint32_t s = 0; s < program.states.size(); ++s) {
    program.states[s].height = program.states[s].accepting ? 0 : kNever;
    if (program.states[s].accepting) level.push_back(s);
  }
  const auto over_call = [&](uint32_t call) {
    const Program::State& after = program.states[program.calls[call].target];
    const uint16_t callee = program.states[program.rule_start[program.calls[call].rule]].height;
    if (callee == kNever || after.height == kNever) return kNever;
    return std::max<uint16_t>(callee + (after.final ? 0 : 1), after.height);
  };
  // Heights are found in rising order, as in Dijkstra's algorithm: settle all of one height, then go on.
  std::vector<uint32_t> next_level;
  for (uint16_t height = 0; !level.empty() && height < kNever - 1; ++height) {
    next_level.clear();
    while (!level.empty()) {
      const uint32_t t = level.back();
      level.pop_back();
      if (program.states[t].height != height) continue;
      for (const Before& edge : before[t]) {
        Program::State& state = program.states[edge.state];
        const uint16_t found = edge.call == kByte ? height : over_call(edge.call);
        if (found >= state.height) continue;
        state.height = found;
        (found == height ? level : next_level).push_back(edge.state);
      }
    }
    level.swap(next_level);
  }
}

std::shared_ptr<const std::string> spell_out(const Automaton& rule) {
  if (rule.states.size() > kSharedRuleStates) return nullptr;
  std::string text;
  const auto number = [&](uint32_t v) { text.append(reinterpret_cast<const char*>(&v), sizeof v); };
  for (const auto& state : rule.states) {
    if (!state.calls.empty()) return nullptr;
    number(static_cast<uint32_t>(state.bytes.size()) * 2 + (state.accepting ? 1 : 0));
    for (const ByteEdge& e : state.bytes) {
      number((uint32_t{e.first} << 8) | e.last);
      number(e.target);
    }
  }
  return std::make_shared<const std::string>(std::move(text));
}

// Null if the rule has calls or choices; `room` is what tables may still take, in steps.
std::unique_ptr<const RuleTable> make_table(const Automaton& rule, size_t& room) {
  if (rule.states.empty()) return nullptr;
  std::array<bool, 257> cut{};
  for (const auto& state : rule.states) {
    if (!state.calls.empty()) return nullptr;
    for (const ByteEdge& e : state.bytes) cut[e.first] = cut[e.last + 1u] = true;
  }
  auto table = std::make_unique<RuleTable>();
  for (size_t byte = 1; byte < 256; ++byte) {
    table->classes += cut[byte] ? 1 : 0;
    table->byte_class[byte] = static_cast<uint8_t>(table->classes);
  }
  ++table->classes;
  table->last_alike[255] = 255;
  for (size_t byte = 255; byte-- > 0;)
    table->last_alike[byte] = cut[byte + 1] ? static_cast<uint8_t>(byte) : table->last_alike[byte + 1];
  const size_t size = rule.states.size() * table->classes;
  if (size > room) return nullptr;
  room -= size;
  table->steps.assign(size, 0xffffffff);
  for (size_t s = 0; s < rule.states.size(); ++s) {
    for (const ByteEdge& e : rule.states[s].bytes) {
      for (uint32_t c = table->byte_class[e.first]; c <= table->byte_class[e.last]; ++c) {
        uint32_t& step = table->steps[s * table->classes + c];
        if (step != 0xffffffff && step != e.target) return nullptr;
        step = e.target;
      }
    }
  }
  return table;
}

size_t own_bytes(const Program& program) {
  size_t bytes = sizeof program + program.states.capacity() * sizeof(Program::State) +
                 program.bytes.capacity() * sizeof(ByteEdge) + program.calls.capacity() * sizeof(CallEdge) +
                 4 * program.rule_start.capacity();
  for (const auto& text : program.rule_text) bytes += sizeof text + (text == nullptr ? 0 : text->capacity());
  for (const auto& table : program.tables)
    bytes += sizeof table + (table == nullptr ? 0 : sizeof *table + 4 * table->steps.capacity());
  return bytes;
}

Result<std::shared_ptr<Program>> link_automata(std::vector<Automaton> automata,
                                               const std::function<std::string(uint32_t)>& name, uint32_t root,
                                               uint32_t max_depth) {
  remove_unproductive(automata);
  if (automata[root].states.empty()) return invalid("grammar: nothing can match it");
  REDOUBT_CHECK(refuse_left_recursion(automata, name));
  REDOUBT_CHECK(refuse_wide_choices(automata, name));

  auto program = std::make_shared<Program>();
  program->root = root;
  program->max_depth = max_depth;
  uint32_t base = 0;
  size_t table_room = kMaxTableSteps;
  for (const Automaton& rule : automata) {
    program->rule_start.push_back(base);
    base += static_cast<uint32_t>(rule.states.size());
  }
  for (uint32_t r = 0; r < automata.size(); ++r) {
    program->rule_text.push_back(spell_out(automata[r]));
    program->tables.push_back(make_table(automata[r], table_room));
    for (const auto& source : automata[r].states) {
      Program::State state;
      state.rule = r;
      state.accepting = source.accepting;
      state.final = is_final(source);
      state.bytes_begin = static_cast<uint32_t>(program->bytes.size());
      for (ByteEdge e : source.bytes) {
        e.target += program->rule_start[r];
        program->bytes.push_back(e);
      }
      state.bytes_end = static_cast<uint32_t>(program->bytes.size());
      state.calls_begin = static_cast<uint32_t>(program->calls.size());
      for (CallEdge e : source.calls) {
        e.target += program->rule_start[r];
        program->calls.push_back(e);
      }
      state.calls_end = static_cast<uint32_t>(program->calls.size());
      program->states.push_back(state);
    }
  }
  measure_heights(*program);
  if (program->states[program->rule_start[root]].height > program->max_depth)
    return invalid("grammar: every text nests deeper than the limit");
  Frames frames;
  StackSet start;
  Arrival arrival(*program, frames, program->max_depth);
  arrival.arrive({program->rule_start[root], 0}, start);
  arrival.finish(start);
  if (start.width > Arrival::kMaxStacks)
    return invalid("grammar: more alternatives at its beginning than are followed");
  program->own_bytes = own_bytes(*program);
  return program;
}

// A program's rules as automata again, behind those that are there.
void append_rules(const Program& program, std::vector<Automaton>& automata) {
  const auto offset = static_cast<uint32_t>(automata.size());
  for (uint32_t r = 0; r < program.rule_start.size(); ++r) {
    const uint32_t begin = program.rule_start[r];
    const size_t end = r + 1 < program.rule_start.size() ? program.rule_start[r + 1] : program.states.size();
    Automaton& rule = automata.emplace_back();
    for (size_t s = begin; s < end; ++s) {
      const Program::State& source = program.states[s];
      Automaton::State& state = rule.states.emplace_back();
      state.accepting = source.accepting;
      for (uint32_t e = source.bytes_begin; e < source.bytes_end; ++e) {
        state.bytes.push_back(program.bytes[e]);
        state.bytes.back().target -= begin;
      }
      for (uint32_t e = source.calls_begin; e < source.calls_end; ++e)
        state.calls.push_back({program.calls[e].rule + offset, program.calls[e].target - begin});
    }
  }
}

}  // namespace

Program::Program() : masks(std::make_unique<MaskCache>()) {}
Program::~Program() = default;

size_t Program::size_bytes() const { return own_bytes + masks->size_bytes(); }

Result<std::shared_ptr<Program>> link_program(const ExprPool& pool, const std::vector<Rule>& rules, uint32_t root,
                                              const GrammarLimits& limits, AutomatonBudget& budget) {
  if (rules.size() > limits.max_rules) return invalid("grammar: too many rules");
  std::vector<Automaton> automata;
  for (const Rule& rule : rules) {
    REDOUBT_TRY(Automaton automaton, build_automaton(pool, rule.body, budget));
    automata.push_back(std::move(automaton));
  }
  unfold_wide_choices(automata, root, budget);
  const auto name = [&](uint32_t r) { return rules[r].name; };
  REDOUBT_TRY(auto program, link_automata(std::move(automata), name, root, static_cast<uint32_t>(limits.max_depth)));
  program->compile_cost = static_cast<size_t>(budget.part() * static_cast<double>(kMaxGrammarCost));
  return program;
}

Result<GrammarPtr> link_around(std::vector<Automaton> own, std::span<const GrammarPtr> parts) {
  std::vector<Automaton> automata = std::move(own);
  std::vector<uint32_t> roots;
  uint32_t depth = GrammarLimits().max_depth;
  auto next = static_cast<uint32_t>(automata.size());
  const uint32_t owned = next;
  for (const GrammarPtr& part : parts) {
    const auto& program = static_cast<const Program&>(*part);
    roots.push_back(next + program.root);
    depth = std::min(depth, program.max_depth);
    append_rules(program, automata);
    next = static_cast<uint32_t>(automata.size());
  }
  for (uint32_t r = 0; r < owned; ++r)
    for (auto& state : automata[r].states)
      for (CallEdge& call : state.calls)
        if (call.rule >= owned) call.rule = roots[call.rule - owned];
  const auto name = [](uint32_t r) { return "rule " + std::to_string(r); };
  REDOUBT_TRY(auto program, link_automata(std::move(automata), name, 0, depth + 1));
  return GrammarPtr(std::move(program));
}

}  // namespace redoubt::grammar
