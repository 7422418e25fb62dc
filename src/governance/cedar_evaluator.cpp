#include "governance/cedar_evaluator.h"

#include <fmt/format.h>

#include <algorithm>

#include "governance/cedar_extensions.h"
#include "governance/cedar_lexer.h"

namespace redoubt::cedar {

const Entity* Request::find(const EntityName& name) const {
  const Entity* entity = near != nullptr ? near->find(name) : nullptr;
  return entity == nullptr && far != nullptr ? far->find(name) : entity;
}

Fields Request::fields_of(const Value& value) const {
  if (value.kind == Kind::record) return {.record = value.record};
  if (value.kind != Kind::entity) return {.none = true};
  const Entity* entity = find(*value.entity);
  return {.record = entity != nullptr ? entity->attributes : nullptr, .unknown = entity == nullptr};
}

bool Request::is_within(const EntityName& inner, const EntityName& outer) const {
  if (inner == outer) return true;
  const Entity* entity = find(inner);
  return entity != nullptr && entity->is_within(outer);
}

// Greedy with one step back: the last star seen takes one more character whenever the rest does not fit.
bool matches(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == kWildcard) {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == kWildcard) ++p;
  return p == pattern.size();
}

bool Evaluator::fail(Fault fault, uint32_t node, Kind found) {
  error_ = {fault, node, found};
  return false;
}

bool Evaluator::expect(uint32_t child, Kind kind, Value& out) {
  if (!evaluate(child, out)) return false;
  return out.kind == kind || fail(Fault::wrong_kind, child, out.kind);
}

bool Evaluator::evaluate(uint32_t at, Value& out) {
  const Node& node = program_.nodes[at];
  switch (node.op) {
    case Op::constant:
      out = node.value;
      return true;
    case Op::principal:
      out = Value::of(&request_.principal);
      return true;
    case Op::action:
      out = Value::of(&request_.action);
      return true;
    case Op::resource:
      out = Value::of(&request_.resource);
      return true;
    case Op::context: {
      static constexpr RecordValue kEmpty{};
      out = Value::of(request_.context != nullptr ? request_.context : &kEmpty);
      return true;
    }
    case Op::logical_and:
    case Op::logical_or:
      return junction(node, at, out);
    case Op::logical_not:
      if (!expect(child(node, 0), Kind::boolean, out)) return false;
      out = Value::of(!out.boolean);
      return true;
    case Op::condition:
      if (!expect(child(node, 0), Kind::boolean, out)) return false;
      return evaluate(child(node, out.boolean ? 1 : 2), out);
    case Op::equal:
    case Op::not_equal:
    case Op::less:
    case Op::less_equal:
    case Op::greater:
    case Op::greater_equal:
      return comparison(node, at, out);
    case Op::sum:
    case Op::product:
    case Op::negate:
      return arithmetic(node, at, out);
    case Op::in:
      return membership(node, at, out);
    case Op::is:
      if (!expect(child(node, 0), Kind::entity, out)) return false;
      out = Value::of(out.entity->type == node.value.string());
      return true;
    case Op::is_in:
      if (!expect(child(node, 0), Kind::entity, out)) return false;
      if (out.entity->type == node.value.string()) return within(node, out, out);
      out = Value::of(false);
      return true;
    case Op::like:
      if (!expect(child(node, 0), Kind::string, out)) return false;
      out = Value::of(matches(out.string(), node.value.string()));
      return true;
    case Op::has:
    case Op::attribute:
      return attribute(node, at, out);
    case Op::has_path:
      return path(node, out);
    case Op::has_tag:
    case Op::get_tag:
      return tag(node, at, out);
    case Op::contains:
    case Op::contains_all:
    case Op::contains_any:
    case Op::is_empty:
      return set_method(node, at, out);
    case Op::set:
    case Op::record:
      return literal(node, out);
    case Op::make_ip:
    case Op::make_decimal:
    case Op::make_datetime:
    case Op::make_duration:
      return made(node, at, out);
    case Op::is_ipv4:
    case Op::is_ipv6:
    case Op::is_loopback:
    case Op::is_multicast:
    case Op::is_in_range:
      return ip_method(node, at, out);
    case Op::decimal_less:
    case Op::decimal_less_equal:
    case Op::decimal_greater:
    case Op::decimal_greater_equal:
      return decimal_method(node, at, out);
    default:
      return time_method(node, at, out);
  }
}

bool Evaluator::junction(const Node& node, uint32_t, Value& out) {
  const bool decisive = node.op == Op::logical_or;  // the value that ends it
  for (uint32_t i = 0; i < node.count; ++i) {
    if (!expect(child(node, i), Kind::boolean, out)) return false;
    if (out.boolean == decisive) return true;
  }
  return true;
}

