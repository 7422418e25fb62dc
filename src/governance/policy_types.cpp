#include "governance/policy_types.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "governance/cedar_extensions.h"
#include "governance/policy_actions.h"

namespace redoubt {
namespace {

using cedar::Kind;
using cedar::Node;
using cedar::Op;

constexpr Kinds kBoolean = Kinds::of(Kind::boolean), kInteger = Kinds::of(Kind::integer),
                kString = Kinds::of(Kind::string), kEntity = Kinds::of(Kind::entity), kSet = Kinds::of(Kind::set),
                kRecord = Kinds::of(Kind::record), kIp = Kinds::of(Kind::ip), kDecimal = Kinds::of(Kind::decimal),
                kDatetime = Kinds::of(Kind::datetime), kDuration = Kinds::of(Kind::duration);
constexpr Kinds kOrdered = kInteger | kDatetime | kDuration;

// Whose attributes a server makes.
enum class Source : uint8_t { other, principal, tenant, labels, context };

class Inference {
 public:
  Inference(const cedar::Program& program, Vocabulary vocabulary) : program_(program), vocabulary_(vocabulary) {}

  PolicyTypes run() {
    types_.kinds.reserve(program_.nodes.size());
    sources_.resize(program_.nodes.size(), Source::other);
    for (uint32_t i = 0; i < program_.nodes.size(); ++i) {  // children come first
      at_ = i;
      types_.kinds.push_back(kinds_of(program_.nodes[i]));
    }
    for (const cedar::Policy& policy : program_.policies) {
      for (const uint32_t condition : policy.conditions) need_at(condition, kBoolean);
    }
    std::ranges::stable_sort(types_.misfits, {}, &PolicyTypes::Misfit::node);
    return std::move(types_);
  }

 private:
  uint32_t child(const Node& node, uint32_t i) const { return program_.children[node.first + i] & ~cedar::kSubtract; }
  Kinds of_child(const Node& node, uint32_t i) const { return types_.kinds[child(node, i)]; }

  // Has the value one of these kinds, if there is a value? Where it never has, that is told of.
  bool need_at(uint32_t at, Kinds wanted) {
    const Kinds found = types_.kinds[at];
    if (found.meets(wanted)) return true;
    if (!found.empty())
      types_.misfits.push_back({.node = at, .what = fmt::format("expected {}, found {}", wanted.text(), found.text())});
    return false;
  }
  bool need(const Node& node, uint32_t i, Kinds wanted) { return need_at(child(node, i), wanted); }
  bool have_values(const Node& node) const {
    for (uint32_t i = 0; i < node.count; ++i) {
      if (of_child(node, i).empty()) return false;
    }
    return true;
  }
  // Of an operator that evaluates all its children and takes these kinds.
  Kinds taking(const Node& node, Kinds first, Kinds second, Kinds result) {
    bool fits = need(node, 0, first);
    if (node.count > 1) fits = need(node, 1, second) && fits;
    return fits ? result : Kinds();
  }

  Kinds kinds_of(const Node& node);
  Kinds junction(const Node& node);
  Kinds condition(const Node& node);
  Kinds equality(const Node& node);
  Kinds order(const Node& node);
  Kinds arithmetic(const Node& node);
  Kinds membership(const Node& node);
  Kinds attribute(const Node& node);
  Kinds made(const Node& node);
  Kinds containing(const Node& node);

  std::optional<cedar::Value> constant_at(uint32_t at) const;
  std::optional<uint32_t> spelled_field(const Node& attribute) const;  // of a record that the text spells out
  std::optional<Kinds> items_at(uint32_t at) const;                    // of a set that the text spells out
  std::string_view side_at(uint32_t at) const;                         // "principal", "resource", "action" or ""
  void never(std::string what) { types_.misfits.push_back({.node = at_, .fails = false, .what = std::move(what)}); }

