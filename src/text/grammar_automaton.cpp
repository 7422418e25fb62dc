#include "text/grammar_automaton.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

namespace redoubt::grammar {
namespace {

struct SetHash {
  size_t operator()(const std::vector<uint32_t>& set) const {
    uint64_t h = 0xcbf29ce484222325u;
    for (const uint32_t v : set) h = (h ^ v) * 0x100000001b3u;
    return static_cast<size_t>(h ^ (h >> 29));
  }
};

Error too_large() { return invalid("grammar: too large to compile (counts, alternatives or nesting multiply)"); }

// Joins neighbouring ranges that lead to the same state; `edges` in rising order.
void append_edge(std::vector<ByteEdge>& edges, ByteEdge edge) {
  if (!edges.empty() && edges.back().target == edge.target && edges.back().last + 1 == edge.first)
    edges.back().last = edge.last;
  else
    edges.push_back(edge);
}

}  // namespace

Status AutomatonBudget::spend(size_t& used, size_t limit, size_t count) {
  used += count;
  if (used > limit) return too_large();
  return ok();
}

double AutomatonBudget::part() const {
  const auto of = [](size_t used, size_t limit) { return static_cast<double>(used) / static_cast<double>(limit); };
  return std::max({of(states, limits.max_states), of(edges, limits.max_edges), of(subsets, limits.max_subsets),
                   of(steps, limits.max_steps), of(looks, limits.max_looks)});
}

uint32_t Nfa::add_state() {
  head_.push_back(kNone);
  accepting_.push_back(false);
  return static_cast<uint32_t>(head_.size() - 1);
}

void Nfa::add(Edge edge, uint32_t from) {
  edge.next = head_[from];
  edges_.push_back(edge);
  head_[from] = static_cast<uint32_t>(edges_.size() - 1);
}

// Adds to `set` all that empty steps reach, and sorts it. What it cost: a state, or some steps that led nowhere new.
size_t Nfa::close(std::vector<uint32_t>& set, std::vector<uint32_t>& stamp, uint32_t mark) const {
  constexpr size_t kStepsOfAState = 8;
  size_t steps = 0;
  for (const uint32_t s : set) stamp[s] = mark;
  for (size_t i = 0; i < set.size(); ++i) {
    for (uint32_t e = head_[set[i]]; e != kNone; e = edges_[e].next, ++steps) {
      if (edges_[e].kind != Kind::empty || stamp[edges_[e].target] == mark) continue;
      stamp[edges_[e].target] = mark;
      set.push_back(edges_[e].target);
    }
  }
  std::sort(set.begin(), set.end());
  return set.size() + steps / kStepsOfAState;
}

// The subset construction. A call is a letter like any other: two ways that call the same rule go on as one.
class Determiniser {
 public:
  Determiniser(const Nfa& nfa, AutomatonBudget& budget)
      : nfa_(nfa), budget_(budget), stamp_(nfa.size(), 0), telling_(nfa.accepting_), limit_(4'000 + 4 * nfa.size()) {
    for (uint32_t s = 0; s < nfa.size(); ++s)
      for (uint32_t e = nfa.head_[s]; e != Nfa::kNone; e = nfa.edges_[e].next)
        if (nfa.edges_[e].kind != Nfa::Kind::empty) telling_[s] = true;
  }

  // False in `small` if the subsets became too many: the caller then keeps the nondeterminism.
  Result<Automaton> run(bool& small) {
    intern({0});
    small = true;
    for (uint32_t i = 0; i < sets_.size() && small; ++i) {
      REDOUBT_CHECK(expand(i));
      small = !is_over();
    }
    return std::move(out_);
  }

 private:
  bool is_over() const {
    return sets_.size() > limit_ || spent_ > 100 * limit_ || budget_.subsets > budget_.limits.max_subsets;
  }
  void spend(size_t size) {
    spent_ += size;
    budget_.subsets += size;
  }

  uint32_t intern(std::vector<uint32_t> set) {
    spend(nfa_.close(set, stamp_, ++mark_));
    // What only leads on without a byte says nothing of its own: sets that differ in it are one state.
    std::erase_if(set, [&](uint32_t s) { return !telling_[s]; });
    const auto [it, inserted] = ids_.try_emplace(std::move(set), static_cast<uint32_t>(sets_.size()));
    if (inserted) {
      sets_.push_back(&it->first);
      auto& state = out_.states.emplace_back();
      for (const uint32_t s : it->first) state.accepting = state.accepting || nfa_.accepting_[s];
    }
    return it->second;
  }

