// A JSON schema as rules of a grammar: every text of the grammar is an instance of the schema.
//
// The reverse does not hold, and need not: keys come in the order of `properties`, white space is bounded, numbers have
// at most 40 digits, an object with `properties` gets no further keys unless additionalProperties allows them by name,
// and a schema without `type` is read as the types its keywords speak of. What is not enforced is refused by name and
// place: Error::param is a JSON pointer to the keyword ("/properties/date/pattern").
// docs/structured-output.md lists the keywords.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/json.h"
#include "text/grammar.h"
#include "text/grammar_expr.h"

namespace redoubt::grammar {

// A decimal number as digits: 0.d1d2d3... x 10^exponent, without leading or trailing zeros; zero has no digits.
struct Decimal {
  std::string digits;
  int exponent = 0;
  bool negative = false;

  char integer_digit(int place, int length) const;  // of the number written with `length` integer digits
  char fraction_digit(int place) const;
  int integer_digits() const { return digits.empty() || exponent < 1 ? 1 : exponent; }
};
Decimal to_decimal(const Json& number);

struct Bound {
  Decimal value;
  bool exclusive = false;
};
struct NumberRange {
  const Bound* low = nullptr;
  const Bound* high = nullptr;
  bool integers_only = false;
};
// Unsupported where a bound has more digits than can be told apart.
Result<ExprId> number_in_range(ExprPool& pool, const NumberRange& range, AutomatonBudget& budget);

// Two schemas at once, as allOf asks; both flat (see SchemaCompiler::flatten). Unsupported where they cannot be joined.
Result<Json> merge_schemas(const Json& a, const Json& b);
// Whether no value can be an instance of both; flat schemas. False where it is not evident.
bool evidently_disjoint(const Json& a, const Json& b);
std::set<std::string> types_of(const Json& flat);  // with those its keywords imply

// Places in a schema are JSON pointers. An error's `param` is a keyword where it is made, and the keyword's place
// (with a leading slash) once it is placed.
std::string place_of(std::string_view at, std::string_view name);
std::string place_of(std::string_view at, std::string_view keyword, std::string_view name);
Error placed(Error error, std::string_view at);

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const Json& root) : root_(root) {}
  Result<GrammarPtr> run();
  Result<GrammarPtr> run_any_object();

 private:
  uint32_t new_rule(std::string name);
  Result<ExprId> schema(const Json& schema, std::string at);  // a call of the schema's rule, which is made once
  Result<GrammarPtr> link(uint32_t root);

  Result<ExprId> body(const Json& schema, const std::string& at);
  Result<ExprId> typed(const Json& flat, const std::string& at);
  Result<ExprId> enumeration(const Json& flat);
  Result<ExprId> alternatives(const Json& flat, const std::string& keyword, const std::string& at);
  Result<bool> admits(const Json& flat, const Json& value);
  ExprId written(const Json& value);

  Result<Json> flatten(const Json& schema, const std::string& at, int depth = 0);  // without $ref and allOf
  Status count_joining(const Json& a, const Json& b);
  Result<Json> joined(const Json& a, const Json& b);
  Result<Json> flatten_here(const Json& schema, const std::string& at, int depth);
  Result<const Json*> resolve(const std::string& reference) const;
  Status check_keywords(const Json& schema, const std::string& at) const;
  Error written_place(Error error) const;

  Result<ExprId> string(const Json& flat);
  Result<Automaton> string_body(const Json& flat);  // between the quotes
  Result<ExprId> number(const Json& flat, bool integer);
  Result<ExprId> array(const Json& flat, const std::string& at);
  Result<ExprId> object(const Json& flat, const std::string& at);

  ExprId any_string();
  ExprId any_value();
  ExprId any_object();
  ExprId white_space();
  Automaton string_character();
  Result<Automaton> characters_counted(int64_t min, int64_t max);  // max -1: without end
  ExprId colon();

  const Json& root_;
  ExprPool pool_;
  std::vector<Rule> rules_;
  GrammarLimits limits_{.max_depth = 64};
  AutomatonBudget budget_{limits_.automaton};
  std::map<std::string, uint32_t> known_;  // a schema's text: its rule
  struct OpenRule {
    uint32_t rule;
    Json source;
    std::string at;  // where it stands; of equal schemas, the first
  };
  std::deque<OpenRule> open_;             // rules without a body yet
  std::map<std::string, ExprId> shared_;  // the calls of fixed rules by name
  size_t schema_bytes_ = 0, flattened_ = 0, joined_ = 0;
};

}  // namespace redoubt::grammar