  const cedar::Program& program_;
  const Vocabulary vocabulary_;
  PolicyTypes types_;
  std::vector<Source> sources_;
  uint32_t at_ = 0;
};

Kinds Inference::kinds_of(const Node& node) {
  const bool served = vocabulary_ == Vocabulary::served;
  switch (node.op) {
    case Op::constant:
      return Kinds::of(node.value);
    case Op::principal:
      if (served) sources_[at_] = Source::principal;
      return kEntity;
    case Op::action:
    case Op::resource:
      return kEntity;
    case Op::context:
      if (served) sources_[at_] = Source::context;
      return kRecord;
    case Op::logical_and:
    case Op::logical_or:
      return junction(node);
    case Op::logical_not: {
      if (!need(node, 0, kBoolean)) return {};
      const Kinds of = of_child(node, 0);
      return (of.meets(Kinds::of(true)) ? Kinds::of(false) : Kinds()) |
             (of.meets(Kinds::of(false)) ? Kinds::of(true) : Kinds());
    }
    case Op::condition:
      return condition(node);
    case Op::equal:
    case Op::not_equal:
      return equality(node);
    case Op::less:
    case Op::less_equal:
    case Op::greater:
    case Op::greater_equal:
      return order(node);
    case Op::sum:
    case Op::product:
    case Op::negate:
      return arithmetic(node);
    case Op::in:
    case Op::is:
    case Op::is_in:
      return membership(node);
    case Op::like:
      return taking(node, kString, {}, kBoolean);
    case Op::has:
    case Op::has_path:
      return taking(node, kEntity | kRecord, {}, kBoolean);
    case Op::attribute:
      return attribute(node);
    case Op::has_tag:
      return taking(node, kEntity, kString, kBoolean);
    case Op::get_tag:
      return taking(node, kEntity, kString, Kinds::all());
    case Op::contains:
    case Op::contains_all:
    case Op::contains_any:
      return containing(node);
    case Op::is_empty:
      return taking(node, kSet, {}, kBoolean);
    case Op::set:
      return have_values(node) ? kSet : Kinds();
    case Op::record:
      return have_values(node) ? kRecord : Kinds();
    case Op::make_ip:
    case Op::make_decimal:
    case Op::make_datetime:
    case Op::make_duration:
      return made(node);
    case Op::is_ipv4:
    case Op::is_ipv6:
    case Op::is_loopback:
    case Op::is_multicast:
    case Op::is_in_range:
      return taking(node, kIp, kIp, kBoolean);
    case Op::decimal_less:
    case Op::decimal_less_equal:
    case Op::decimal_greater:
    case Op::decimal_greater_equal:
      return taking(node, kDecimal, kDecimal, kBoolean);
    case Op::offset:
      return taking(node, kDatetime, kDuration, kDatetime);
    case Op::duration_since:
      return taking(node, kDatetime, kDatetime, kDuration);
    case Op::to_date:
      return taking(node, kDatetime, {}, kDatetime);
    case Op::to_time:
      return taking(node, kDatetime, {}, kDuration);
    case Op::to_milliseconds:
    case Op::to_seconds:
    case Op::to_minutes:
    case Op::to_hours:
    case Op::to_days:
      return taking(node, kDuration, {}, kInteger);
  }
  return Kinds::all();
}

// What comes after a decisive value is not evaluated, and may be anything.
Kinds Inference::junction(const Node& node) {
  const Kinds decisive = Kinds::of(node.op == Op::logical_or), other = Kinds::of(node.op != Op::logical_or);
  Kinds result;
  bool goes_on = true;
  for (uint32_t i = 0; i < node.count; ++i) {
    need(node, i, kBoolean);
    if (!goes_on) continue;
    const Kinds of = of_child(node, i);
    if (of.meets(decisive)) result |= decisive;
    goes_on = of.meets(other);
  }
  return goes_on ? result | other : result;
}

Kinds Inference::condition(const Node& node) {
  if (!need(node, 0, kBoolean)) return {};
  Kinds result;
  if (of_child(node, 0).meets(Kinds::of(true))) result |= of_child(node, 1);
  if (of_child(node, 0).meets(Kinds::of(false))) result |= of_child(node, 2);
  return result;
}

Kinds Inference::equality(const Node& node) {
  if (!have_values(node)) return {};
  const Kinds left = of_child(node, 0), right = of_child(node, 1);
  const Node &a = program_.nodes[child(node, 0)], &b = program_.nodes[child(node, 1)];
  const bool is_equal = node.op == Op::equal;
  if (left.meets(right)) {
    if (a.op == Op::constant && b.op == Op::constant) return Kinds::of(cedar::equal(a.value, b.value) == is_equal);
    const std::string_view side = side_at(child(node, 0)), other = side_at(child(node, 1));
    const auto differ = [&](std::string_view of, const Node& named) {
      return !of.empty() && named.op == Op::constant && !may_be(of, named.value.entity->type);
    };
    if (!side.empty() && !other.empty() && side != other) {
      never(fmt::format("{} and {} are never equal", side, other));
    } else if (differ(side, b) || differ(other, a)) {
      never(fmt::format("no {} is a {}", side.empty() ? other : side, (side.empty() ? a : b).value.entity->type));
    } else {
      return kBoolean;
    }
    return Kinds::of(!is_equal);
  }
  if (!left.meets(kBoolean) || !right.meets(kBoolean))
    never(fmt::format("{} and {} are never equal", left.text(), right.text()));
  return Kinds::of(!is_equal);
}

Kinds Inference::order(const Node& node) {
  const bool left = need(node, 0, kOrdered), right = need(node, 1, kOrdered);
  if (!left || !right) return {};
  const Kinds a = of_child(node, 0) & kOrdered, b = of_child(node, 1) & kOrdered;
  if (a.meets(b)) return kBoolean;
  types_.misfits.push_back({.node = at_, .what = fmt::format("{} and {} have no order", a.text(), b.text())});
  return {};
}

Kinds Inference::arithmetic(const Node& node) {
  bool fits = true;
  for (uint32_t i = 0; i < node.count; ++i) fits = need(node, i, kInteger) && fits;
  return fits ? kInteger : Kinds();
}

Kinds Inference::membership(const Node& node) {
  const bool fits = need(node, 0, kEntity);
  const std::string_view side = node.op == Op::in ? std::string_view() : side_at(child(node, 0));
  const bool is_none = !side.empty() && !may_be(side, node.value.string());
  if (is_none) never(fmt::format("no {} is a {}", side, node.value.string()));
  if (is_none && node.op == Op::is) return Kinds::of(false);
  if (node.op == Op::is) return fits ? kBoolean : Kinds();
  const Node& outer = program_.nodes[child(node, 1)];
  bool outer_fits = need(node, 1, kEntity | kSet);
  if (outer.op == Op::set) {
    for (uint32_t i = 0; i < outer.count; ++i) outer_fits = need(outer, i, kEntity) && outer_fits;
  } else if (outer.op == Op::constant && outer.value.kind == Kind::set) {
    const auto items = outer.value.set->items;
    const auto other = std::ranges::find_if(items, [](const cedar::Value& item) { return item.kind != Kind::entity; });
    if (other != items.end()) {
      outer_fits = false;
      types_.misfits.push_back(
          {.node = child(node, 1),
           .what = fmt::format("expected a set of entities, found {} in it", kind_name(other->kind))});
    }
  }
  if (!fits) return {};
  // Of another type than `is` says it is in nothing, and the outer one is not evaluated.
  if (node.op == Op::is_in) return outer_fits && !is_none ? kBoolean : Kinds::of(false);
  return outer_fits ? kBoolean : Kinds();
}

Kinds Inference::attribute(const Node& node) {
  if (!need(node, 0, kEntity | kRecord)) return {};
  const std::string_view key = node.value.string();
  if (const auto record = constant_at(child(node, 0)); record && record->kind == Kind::record) {
    const cedar::Value* field = record->record->find(key);
    if (field != nullptr) return Kinds::of(*field);
  } else if (const auto field = spelled_field(node)) {
    return types_.kinds[*field];
  }
  switch (sources_[child(node, 0)]) {
    case Source::other:
      break;
    case Source::principal:
      if (key == "tenant") sources_[at_] = Source::tenant;
      if (key == "labels") sources_[at_] = Source::labels;
      return key == "id" || key == "kind" ? kString : key == "tenant" ? kEntity : key == "labels" ? kRecord : Kinds();
    case Source::tenant:
      if (key == "labels") sources_[at_] = Source::labels;
      return key == "labels" ? kRecord : Kinds();
    case Source::labels:
      return kString;
    case Source::context:
      if (key == "now") return kDatetime;
      if (key == "source_ip") return kIp;
      if (key == "auth_method" || key == "purpose" || key == "stage") return kString;
      if (key == "budget_left" || key == "priority") return kInteger;
      break;
  }
  return Kinds::all();
}

Kinds Inference::containing(const Node& node) {
  const bool is_one = node.op == Op::contains;
  if (taking(node, kSet, is_one ? Kinds::all() : kSet, kBoolean).empty()) return {};
  const std::optional<Kinds> items = items_at(child(node, 0));
  const std::optional<Kinds> wanted = is_one ? of_child(node, 1) : items_at(child(node, 1));
  // An empty set is contained wholly, and holds nothing: both as somebody wrote them.
  if (!items || !wanted || items->empty() || wanted->empty() || items->meets(*wanted)) return kBoolean;
  never(fmt::format("a set of {} contains no {}", items->text(), wanted->text()));
  return Kinds::of(false);
}

std::optional<cedar::Value> Inference::constant_at(uint32_t at) const {
  const Node& node = program_.nodes[at];
  if (node.op == Op::constant) return node.value;
  if (node.op != Op::attribute) return std::nullopt;
  const auto object = constant_at(child(node, 0));
  if (!object || object->kind != Kind::record) return std::nullopt;
  const cedar::Value* field = object->record->find(node.value.string());
  return field == nullptr ? std::nullopt : std::optional(*field);
}

std::optional<uint32_t> Inference::spelled_field(const Node& attribute) const {
  uint32_t at = child(attribute, 0);
  if (program_.nodes[at].op == Op::attribute) {
    const auto outer = spelled_field(program_.nodes[at]);
    if (!outer) return std::nullopt;
    at = *outer;
  }
  const Node& record = program_.nodes[at];
  if (record.op != Op::record) return std::nullopt;
  const auto keys = std::span(program_.keys).subspan(record.first, record.count);
  const auto found = std::ranges::find(keys, attribute.value.string());
  if (found == keys.end()) return std::nullopt;
  return child(record, static_cast<uint32_t>(found - keys.begin()));
}

std::optional<Kinds> Inference::items_at(uint32_t at) const {
  const Node& node = program_.nodes[at];
  Kinds kinds;
  if (const auto constant = constant_at(at); constant && constant->kind == Kind::set) {
    for (const cedar::Value& item : constant->set->items) kinds |= Kinds::of(item);
    return kinds;
  }
  if (node.op != Op::set) return std::nullopt;
  for (uint32_t i = 0; i < node.count; ++i) kinds |= of_child(node, i);
  return kinds;
}

std::string_view Inference::side_at(uint32_t at) const {
  if (vocabulary_ != Vocabulary::served) return {};
  switch (program_.nodes[at].op) {
    case Op::principal:
      return "principal";
    case Op::action:
      return "action";
    case Op::resource:
      return "resource";
    default:
      return {};
  }
}

Kinds Inference::made(const Node& node) {
  if (!need(node, 0, kString)) return {};
  const auto kind = cedar::kind_made_by(node.op);
  // What could be read from a constant was folded away.
  if (program_.nodes[child(node, 0)].op == Op::constant) {
    types_.misfits.push_back({.node = at_, .what = "the text is not one of this type"});
    return {};
  }
  return Kinds::of(*kind);
}

}  // namespace

std::string Kinds::text() const {
  std::string text;
  for (unsigned kind = 0; kind <= static_cast<unsigned>(Kind::duration); ++kind) {
    const auto one = static_cast<Kind>(kind);
    if (meets(of(one))) text.append(text.empty() ? "" : " or ").append(cedar::kind_name(one));
  }
  return text;
}

bool PolicyTypes::never_applies(const cedar::Policy& policy) const {
  return std::ranges::any_of(policy.conditions,
                             [&](uint32_t condition) { return !kinds[condition].meets(Kinds::of(true)); });
}

bool may_be(std::string_view variable, std::string_view type) {
  if (std::ranges::find(entity_types(), type) == entity_types().end()) return true;  // which is told of by itself
  return variable == "principal"  ? is_principal_type(type)
         : variable == "resource" ? is_resource_type(type)
                                  : type == "Redoubt::Action";
}

PolicyTypes types_of(const cedar::Program& program, Vocabulary vocabulary) {
  return Inference(program, vocabulary).run();
}

}  // namespace redoubt