  // Ends early where the subsets become too many: one state may call thousands of rules, each with a large set behind.
  Status expand(uint32_t id) {
    struct Step {
      int first, last;
      uint32_t target;
    };
    std::vector<Step> steps;
    std::map<uint32_t, std::vector<uint32_t>> calls;
    for (const uint32_t s : *sets_[id]) {
      for (uint32_t e = nfa_.head_[s]; e != Nfa::kNone; e = nfa_.edges_[e].next) {
        const Nfa::Edge& edge = nfa_.edges_[e];
        if (edge.kind == Nfa::Kind::bytes) steps.push_back({edge.first, edge.last, edge.target});
        if (edge.kind == Nfa::Kind::call) calls[edge.rule].push_back(edge.target);
      }
    }
    std::vector<int> cuts;
    for (const Step& step : steps) {
      cuts.push_back(step.first);
      cuts.push_back(step.last + 1);
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::vector<ByteEdge> bytes;
    std::vector<uint32_t> targets, last_targets;
    uint32_t last_id = 0;
    for (size_t c = 0; c + 1 < cuts.size() && !is_over(); ++c) {
      targets.clear();
      for (const Step& step : steps)
        if (step.first <= cuts[c] && cuts[c] <= step.last) targets.push_back(step.target);
      spend(steps.size());
      if (targets.empty()) continue;
      std::sort(targets.begin(), targets.end());
      targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
      if (targets != last_targets) {
        last_id = intern(targets);
        last_targets = targets;
      }
      append_edge(bytes, {static_cast<uint8_t>(cuts[c]), static_cast<uint8_t>(cuts[c + 1] - 1), last_id});
    }
    std::vector<CallEdge> call_edges;
    for (auto& [rule, after] : calls) {
      if (is_over()) return ok();
      std::sort(after.begin(), after.end());
      after.erase(std::unique(after.begin(), after.end()), after.end());
      call_edges.push_back({rule, intern(std::move(after))});
    }
    REDOUBT_CHECK(budget_.spend_edges(bytes.size() + call_edges.size() + 1));
    out_.states[id].bytes = std::move(bytes);
    out_.states[id].calls = std::move(call_edges);
    return ok();
  }

  const Nfa& nfa_;
  AutomatonBudget& budget_;
  std::vector<uint32_t> stamp_;
  std::vector<bool> telling_;  // reads a byte, calls a rule or accepts
  uint32_t mark_ = 0;
  size_t limit_, spent_ = 0;
  Automaton out_;
  std::unordered_map<std::vector<uint32_t>, uint32_t, SetHash> ids_;
  std::vector<const std::vector<uint32_t>*> sets_;  // keys of ids_, whose addresses stay
};

Result<Automaton> Nfa::determinise(AutomatonBudget& budget) const {
  bool small = false;
  REDOUBT_TRY(Automaton deterministic, Determiniser(*this, budget).run(small));
  if (!small) {
    REDOUBT_TRY(deterministic, without_empty_steps(budget));
    trim(deterministic);
    return deterministic;
  }
  trim(deterministic);
  return deterministic;
}

Result<Automaton> Nfa::without_empty_steps(AutomatonBudget& budget) const {
  Automaton out;
  out.states.resize(size());
  std::vector<uint32_t> stamp(size(), 0), set;
  for (uint32_t s = 0; s < size(); ++s) {
    set.assign(1, s);
    REDOUBT_CHECK(budget.spend_edges(close(set, stamp, s + 1)));
    Automaton::State& state = out.states[s];
    for (const uint32_t member : set) {
      state.accepting = state.accepting || accepting_[member];
      for (uint32_t e = head_[member]; e != kNone; e = edges_[e].next) {
        const Edge& edge = edges_[e];
        if (edge.kind == Kind::bytes) state.bytes.push_back({edge.first, edge.last, edge.target});
        if (edge.kind == Kind::call) state.calls.push_back({edge.rule, edge.target});
      }
    }
    REDOUBT_CHECK(budget.spend_edges(state.bytes.size() + state.calls.size()));
  }
  return out;
}

void trim(Automaton& automaton) {
  const size_t n = automaton.states.size();
  if (n == 0) return;
  std::vector<std::vector<uint32_t>> before(n);
  for (uint32_t s = 0; s < n; ++s) {
    for (const ByteEdge& e : automaton.states[s].bytes) before[e.target].push_back(s);
    for (const CallEdge& e : automaton.states[s].calls) before[e.target].push_back(s);
  }
  std::vector<uint32_t> work;
  std::vector<bool> ends(n, false), reached(n, false);
  for (uint32_t s = 0; s < n; ++s) {
    if (!automaton.states[s].accepting) continue;
    ends[s] = true;
    work.push_back(s);
  }
  while (!work.empty()) {
    const uint32_t s = work.back();
    work.pop_back();
    for (const uint32_t b : before[s]) {
      if (ends[b]) continue;
      ends[b] = true;
      work.push_back(b);
    }
  }
  if (!ends[0]) {
    automaton.states.clear();
    return;
  }
  reached[0] = true;
  work.push_back(0);
  std::vector<uint32_t> order;
  while (!work.empty()) {
    const uint32_t s = work.back();
    work.pop_back();
    order.push_back(s);
    const auto visit = [&](uint32_t t) {
      if (!ends[t] || reached[t]) return;
      reached[t] = true;
      work.push_back(t);
    };
    for (const ByteEdge& e : automaton.states[s].bytes) visit(e.target);
    for (const CallEdge& e : automaton.states[s].calls) visit(e.target);
  }
  std::sort(order.begin(), order.end());
  std::vector<uint32_t> place(n, 0);
  for (size_t i = 0; i < order.size(); ++i) place[order[i]] = static_cast<uint32_t>(i);
  std::vector<Automaton::State> kept;
  kept.reserve(order.size());
  for (const uint32_t s : order) {
    Automaton::State state = std::move(automaton.states[s]);
    std::erase_if(state.bytes, [&](const ByteEdge& e) { return !ends[e.target]; });
    std::erase_if(state.calls, [&](const CallEdge& e) { return !ends[e.target]; });
    for (ByteEdge& e : state.bytes) e.target = place[e.target];
    for (CallEdge& e : state.calls) e.target = place[e.target];
    kept.push_back(std::move(state));
  }
  automaton.states = std::move(kept);
}

namespace {

// Each state's edges in rising order; nothing where two of them share a byte.
std::optional<std::vector<std::vector<ByteEdge>>> rising_edges(const Automaton& automaton) {
  std::vector<std::vector<ByteEdge>> all;
  for (const Automaton::State& state : automaton.states) {
    std::vector<ByteEdge>& edges = all.emplace_back(state.bytes);
    std::sort(edges.begin(), edges.end(), [](const ByteEdge& a, const ByteEdge& b) { return a.first < b.first; });
    for (size_t i = 1; i < edges.size(); ++i)
      if (edges[i].first <= edges[i - 1].last) return std::nullopt;
  }
  return all;
}

// Pairs of states; kNoState in b where b has died (only subtract goes on then).
constexpr uint32_t kNoState = 0xffffffff;

Result<Automaton> product(const Automaton& a, const Automaton& b, AutomatonBudget& budget, bool subtracting) {
  Automaton out;
  if (a.states.empty()) return out;
  if (b.states.empty() && !subtracting) return out;
  for (const Automaton* automaton : {&a, &b}) {
    for (const Automaton::State& state : automaton->states) REDOUBT_CHECK(budget.spend_looks(1 + state.bytes.size()));
  }
  const auto of_a = rising_edges(a), of_b = rising_edges(b);
  if (!of_a || !of_b) return invalid("grammar: pattern too complex to combine with another");
  const std::vector<ByteEdge> none;
  std::unordered_map<uint64_t, uint32_t> ids;
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  const auto intern = [&](uint32_t x, uint32_t y) {
    const auto [it, inserted] = ids.try_emplace((uint64_t{x} << 32) | y, static_cast<uint32_t>(pairs.size()));
    if (inserted) {
      pairs.emplace_back(x, y);
      auto& state = out.states.emplace_back();
      const bool in_b = y != kNoState && b.states[y].accepting;
      state.accepting = a.states[x].accepting && in_b != subtracting;
    }
    return it->second;
  };
  intern(0, b.states.empty() ? kNoState : 0);
  for (uint32_t i = 0; i < pairs.size(); ++i) {
    const auto [x, y] = pairs[i];
    REDOUBT_CHECK(budget.spend_states(1));
    const std::vector<ByteEdge>&edges_a = (*of_a)[x], &edges_b = y != kNoState ? (*of_b)[y] : none;
    REDOUBT_CHECK(budget.spend_looks(edges_a.size() + edges_b.size()));
    std::vector<ByteEdge> edges;
    auto from = edges_b.begin();  // what ends before ea's range ends before the next one too
    for (const ByteEdge& ea : edges_a) {
      int next = ea.first;  // of ea's range, what b has not answered yet
      while (from != edges_b.end() && from->last < ea.first) ++from;
      for (auto eb = from; eb != edges_b.end() && eb->first <= ea.last; ++eb) {
        const int first = std::max<int>(next, eb->first), last = std::min(ea.last, eb->last);
        if (subtracting && first > next)
          edges.push_back({static_cast<uint8_t>(next), static_cast<uint8_t>(first - 1), intern(ea.target, kNoState)});
        edges.push_back({static_cast<uint8_t>(first), static_cast<uint8_t>(last), intern(ea.target, eb->target)});
        next = last + 1;
      }
      if (subtracting && next <= ea.last)
        edges.push_back({static_cast<uint8_t>(next), ea.last, intern(ea.target, kNoState)});
    }
    REDOUBT_CHECK(budget.spend_edges(edges.size()));
    out.states[i].bytes = std::move(edges);
  }
  trim(out);
  return out;
}

}  // namespace

Result<Automaton> intersect(const Automaton& a, const Automaton& b, AutomatonBudget& budget) {
  return product(a, b, budget, false);
}

Result<Automaton> subtract(const Automaton& a, const Automaton& b, AutomatonBudget& budget) {
  return product(a, b, budget, true);
}

void merge_equal_states(Automaton& automaton) {
  for (bool changed = true; changed;) {
    changed = false;
    std::map<std::vector<uint32_t>, uint32_t> first_like;
    std::vector<uint32_t> place(automaton.states.size());
    for (uint32_t s = 0; s < automaton.states.size(); ++s) {
      const Automaton::State& state = automaton.states[s];
      std::vector<uint32_t> likeness{state.accepting, static_cast<uint32_t>(state.bytes.size())};
      for (const ByteEdge& e : state.bytes)
        likeness.insert(likeness.end(), {uint32_t{e.first} << 8 | e.last, e.target});
      for (const CallEdge& e : state.calls) likeness.insert(likeness.end(), {e.rule, e.target});
      place[s] = first_like.try_emplace(std::move(likeness), s).first->second;
      changed = changed || place[s] != s;
    }
    for (Automaton::State& state : automaton.states) {
      std::vector<ByteEdge> joined;
      for (ByteEdge e : state.bytes) {
        e.target = place[e.target];
        append_edge(joined, e);
      }
      state.bytes = std::move(joined);
      for (CallEdge& e : state.calls) e.target = place[e.target];
    }
    trim(automaton);
  }
}

bool matches_nothing(const Automaton& automaton) {
  Automaton copy = automaton;
  trim(copy);
  return copy.states.empty();
}

Result<bool> matches(const Automaton& automaton, std::string_view text, AutomatonBudget& budget) {
  if (automaton.states.empty()) return false;
  std::vector<uint32_t> now{0}, next;
  for (const char c : text) {
    next.clear();
    size_t looks = 1;
    for (const uint32_t s : now) looks += automaton.states[s].bytes.size();
    REDOUBT_CHECK(budget.spend_looks(looks));
    for (const uint32_t s : now)
      for (const ByteEdge& e : automaton.states[s].bytes)
        if (e.first <= static_cast<uint8_t>(c) && static_cast<uint8_t>(c) <= e.last) next.push_back(e.target);
    std::sort(next.begin(), next.end());
    next.erase(std::unique(next.begin(), next.end()), next.end());
    now.swap(next);
  }
  return std::any_of(now.begin(), now.end(), [&](uint32_t s) { return automaton.states[s].accepting; });
}

}  // namespace redoubt::grammar
