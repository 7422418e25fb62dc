// Which kinds of value the expressions of policies can have, told from the text alone: so that what never fits is
// found before a request meets it.
//
// Sound, and no more than that: whatever the request, an expression that can be evaluated has a value of the kinds said
// here, so one without any fails wherever it is evaluated. Tests bind this to the evaluator, node by node
// (policy_types_test.cpp, and tests/policy over the cases on which Cedar itself is asked).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "governance/cedar_program.h"

namespace redoubt {

// A set of kinds, with true and false apart.
class Kinds {
 public:
  constexpr Kinds() = default;
  static constexpr Kinds of(cedar::Kind kind) {
    return kind == cedar::Kind::boolean ? Kinds(3) : Kinds(2u << static_cast<unsigned>(kind));
  }
  static constexpr Kinds of(bool value) { return Kinds(value ? 2 : 1); }
  static constexpr Kinds all() { return Kinds((1u << 11) - 1); }
  static Kinds of(const cedar::Value& value) {
    return value.kind == cedar::Kind::boolean ? of(value.boolean) : of(value.kind);
  }

  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool meets(Kinds other) const { return (bits_ & other.bits_) != 0; }
  constexpr Kinds operator|(Kinds other) const { return Kinds(bits_ | other.bits_); }
  constexpr Kinds operator&(Kinds other) const { return Kinds(bits_ & other.bits_); }
  constexpr Kinds& operator|=(Kinds other) { return *this = *this | other; }
  std::string text() const;  // "string", "entity or set"

 private:
  explicit constexpr Kinds(unsigned bits) : bits_(static_cast<uint16_t>(bits)) {}
  uint16_t bits_ = 0;
};

// What attributes are taken to be of.
enum class Vocabulary : uint8_t {
  any,     // any kind
  served,  // of context and principal what a server puts there (docs/policies.md)
};

struct PolicyTypes {
  // What never fits, in the order of nodes. Either the node fails whenever it is evaluated, or, if it does not `fail`,
  // it compares what is never equal.
  struct Misfit {
    uint32_t node = 0;
    bool fails = true;
    std::string what;
  };
  std::vector<Kinds> kinds;  // of each node
  std::vector<Misfit> misfits;

  bool never_applies(const cedar::Policy& policy) const;  // a condition of it is never true
};
// Can what a server asks about have such an entity as its "principal", "action" or "resource"?
bool may_be(std::string_view variable, std::string_view type);
PolicyTypes types_of(const cedar::Program& program, Vocabulary vocabulary);

}  // namespace redoubt
