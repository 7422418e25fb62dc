#include "text/grammar_expr.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/utf8.h"

namespace redoubt::grammar {
namespace {

constexpr char32_t kLastCodePoint = 0x10ffff;

// Translates expressions to an Nfa; recursion is as deep as the expression, which its parser bounded.
class Translator {
 public:
  Translator(const ExprPool& pool, AutomatonBudget& budget) : pool_(pool), budget_(budget) {}

  Result<Automaton> run(ExprId body) {
    const uint32_t start = nfa_.add_state();
    uint32_t end = 0;
    REDOUBT_CHECK(translate(body, start, end));
    nfa_.accept(end);
    return nfa_.determinise(budget_);
  }

 private:
  Status state(uint32_t& made) {
    REDOUBT_CHECK(budget_.spend_states(1));
    made = nfa_.add_state();
    return ok();
  }

  // Adds what leads from `from` over the expression, and says where it ends.
  Status translate(ExprId id, uint32_t from, uint32_t& end) {
    const Expr& expr = pool_[id];
    switch (expr.kind) {
      case ExprKind::nothing:
        return state(end);  // nothing leads there
      case ExprKind::empty:
        end = from;
        return ok();
      case ExprKind::literal:
        return literal(pool_.text(expr), from, end);
      case ExprKind::byte_range:
        REDOUBT_CHECK(state(end));
        nfa_.add_bytes(from, expr.first, expr.last, end);
        return ok();
      case ExprKind::call:
        REDOUBT_CHECK(state(end));
        nfa_.add_call(from, expr.index, end);
        return ok();
      case ExprKind::sequence: {
        end = from;
        for (const ExprId part : expr.parts) REDOUBT_CHECK(translate(part, end, end));
        return ok();
      }
      case ExprKind::choice: {
        uint32_t join = 0;
        REDOUBT_CHECK(state(join));
        REDOUBT_CHECK(budget_.spend_steps(expr.parts.size()));  // an empty part costs no state
        for (const ExprId part : expr.parts) {
          uint32_t part_end = 0;
          REDOUBT_CHECK(translate(part, from, part_end));
          nfa_.add_empty(part_end, join);
        }
        end = join;
        return ok();
      }
      case ExprKind::repeat:
        return repeat(expr, from, end);
      case ExprKind::automaton:
        return embed(pool_.prebuilt(expr), from, end);
    }
    return ok();
  }