bool Evaluator::comparison(const Node& node, uint32_t, Value& out) {
  Value left, right;
  if (!evaluate(child(node, 0), left) || !evaluate(child(node, 1), right)) return false;
  if (node.op == Op::equal || node.op == Op::not_equal) {
    out = Value::of(equal(left, right) == (node.op == Op::equal));
    return true;
  }
  const auto ordered = [](Kind kind) {
    return kind == Kind::integer || kind == Kind::datetime || kind == Kind::duration;
  };
  if (!ordered(left.kind)) return fail(Fault::wrong_kind, child(node, 0), left.kind);
  if (right.kind != left.kind) return fail(Fault::wrong_kind, child(node, 1), right.kind);
  const int64_t a = left.integer, b = right.integer;
  out = Value::of(node.op == Op::less         ? a < b
                  : node.op == Op::less_equal ? a <= b
                  : node.op == Op::greater    ? a > b
                                              : a >= b);
  return true;
}

bool Evaluator::arithmetic(const Node& node, uint32_t at, Value& out) {
  if (!expect(child(node, 0), Kind::integer, out)) return false;
  int64_t result = out.integer;
  if (node.op == Op::negate) {
    if (__builtin_sub_overflow(int64_t{0}, result, &result)) return fail(Fault::overflow, at);
  }
  for (uint32_t i = 1; i < node.count; ++i) {
    const uint32_t term = child(node, i);
    Value operand;
    if (!expect(term & ~kSubtract, Kind::integer, operand)) return false;
    const bool overflows = node.op == Op::product    ? __builtin_mul_overflow(result, operand.integer, &result)
                           : (term & kSubtract) != 0 ? __builtin_sub_overflow(result, operand.integer, &result)
                                                     : __builtin_add_overflow(result, operand.integer, &result);
    if (overflows) return fail(Fault::overflow, at);
  }
  out = Value::of(result);
  return true;
}

bool Evaluator::membership(const Node& node, uint32_t, Value& out) {
  Value inner;
  return evaluate(child(node, 0), inner) && within(node, inner, out);
}

bool Evaluator::within(const Node& node, const Value& of, Value& out) {
  const Value inner = of;  // `out` may be the same
  Value outer;
  if (!evaluate(child(node, 1), outer)) return false;
  if (inner.kind != Kind::entity) return fail(Fault::wrong_kind, child(node, 0), inner.kind);
  if (outer.kind == Kind::entity) {
    out = Value::of(request_.is_within(*inner.entity, *outer.entity));
    return true;
  }
  if (outer.kind != Kind::set) return fail(Fault::wrong_kind, child(node, 1), outer.kind);
  bool found = false;  // every item must be an entity, also after one that fits
  for (const Value& item : outer.set->items) {
    if (item.kind != Kind::entity) return fail(Fault::wrong_kind, child(node, 1), item.kind);
    found = found || request_.is_within(*inner.entity, *item.entity);
  }
  out = Value::of(found);
  return true;
}

bool Evaluator::attribute(const Node& node, uint32_t at, Value& out) {
  if (!evaluate(child(node, 0), out)) return false;
  const bool asks = node.op == Op::has;
  const Fields fields = request_.fields_of(out);
  if (fields.none) return fail(Fault::wrong_kind, child(node, 0), out.kind);
  if (fields.unknown && !asks) return fail(Fault::no_entity, at);
  const Value* value = fields.find(node.value.string());
  if (asks) {
    out = Value::of(value != nullptr);
    return true;
  }
  if (value == nullptr) return fail(Fault::no_attribute, at);
  out = *value;
  return true;
}

bool Evaluator::path(const Node& node, Value& out) {
  if (!evaluate(child(node, 0), out)) return false;
  for (std::string_view rest = node.value.string();;) {
    const Fields fields = request_.fields_of(out);
    if (fields.none) return fail(Fault::wrong_kind, child(node, 0), out.kind);
    const Value* value = fields.find(take_key(rest, node.op));
    if (value == nullptr || rest.empty()) {
      out = Value::of(value != nullptr);
      return true;
    }
    out = *value;
  }
}

bool Evaluator::tag(const Node& node, uint32_t at, Value& out) {
  Value object, key;
  if (!evaluate(child(node, 0), object) || !evaluate(child(node, 1), key)) return false;
  if (object.kind != Kind::entity) return fail(Fault::wrong_kind, child(node, 0), object.kind);
  if (key.kind != Kind::string) return fail(Fault::wrong_kind, child(node, 1), key.kind);
  const bool asks = node.op == Op::has_tag;
  const Entity* entity = request_.find(*object.entity);
  if (entity == nullptr && !asks) return fail(Fault::no_entity, at);
  const Value* value = entity != nullptr && entity->tags != nullptr ? entity->tags->find(key.string()) : nullptr;
  if (asks) {
    out = Value::of(value != nullptr);
    return true;
  }
  if (value == nullptr) return fail(Fault::no_tag, at);
  out = *value;
  return true;
}

