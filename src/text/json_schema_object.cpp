// Objects: keys in the schema's order, optional ones skipped, then further keys where they are allowed.
//
// The automaton counts keys only as far as minProperties and maxProperties ask; without them it knows none from some.

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "text/json_schema.h"
#include "text/regex_grammar.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxCounted = 20'000;  // properties and kinds of further keys times count

struct Property {
  std::string key;
  ExprId value = 0;
  bool required = false;
};
struct FurtherKeys {
  ExprId key = 0, value = 0;
};

uint32_t append_literal(Nfa& nfa, uint32_t state, std::string_view text) {
  for (const char c : text) {
    const uint32_t next = nfa.add_state();
    nfa.add_bytes(state, static_cast<uint8_t>(c), static_cast<uint8_t>(c), next);
    state = next;
  }
  return state;
}

// {"type": "string"}, as libraries write it beside every map, says nothing of a key.
bool binds_names(const Json& names) {
  if (!names.is_object()) return names != Json(true);
  return std::ranges::any_of(names.items(), [](const auto& item) {
    return item.key() != "title" && item.key() != "description" && !(item.key() == "type" && item.value() == "string");
  });
}

}  // namespace

Result<ExprId> SchemaCompiler::further_key(const Json& flat, const std::string& at) {
  const auto names = flat.find("propertyNames");
  if (names == flat.end() || !binds_names(*names)) return any_string();
  const std::string names_at = place_of(at, "propertyNames");
  REDOUBT_TRY(const Json alone, flatten(*names, names_at));
  REDOUBT_TRY(const Json whole, joined({{"type", "string"}}, alone, "propertyNames"));
  return schema(whole, names_at);
}

