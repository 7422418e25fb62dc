// A JSON schema as rules of a grammar: every text of the grammar is an instance of the schema.
//
// The reverse does not hold, and need not: keys come in the order of `properties`, white space is bounded, numbers have
// at most 40 digits, an object with `properties` gets no further keys unless additionalProperties allows them by name,
// and a schema without `type` is read as the types its keywords speak of. What is not enforced is refused by name and
// place: Error::param is a JSON pointer to the keyword ("/properties/date/pattern").
// docs/structured-output.md lists the keywords.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
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
  const Decimal* step = nullptr;  // the number is a multiple of it
};
// Unsupported where a bound has more digits than can be told apart, or a step too many.
Result<ExprId> number_in_range(ExprPool& pool, const NumberRange& range, AutomatonBudget& budget);

// A flat schema (see SchemaCompiler::flatten) is an object, or false where nothing can be an instance of it.
inline bool is_never(const Json& flat) { return flat == Json(false); }
// Two schemas at once, as allOf asks; both flat. Unsupported where they cannot be joined.
Result<Json> merge_schemas(const Json& a, const Json& b);
bool is_annotation(const std::string& keyword);  // one that binds no value
// What going through a document costs: one for each value, and more for each 16 bytes of its texts.
size_t weight_of(const Json& value);
size_t weight_of_text(size_t bytes);
// Without the annotations in it, definitions among them; and the same of what stands at a keyword of a schema.
// `weight` grows by what is gone through.
Json bare_schema(const Json& schema, size_t& weight);
Json bare_value(std::string_view keyword, const Json& value, size_t& weight);
inline const std::set<std::string> kJsonTypes = {"null", "boolean", "number", "integer", "string", "array", "object"};
std::set<std::string> types_of(const Json& flat);  // with those its keywords imply
// What `schema` asks of a key that its `properties` do not name; null if nothing.
const Json* of_further_keys(const Json& schema);
// By name: a Json itself looks at one member after the other.
using Members = std::unordered_map<std::string_view, const Json*>;
Members members_of(const Json& object);
// The same of equal values, whatever the order of their keys and whether a whole number has a point.
std::string value_text(const Json& value);

// One of a oneOf, those of a oneOf or an anyOf that stands in its place among them.
struct Alternative {
  Json written;  // null where it was joined with something
  Json whole;    // flat
  std::string at;
  size_t group = 0;  // those of one group come of an anyOf: they may share instances
};
// Makes sure that no text of ours is an instance of two, and requires a key that tells them apart where they leave it
// out (a pydantic model's `kind: Literal["a"] = "a"`); `written` is null then. Unsupported where it is not evident.
// `spend` is asked for what is gone through.
Status tell_apart(std::vector<Alternative>& alternatives, const std::function<Status(size_t)>& spend);

// Places in a schema are JSON pointers. An error's `param` is a keyword where it is made, and the keyword's place
// (with a leading slash) once it is placed.
std::string place_of(std::string_view at, std::string_view name);
std::string place_of(std::string_view at, std::string_view keyword, std::string_view name);
Error placed(Error error, std::string_view at);

class SchemaCompiler {
 public:
  explicit SchemaCompiler(const Json& root, SchemaNumbers numbers = SchemaNumbers::unknown)
      : root_(root), numbers_(numbers) {}
  Result<GrammarPtr> run();
  Result<GrammarPtr> run_any_object();

 private:
  uint32_t new_rule(std::string name);
  // A call of the schema's rule, which is made once. The schema is bare.
  Result<ExprId> schema(const Json& schema, std::string at);
  Result<ExprId> referenced(const Json& target, std::string at);  // the same of one in the client's document
  Result<GrammarPtr> link(uint32_t root);

  Result<ExprId> body(const Json& schema, const std::string& at);
  Result<ExprId> typed(const Json& flat, const std::string& at);
  Result<Json> listed(const Json& flat);
  Result<ExprId> enumeration(const Json& flat);
  Result<ExprId> alternatives(const Json& flat, const std::string& at);
  Result<ExprId> exclusive_alternatives(const Json& flat, const std::string& at);
  struct ListedAt {
    const std::string& keyword;
    const std::string& at;
    size_t group = 0;  // 0: each is its own
  };
  Status expand(const Json& flat, const ListedAt& list, std::vector<Alternative>& out, int depth);
  // body: of the string keywords, made when the first string asks for it.
  Result<bool> admits(const Json& flat, const Json& value, std::optional<Automaton>& body);
  ExprId written(const Json& value);

  Result<Json> flatten(const Json& schema, const std::string& at, int depth = 0);  // without $ref and allOf
  Status spend_joining(size_t weight, const std::string& keyword);
  Status spend_copying(size_t weight);
  Result<Json> joined(const Json& a, const Json& b, const std::string& keyword);
  Result<Json> flatten_here(const Json& schema, const std::string& at, int depth);
  Result<const Json*> resolve(const std::string& reference) const;
  const Json* member_of(const Json& object, const std::string& key) const;
  Status check_keywords(const Json& schema, const std::string& at) const;
  Error written_place(Error error) const;

  Result<ExprId> string(const Json& flat);
  Result<Automaton> string_body(const Json& flat);  // between the quotes
  Result<ExprId> number(const Json& flat, bool integer);
  Result<ExprId> array(const Json& flat, const std::string& at);
  Result<ExprId> array_of_different(const Json& flat, const std::string& at, int64_t min, int64_t max);
  Result<ExprId> object(const Json& flat, const std::string& at);
  Result<ExprId> further_key(const Json& flat, const std::string& at);  // where an object names none

  ExprId any_string();
  ExprId any_value();
  ExprId any_object();
  ExprId white_space();
  const Automaton& string_character();
  Result<Automaton> characters_counted(int64_t min, int64_t max);  // max -1: without end
  ExprId colon();

  const Json& root_;
  const SchemaNumbers numbers_;
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
  std::optional<Automaton> character_;                        // of a string
  std::deque<OpenRule> open_;                                 // rules without a body yet
  std::map<std::string, ExprId> shared_;                      // the calls of fixed rules by name
  std::unordered_map<const Json*, ExprId> targets_;           // of references
  mutable std::unordered_map<const Json*, Members> indexed_;  // large objects that references point into
  size_t schema_bytes_ = 0, flattened_ = 0, joined_ = 0, copied_ = 0;
};

}  // namespace redoubt::grammar
