// Policies in the flat form that is evaluated: all expressions of a set lie in one array of nodes, children before
// parents, constants folded. There is no other tree.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "governance/cedar_value.h"

namespace redoubt::cedar {

enum class Op : uint8_t {
  constant,  // value
  principal,
  action,
  resource,
  context,  // the request's parts
  logical_and,
  logical_or,
  logical_not,  // and, or: two or more children, left to right, as far as needed
  condition,    // if, then, else
  equal,
  not_equal,
  less,
  less_equal,
  greater,
  greater_equal,
  sum,  // children; kSubtract in a child's index takes it away
  product,
  negate,
  in,     // entity in entity or set of entities
  is,     // value: the type's name
  is_in,  // is, and then in; the entity is evaluated once
  like,   // value: the pattern, stars as kWildcard
  has,
  has_path,   // value: names with dots between, `a has b.c`: a has b, and what lies there has c
  attribute,  // value: the key
  has_tag,
  get_tag,
  contains,
  contains_all,
  contains_any,
  is_empty,
  set,     // children
  record,  // children; keys beside them
  make_ip,
  make_decimal,
  make_datetime,
  make_duration,
  is_ipv4,
  is_ipv6,
  is_loopback,
  is_multicast,
  is_in_range,
  decimal_less,
  decimal_less_equal,
  decimal_greater,
  decimal_greater_equal,
  offset,
  duration_since,
  to_date,
  to_time,
  to_milliseconds,
  to_seconds,
  to_minutes,
  to_hours,
  to_days,
};

inline constexpr uint32_t kSubtract = 1u << 31;

struct Node {
  Op op = Op::constant;
  uint32_t first = 0;  // its children are children[first, first + count)
  uint32_t count = 0;
  uint32_t position = 0;  // in the text, for messages
  Value value;
};

// The kind that a make_ node makes; empty of others.
inline std::optional<Kind> kind_made_by(Op op) {
  switch (op) {
    case Op::make_ip:
      return Kind::ip;
    case Op::make_decimal:
      return Kind::decimal;
    case Op::make_datetime:
      return Kind::datetime;
    case Op::make_duration:
      return Kind::duration;
    default:
      return std::nullopt;
  }
}

// In milliseconds, of the numbers that a to_milliseconds .. to_days node makes; 0 of others.
inline int64_t unit_ms(Op op) {
  switch (op) {
    case Op::to_milliseconds:
      return 1;
    case Op::to_seconds:
      return 1000;
    case Op::to_minutes:
      return 60'000;
    case Op::to_hours:
      return 3'600'000;
    case Op::to_days:
      return 86'400'000;
    default:
      return 0;
  }
}

// Of the keys that a has or has_path node asks for, one within the other, takes the first. `rest` begins as the node's
// string; of has that is one key, of has_path several between points.
inline std::string_view take_key(std::string_view& rest, Op op) {
  const std::string_view key = op == Op::has_path ? rest.substr(0, rest.find('.')) : rest;
  rest.remove_prefix(std::min(rest.size(), key.size() + 1));
  return key;
}

// What a policy's head asks of the principal, action or resource.
struct Scope {
  enum class Test : uint8_t { any, equal, in, is, is_in };
  Test test = Test::any;
  std::vector<const EntityName*> names;  // of equal, in, is_in: one, or several in an action's list
  std::string_view type;                 // of is, is_in
};

enum class Effect : uint8_t { permit, forbid };
std::string_view effect_name(Effect effect);

struct Policy {
  std::string_view id;  // of @id("..."), else policy0, policy1, ... by place in the text
  Effect effect = Effect::permit;
  Scope principal, action, resource;
  std::vector<uint32_t> conditions;  // nodes that must all be true, in this order; `unless` is a logical_not
  std::vector<std::pair<std::string_view, std::string_view>> annotations;
  uint32_t begin = 0, end = 0;  // of its text
};

struct Program {
  std::vector<Node> nodes;
  std::vector<uint32_t> children;
  std::vector<std::string_view> keys;  // of a record node's child i: keys[first + i]
  std::vector<Policy> policies;
};

}  // namespace redoubt::cedar