Result<ExprId> SchemaCompiler::object(const Json& flat, const std::string& at) {
  std::set<std::string> required;
  if (const auto it = flat.find("required"); it != flat.end()) {
    if (!it->is_array()) return invalid("schema: required: expected a list of names", "required");
    for (const Json& name : *it) {
      if (!name.is_string()) return invalid("schema: required: expected a list of names", "required");
      required.insert(name.get<std::string>());
    }
  }
  const auto properties_it = flat.find("properties"), patterns_it = flat.find("patternProperties");
  const auto additional_it = flat.find("additionalProperties");
  const bool has_properties = properties_it != flat.end() && !properties_it->empty();
  const bool has_patterns = patterns_it != flat.end() && !patterns_it->empty();

  // Without a word about further keys they are allowed; a model is not invited to make some up beside named ones.
  std::optional<Json> additional;
  if (additional_it != flat.end()) {
    if (*additional_it != Json(false)) additional = *additional_it;
  } else if (properties_it == flat.end() && !has_patterns) {
    additional = true;
  }

  if (flat.contains("propertyNames") && binds_names(flat["propertyNames"]) &&
      (has_properties || has_patterns || !required.empty()))
    return unsupported("schema: propertyNames beside keys that are named is not enforced", "propertyNames");
  std::vector<Property> properties;
  std::unordered_set<std::string_view> named;
  size_t num_required = 0;
  if (has_properties) {
    for (const auto& [key, value] : properties_it->items()) {
      REDOUBT_TRY(const ExprId made, schema(value, place_of(at, "properties", key)));
      properties.push_back({key, made, required.contains(key)});
    }
    for (const auto& [key, value] : properties_it->get_ref<const Json::object_t&>()) named.insert(key);
  }
  for (const std::string& key : required) {
    ++num_required;
    if (named.contains(key)) continue;
    if (has_patterns)
      return unsupported("schema: required: a name that is not in properties beside patternProperties", "required");
    if (additional_it != flat.end() && *additional_it == Json(false)) return pool_.nothing();
    REDOUBT_TRY(const ExprId made, schema(additional_it != flat.end() ? *additional_it : Json(true),
                                          place_of(at, "additionalProperties")));
    properties.push_back({key, made, true});
  }

  // Further keys: any string but the names, or those that match a pattern.
  const auto canonical_key = [&]() {
    return pool_.repeat(characters(pool_, {{0, 0x10ffff}}, RegexText::json_string), 0, -1);
  };
  std::vector<FurtherKeys> further;
  const auto without_names = [&](Automaton keys) -> Result<Automaton> {
    if (properties.empty()) return keys;
    std::vector<ExprId> names;
    for (const Property& property : properties) {
      const std::string quoted = dump_json(Json(property.key));
      names.push_back(pool_.literal(quoted.substr(1, quoted.size() - 2)));
    }
    REDOUBT_TRY(const Automaton named, build_automaton(pool_, pool_.choice(std::move(names)), budget_));
    return subtract(keys, named, budget_);
  };
  const auto quoted = [&](Automaton keys) {
    return pool_.sequence({pool_.literal("\""), pool_.automaton(std::move(keys)), pool_.literal("\"")});
  };
  std::vector<Automaton> patterns;
  if (has_patterns) {
    for (const auto& [pattern, value] : patterns_it->items()) {
      auto parsed = parse_regex(pattern, RegexText::json_string, RegexMatch::search, pool_);
      if (!parsed.has_value()) {
        parsed.error().param = "patternProperties";
        return std::move(parsed.error()).within("schema: patternProperties");
      }
      REDOUBT_TRY(Automaton keys, build_automaton(pool_, *parsed, budget_));
      for (const Automaton& other : patterns) {
        REDOUBT_TRY(const Automaton both, intersect(keys, other, budget_));
        if (!both.states.empty())
          return unsupported("schema: patternProperties: patterns that share a key are not enforced",
                             "patternProperties");
      }
      for (const Property& property : properties) {
        const std::string name = dump_json(Json(property.key));
        REDOUBT_TRY(const bool is_shared, matches(keys, std::string_view(name).substr(1, name.size() - 2), budget_));
        if (is_shared)
          return unsupported("schema: patternProperties: a pattern that matches a name of properties is not enforced",
                             "patternProperties");
      }
      REDOUBT_TRY(const ExprId made, schema(value, place_of(at, "patternProperties", pattern)));
      if (!keys.states.empty()) further.push_back({quoted(keys), made});
      patterns.push_back(std::move(keys));
    }
  }
  if (additional) {
    REDOUBT_TRY(const ExprId made, schema(*additional, place_of(at, "additionalProperties")));
    if (properties.empty() && patterns.empty()) {
      REDOUBT_TRY(const ExprId key, further_key(flat, at));
      further.push_back({key, made});
    } else {
      REDOUBT_TRY(Automaton keys, build_automaton(pool_, canonical_key(), budget_));
      REDOUBT_TRY(keys, without_names(std::move(keys)));
      for (const Automaton& pattern : patterns) {
        REDOUBT_TRY(keys, subtract(keys, pattern, budget_));
      }
      if (!keys.states.empty()) further.push_back({quoted(std::move(keys)), made});
    }
  }

  int64_t min = 0, max = -1;
  for (const char* keyword : {"minProperties", "maxProperties"}) {
    const auto it = flat.find(keyword);
    if (it == flat.end()) continue;
    if (!it->is_number_integer() || it->get<int64_t>() < 0)
      return invalid(std::string("schema: ") + keyword + ": expected a whole number from 0", keyword);
    (keyword[1] == 'i' ? min : max) = it->get<int64_t>();
  }
  if (min <= static_cast<int64_t>(num_required)) min = 0;
  if (further.empty() && max >= static_cast<int64_t>(properties.size())) max = -1;
  // Nothing keeps a model from writing one further key twice, which readers count once.
  if (!further.empty() && min > 1)
    return unsupported("schema: minProperties over 1 is not enforced beside keys without a name", "minProperties");
  const int64_t cap = std::max<int64_t>(1, max >= 0 ? max : min);
  if (static_cast<size_t>(cap) > kMaxCounted / (properties.size() + further.size() + 1))
    return unsupported("schema: minProperties, maxProperties: too many to count",
                       max >= 0 ? "maxProperties" : "minProperties");

  const auto rule_of = [&](ExprId expr, const char* name) {
    if (pool_[expr].kind == ExprKind::call) return pool_[expr].index;
    const uint32_t rule = new_rule(name);
    rules_[rule].body = expr;
    return rule;
  };
  const uint32_t ws = rule_of(white_space(), "white space");
  std::vector<std::pair<uint32_t, uint32_t>> further_rules;
  for (const FurtherKeys& keys : further)
    further_rules.emplace_back(rule_of(keys.key, "key"), rule_of(keys.value, "value"));

  Nfa nfa;
  const uint32_t start = nfa.add_state(), end = nfa.add_state();
  nfa.accept(end);
  const size_t n = properties.size(), width = static_cast<size_t>(cap) + 1;
  std::vector<uint32_t> nodes((n + 1) * width);
  for (uint32_t& node : nodes) node = nfa.add_state();
  const auto node_at = [&](size_t i, size_t count) { return nodes[i * width + std::min(count, width - 1)]; };
  const uint32_t open = append_literal(nfa, start, "{");
  nfa.add_call(open, ws, node_at(0, 0));
  const auto add_colon = [&](uint32_t state) {
    const uint32_t after = append_literal(nfa, state, ":");
    nfa.add_empty(after, append_literal(nfa, after, " "));
    return static_cast<uint32_t>(nfa.size() - 1);
  };
  // From a node to where a key begins: a comma where one stands before it.
  const auto lead = [&](size_t count, uint32_t from, uint32_t to) {
    if (count == 0)
      nfa.add_empty(from, to);
    else
      nfa.add_call(append_literal(nfa, from, ","), ws, to);
  };
  for (size_t i = 0; i <= n; ++i) {
    REDOUBT_CHECK(budget_.spend_states(8 * width * (i == n ? further.size() : 1)));
    for (size_t after = 0; after < width; ++after) {  // `after`: the count once a key more is there
      std::vector<size_t> before;
      for (size_t count = after > 0 ? after - 1 : 0; count <= after; ++count) {
        const bool full = max >= 0 && static_cast<int64_t>(count) >= max;
        if (!full && std::min(count + 1, width - 1) == after) before.push_back(count);
      }
      if (!before.empty() && i < n) {
        const uint32_t key = nfa.add_state();
        for (const size_t count : before) lead(count, node_at(i, count), key);
        const uint32_t value = add_colon(append_literal(nfa, key, dump_json(Json(properties[i].key))));
        nfa.add_call(value, rule_of(properties[i].value, "value"), node_at(i + 1, after));
      }
      if (!before.empty() && i == n) {
        for (const auto& [key_rule, value_rule] : further_rules) {
          const uint32_t key = nfa.add_state(), after_key = nfa.add_state();
          for (const size_t count : before) lead(count, node_at(n, count), key);
          nfa.add_call(key, key_rule, after_key);
          nfa.add_call(add_colon(after_key), value_rule, node_at(n, after));
        }
      }
      if (i < n && !properties[i].required) nfa.add_empty(node_at(i, after), node_at(i + 1, after));
    }
  }
  const uint32_t closing = nfa.add_state();
  nfa.add_bytes(closing, '}', '}', end);
  for (size_t count = static_cast<size_t>(min); count < width; ++count) {
    if (count == 0)
      nfa.add_empty(node_at(n, 0), closing);
    else
      nfa.add_call(node_at(n, count), ws, closing);
  }
  REDOUBT_CHECK(budget_.spend_states(nfa.size()));
  REDOUBT_TRY(Automaton automaton, nfa.determinise(budget_));
  return automaton.states.empty() ? pool_.nothing() : pool_.automaton(std::move(automaton));
}

}  // namespace redoubt::grammar