bool Evaluator::set_method(const Node& node, uint32_t, Value& out) {
  Value object, argument;
  if (!evaluate(child(node, 0), object)) return false;
  if (node.count > 1 && !evaluate(child(node, 1), argument)) return false;
  if (object.kind != Kind::set) return fail(Fault::wrong_kind, child(node, 0), object.kind);
  const auto items = object.set->items;
  if (node.op == Op::is_empty) {
    out = Value::of(items.empty());
    return true;
  }
  const auto less = [](const Value& a, const Value& b) { return compare(a, b) < 0; };
  if (node.op == Op::contains) {
    out = Value::of(std::binary_search(items.begin(), items.end(), argument, less));
    return true;
  }
  if (argument.kind != Kind::set) return fail(Fault::wrong_kind, child(node, 1), argument.kind);
  const auto wanted = argument.set->items;
  if (node.op == Op::contains_all) {
    out = Value::of(std::includes(items.begin(), items.end(), wanted.begin(), wanted.end(), less));
  } else {
    out = Value::of(std::any_of(wanted.begin(), wanted.end(), [&](const Value& value) {
      return std::binary_search(items.begin(), items.end(), value, less);
    }));
  }
  return true;
}

bool Evaluator::literal(const Node& node, Value& out) {
  if (node.op == Op::set) {
    const auto items = arena_.array<Value>(node.count);
    for (uint32_t i = 0; i < node.count; ++i) {
      if (!evaluate(child(node, i), items[i])) return false;
    }
    out = arena_.set(items);
    return true;
  }
  const auto fields = arena_.array<Field>(node.count);
  for (uint32_t i = 0; i < node.count; ++i) {
    fields[i].key = program_.keys[node.first + i];
    if (!evaluate(child(node, i), fields[i].value)) return false;
  }
  out = arena_.record(fields);
  return true;
}

bool Evaluator::made(const Node& node, uint32_t at, Value& out) {
  if (!expect(child(node, 0), Kind::string, out)) return false;
  const auto value = parse_extension(*kind_made_by(node.op), out.string(), arena_);
  if (!value) return fail(Fault::not_in_text, at);
  out = *value;
  return true;
}

bool Evaluator::ip_method(const Node& node, uint32_t, Value& out) {
  if (!expect(child(node, 0), Kind::ip, out)) return false;
  const IpRange& ip = *out.ip;
  switch (node.op) {
    case Op::is_ipv4:
      out = Value::of(!ip.is_v6);
      return true;
    case Op::is_ipv6:
      out = Value::of(ip.is_v6);
      return true;
    case Op::is_loopback:
      out = Value::of(is_loopback(ip));
      return true;
    case Op::is_multicast:
      out = Value::of(is_multicast(ip));
      return true;
    default: {
      Value outer;
      if (!expect(child(node, 1), Kind::ip, outer)) return false;
      out = Value::of(is_in_range(ip, *outer.ip));
      return true;
    }
  }
}

bool Evaluator::decimal_method(const Node& node, uint32_t, Value& out) {
  Value other;
  if (!expect(child(node, 0), Kind::decimal, out) || !expect(child(node, 1), Kind::decimal, other)) return false;
  const int64_t a = out.integer, b = other.integer;
  out = Value::of(node.op == Op::decimal_less         ? a < b
                  : node.op == Op::decimal_less_equal ? a <= b
                  : node.op == Op::decimal_greater    ? a > b
                                                      : a >= b);
  return true;
}

bool Evaluator::time_method(const Node& node, uint32_t at, Value& out) {
  const bool of_datetime =
      node.op == Op::offset || node.op == Op::duration_since || node.op == Op::to_date || node.op == Op::to_time;
  if (!expect(child(node, 0), of_datetime ? Kind::datetime : Kind::duration, out)) return false;
  const int64_t ms = out.integer;
  switch (node.op) {
    case Op::offset: {
      if (!expect(child(node, 1), Kind::duration, out)) return false;
      int64_t moved;
      if (__builtin_add_overflow(ms, out.integer, &moved)) return fail(Fault::overflow, at);
      out = Value::number(Kind::datetime, moved);
      return true;
    }
    case Op::duration_since: {
      if (!expect(child(node, 1), Kind::datetime, out)) return false;
      int64_t between;
      if (__builtin_sub_overflow(ms, out.integer, &between)) return fail(Fault::overflow, at);
      out = Value::number(Kind::duration, between);
      return true;
    }
    case Op::to_date: {
      const auto date = date_of(ms);
      if (!date) return fail(Fault::overflow, at);
      out = Value::number(Kind::datetime, *date);
      return true;
    }
    case Op::to_time:
      out = Value::number(Kind::duration, time_of(ms));
      return true;
    default:
      out = Value::of(ms / unit_ms(node.op));
      return true;
  }
}

std::string describe(const EvaluationError& error, const Program& program, std::string_view text) {
  const Node& node = program.nodes[error.node];
  const Place place = place_of(text, node.position);
  const std::string where = fmt::format("line {}, column {}: ", place.line, place.column);
  switch (error.fault) {
    case Fault::none:
      return {};
    case Fault::wrong_kind:
      return where + fmt::format("a value of type {} has no place here", kind_name(error.found));
    case Fault::no_attribute:
      return where + fmt::format("there is no attribute {}", in_quotes(node.value.string()));
    case Fault::no_entity:
      return where + "an attribute or tag of an entity that is not known";
    case Fault::no_tag:
      return where + "the entity has no such tag";
    case Fault::overflow:
      return where + "the result is beyond 64 bits";
    case Fault::not_in_text:
      return where + "the text is not one of this type";
  }
  return {};
}

}  // namespace redoubt::cedar