  Status literal(const std::string& bytes, uint32_t from, uint32_t& end) {
    end = from;
    for (const char c : bytes) {
      uint32_t next = 0;
      REDOUBT_CHECK(state(next));
      nfa_.add_bytes(end, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
      end = next;
    }
    return ok();
  }

  Status repeat(const Expr& expr, uint32_t from, uint32_t& end) {
    const ExprId body = expr.parts[0];
    uint32_t here = from;
    for (int32_t i = 0; i < expr.min; ++i) {
      REDOUBT_CHECK(budget_.spend_states(1));  // also where the body itself is empty: bounds the loop
      REDOUBT_CHECK(translate(body, here, here));
    }
    if (expr.max < 0) {
      uint32_t loop = 0, body_end = 0;
      REDOUBT_CHECK(state(loop));
      nfa_.add_empty(here, loop);
      REDOUBT_CHECK(translate(body, loop, body_end));
      nfa_.add_empty(body_end, loop);
      // A way out that nothing loops back to, so that what follows cannot be entered from inside the loop's body.
      REDOUBT_CHECK(state(end));
      nfa_.add_empty(loop, end);
      return ok();
    }
    uint32_t out = 0;
    REDOUBT_CHECK(state(out));
    for (int32_t i = expr.min; i < expr.max; ++i) {
      nfa_.add_empty(here, out);
      REDOUBT_CHECK(budget_.spend_states(1));
      REDOUBT_CHECK(translate(body, here, here));
    }
    nfa_.add_empty(here, out);
    end = out;
    return ok();
  }

  Status embed(const Automaton& automaton, uint32_t from, uint32_t& end) {
    REDOUBT_CHECK(state(end));
    for (const Automaton::State& source : automaton.states) {
      REDOUBT_CHECK(budget_.spend_steps(source.bytes.size() + source.calls.size()));
    }
    std::vector<uint32_t> map(automaton.states.size());
    for (uint32_t& made : map) REDOUBT_CHECK(state(made));
    if (!map.empty()) nfa_.add_empty(from, map[0]);
    for (size_t i = 0; i < map.size(); ++i) {
      for (const ByteEdge& edge : automaton.states[i].bytes)
        nfa_.add_bytes(map[i], edge.first, edge.last, map[edge.target]);
      for (const CallEdge& edge : automaton.states[i].calls) nfa_.add_call(map[i], edge.rule, map[edge.target]);
      if (automaton.states[i].accepting) nfa_.add_empty(map[i], end);
    }
    return ok();
  }

  const ExprPool& pool_;
  AutomatonBudget& budget_;
  Nfa nfa_;
};

}  // namespace

std::vector<CodeRange> normalise(std::vector<CodeRange> ranges) {
  std::vector<CodeRange> cut;
  for (CodeRange r : ranges) {  // surrogates are no characters
    r.last = std::min(r.last, kLastCodePoint);
    if (r.first > r.last) continue;
    if (r.first < 0xd800) cut.push_back({r.first, std::min<char32_t>(r.last, 0xd7ff)});
    if (r.last > 0xdfff) cut.push_back({std::max<char32_t>(r.first, 0xe000), r.last});
  }
  std::sort(cut.begin(), cut.end(), [](const CodeRange& a, const CodeRange& b) { return a.first < b.first; });
  std::vector<CodeRange> out;
  for (const CodeRange& r : cut) {
    if (!out.empty() && r.first <= out.back().last + 1)
      out.back().last = std::max(out.back().last, r.last);
    else
      out.push_back(r);
  }
  return out;
}

std::vector<CodeRange> complement(const std::vector<CodeRange>& normalised) {
  std::vector<CodeRange> out;
  char32_t next = 0;
  for (const CodeRange& r : normalised) {
    if (r.first > next) out.push_back({next, r.first - 1});
    next = r.last + 1;
  }
  if (next <= kLastCodePoint) out.push_back({next, kLastCodePoint});
  return normalise(std::move(out));
}

ExprPool::ExprPool() {
  add({.kind = ExprKind::nothing});
  add({.kind = ExprKind::empty});
}

ExprId ExprPool::add(Expr expr) {
  exprs_.push_back(std::move(expr));
  return static_cast<ExprId>(exprs_.size() - 1);
}

ExprId ExprPool::literal(std::string_view bytes) {
  if (bytes.empty()) return empty();
  literals_.emplace_back(bytes);
  return add({.kind = ExprKind::literal, .index = static_cast<uint32_t>(literals_.size() - 1)});
}

ExprId ExprPool::byte_range(uint8_t first, uint8_t last) {
  return add({.kind = ExprKind::byte_range, .first = first, .last = last});
}

ExprId ExprPool::sequence(std::vector<ExprId> parts) {
  std::erase(parts, empty());
  if (parts.empty()) return empty();
  if (parts.size() == 1) return parts[0];
  if (std::find(parts.begin(), parts.end(), nothing()) != parts.end()) return nothing();
  return add({.kind = ExprKind::sequence, .parts = std::move(parts)});
}

ExprId ExprPool::choice(std::vector<ExprId> parts) {
  std::erase(parts, nothing());
  if (parts.empty()) return nothing();
  if (parts.size() == 1) return parts[0];
  return add({.kind = ExprKind::choice, .parts = std::move(parts)});
}

ExprId ExprPool::repeat(ExprId body, int32_t min, int32_t max) {
  if (max == 0 || body == empty()) return empty();
  if (min == 1 && max == 1) return body;
  return add({.kind = ExprKind::repeat, .min = min, .max = max, .parts = {body}});
}

ExprId ExprPool::call(uint32_t rule) { return add({.kind = ExprKind::call, .index = rule}); }

ExprId ExprPool::automaton(Automaton automaton) {
  automata_.push_back(std::move(automaton));
  return add({.kind = ExprKind::automaton, .index = static_cast<uint32_t>(automata_.size() - 1)});
}

// Splits each range where the length of the encoding changes and then where a leading byte's continuations are not the
// full 80-BF, so that what remains is a product of byte ranges.
ExprId ExprPool::code_points(std::vector<CodeRange> ranges) {
  std::vector<ExprId> parts;
  std::vector<CodeRange> work = normalise(std::move(ranges));
  std::reverse(work.begin(), work.end());
  while (!work.empty()) {
    CodeRange r = work.back();
    work.pop_back();
    bool split = false;
    for (const char32_t limit : {0x7fu, 0x7ffu, 0xffffu}) {
      if (r.first <= limit && r.last > limit) {
        work.push_back({limit + 1, r.last});
        work.push_back({r.first, limit});
        split = true;
        break;
      }
    }
    if (split) continue;
    if (r.last > 0x7f) {
      const int tail = r.last > 0xffff ? 3 : r.last > 0x7ff ? 2 : 1;
      for (int i = 1; i <= tail; ++i) {
        const char32_t mask = (char32_t{1} << (6 * i)) - 1;
        if ((r.first & ~mask) == (r.last & ~mask)) continue;
        if ((r.first & mask) != 0) {
          work.push_back({(r.first | mask) + 1, r.last});
          work.push_back({r.first, r.first | mask});
          split = true;
        } else if ((r.last & mask) != mask) {
          work.push_back({r.last & ~mask, r.last});
          work.push_back({r.first, (r.last & ~mask) - 1});
          split = true;
        }
        if (split) break;
      }
      if (split) continue;
    }
    std::string low, high;
    append_utf8(low, r.first);
    append_utf8(high, r.last);
    std::vector<ExprId> bytes;
    for (size_t i = 0; i < low.size(); ++i)
      bytes.push_back(byte_range(static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i])));
    parts.push_back(sequence(std::move(bytes)));
  }
  return choice(std::move(parts));
}

Result<Automaton> build_automaton(const ExprPool& pool, ExprId body, AutomatonBudget& budget) {
  // Made by ourselves, deterministic and trimmed already.
  if (pool[body].kind == ExprKind::automaton) return pool.prebuilt(pool[body]);
  return Translator(pool, budget).run(body);
}

}  // namespace redoubt::grammar
