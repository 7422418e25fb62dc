// What every source of a grammar is translated to first: expressions over bytes, gathered into rules.
//
// An expression is built bottom-up in a pool and named by its index; a rule is a name and a body, and a body may call
// rules (itself too: that is what needs a stack). Code points become UTF-8 byte sequences here, so that everything
// below knows only bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/grammar_automaton.h"

namespace redoubt::grammar {

using ExprId = uint32_t;

struct CodeRange {
  char32_t first = 0, last = 0;  // inclusive
};
// Sorted, disjoint, without surrogates, at most U+10FFFF.
std::vector<CodeRange> normalise(std::vector<CodeRange> ranges);
std::vector<CodeRange> complement(const std::vector<CodeRange>& normalised);

enum class ExprKind : uint8_t { nothing, empty, literal, byte_range, sequence, choice, repeat, call, automaton };

struct Expr {
  ExprKind kind = ExprKind::nothing;
  uint8_t first = 0, last = 0;  // byte_range
  uint32_t index = 0;           // call: the rule; literal, automaton: place in the pool
  int32_t min = 0, max = -1;    // repeat; max -1: without end
  std::vector<ExprId> parts;
};

class ExprPool {
 public:
  ExprPool();
  ExprId nothing() const { return 0; }  // matches no text at all
  ExprId empty() const { return 1; }    // matches ""
  ExprId literal(std::string_view bytes);
  ExprId byte_range(uint8_t first, uint8_t last);
  ExprId sequence(std::vector<ExprId> parts);
  ExprId choice(std::vector<ExprId> parts);
  ExprId repeat(ExprId body, int32_t min, int32_t max);
  ExprId optional(ExprId body) { return choice({empty(), body}); }
  ExprId call(uint32_t rule);
  ExprId automaton(Automaton automaton);
  ExprId code_points(std::vector<CodeRange> ranges);  // one character of the set, as UTF-8

  const Expr& operator[](ExprId id) const { return exprs_[id]; }
  const std::string& text(const Expr& literal) const { return literals_[literal.index]; }
  const Automaton& prebuilt(const Expr& automaton) const { return automata_[automaton.index]; }
  size_t size() const { return exprs_.size(); }

 private:
  ExprId add(Expr expr);
  std::vector<Expr> exprs_;
  std::vector<std::string> literals_;
  std::vector<Automaton> automata_;
};

struct GrammarLimits {
  size_t max_rules = 20'000;
  size_t max_expressions = 500'000;
  int max_depth = 256;  // frames on the stack while matching
  AutomatonLimits automaton;
};

struct Rule {
  std::string name;  // for messages
  ExprId body = 0;
};

// The automaton of one expression; unsupported if it would grow beyond the limits.
Result<Automaton> build_automaton(const ExprPool& pool, ExprId body, AutomatonBudget& budget);

}  // namespace redoubt::grammar
