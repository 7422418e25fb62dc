// Evaluates one expression of a Program for one request. Expressions have no side effects and always end: each node is
// visited at most once, and the depth of the recursion is that of the expression (ParseLimits).
#pragma once

#include <cstdint>
#include <string>

#include "governance/cedar_entities.h"
#include "governance/cedar_program.h"

namespace redoubt::cedar {

// The attributes of a value, as `.`, `has` and the index read them.
struct Fields {
  const RecordValue* record = nullptr;  // null: empty
  bool none = false;                    // neither a record nor an entity
  bool unknown = false;                 // an entity that nobody has described

  const Value* find(std::string_view key) const { return record != nullptr ? record->find(key) : nullptr; }
};

// What is asked. All borrowed. `near` holds what belongs to this request (its principal, its resource), `far` what all
// requests share; an entity is looked for in that order. Either may be null.
struct Request {
  EntityName principal, action, resource;
  const RecordValue* context = nullptr;  // null: empty
  const Entities* near = nullptr;
  const Entities* far = nullptr;

  const Entity* find(const EntityName& name) const;
  Fields fields_of(const Value& value) const;
  bool is_within(const EntityName& inner, const EntityName& outer) const;  // equal, or belongs to it
};

enum class Fault : uint8_t {
  none,
  wrong_kind,    // an operand of a kind that the operator does not take
  no_attribute,  // of an entity or record
  no_entity,     // an attribute or tag of an entity that nobody has described
  no_tag,
  overflow,     // of 64-bit arithmetic
  not_in_text,  // ip("..."), decimal, datetime or duration of a text that is none
};

struct EvaluationError {
  Fault fault = Fault::none;
  uint32_t node = 0;
  Kind found = Kind::boolean;  // of wrong_kind
};

class Evaluator {
 public:
  // Values that arise lie in `arena`, and die with it.
  Evaluator(const Program& program, const Request& request, Arena& arena)
      : program_(program), request_(request), arena_(arena) {}

  // True if it could be evaluated; else error() says what was in the way.
  bool evaluate(uint32_t node, Value& out);
  const EvaluationError& error() const { return error_; }

 private:
  bool fail(Fault fault, uint32_t node, Kind found = Kind::boolean);
  bool expect(uint32_t child, Kind kind, Value& out);  // evaluates, and the value is of that kind
  uint32_t child(const Node& node, uint32_t i) const { return program_.children[node.first + i]; }

  bool junction(const Node& node, uint32_t at, Value& out);
  bool comparison(const Node& node, uint32_t at, Value& out);
  bool arithmetic(const Node& node, uint32_t at, Value& out);
  bool membership(const Node& node, uint32_t at, Value& out);
  bool within(const Node& node, const Value& inner, Value& out);
  bool attribute(const Node& node, uint32_t at, Value& out);
  bool path(const Node& node, Value& out);
  bool tag(const Node& node, uint32_t at, Value& out);
  bool set_method(const Node& node, uint32_t at, Value& out);
  bool literal(const Node& node, Value& out);
  bool made(const Node& node, uint32_t at, Value& out);
  bool ip_method(const Node& node, uint32_t at, Value& out);
  bool decimal_method(const Node& node, uint32_t at, Value& out);
  bool time_method(const Node& node, uint32_t at, Value& out);

  const Program& program_;
  const Request& request_;
  Arena& arena_;
  EvaluationError error_;
};

// Does the text match a pattern in which kWildcard stands for any characters?
bool matches(std::string_view text, std::string_view pattern);

// "line 3, column 9: the record has no attribute \"purpose\"".
std::string describe(const EvaluationError& error, const Program& program, std::string_view text);

}  // namespace redoubt::cedar
