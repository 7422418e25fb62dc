// allOf and its kin: two flat schemas as one, and whether two can share an instance.

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

const std::set<std::string> kAllTypes = {"null", "boolean", "number", "integer", "string", "array", "object"};

// Both at once, left to be joined when the place is reached.
Json both(const Json& a, const Json& b) {
  if (a == b || b == Json(true)) return a;
  if (a == Json(true)) return b;
  if (a == Json(false) || b == Json(false)) return false;
  return Json{{"allOf", Json::array({a, b})}};
}

bool has(const Json& schema, const char* keyword) { return schema.contains(keyword); }

Json enum_values(const Json& schema) {
  if (has(schema, "const")) return Json::array({schema["const"]});
  return schema["enum"];
}
bool has_enum(const Json& schema) { return has(schema, "const") || (has(schema, "enum") && schema["enum"].is_array()); }

// What `schema` asks of a key that its `properties` do not name; null if nothing.
const Json* of_further_keys(const Json& schema) {
  const auto it = schema.find("additionalProperties");
  return it == schema.end() ? nullptr : &*it;
}

// By name: a Json itself looks at one member after the other.
using Members = std::unordered_map<std::string_view, const Json*>;
Members members_of(const Json& object) {
  Members members;
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>()) members.emplace(key, &value);
  return members;
}
// Of `properties`; of anything else there are none.
Members properties_of(const Json& schema) {
  const auto it = schema.find("properties");
  return it != schema.end() && it->is_object() ? members_of(*it) : Members();
}

Result<Json> merge_properties(const Json& a, const Json& b) {
  Json out = Json::object();
  const Json none = Json::object();
  const Json& in_a = has(a, "properties") ? a["properties"] : none;
  const Json& in_b = has(b, "properties") ? b["properties"] : none;
  if (!in_a.is_object() || !in_b.is_object())
    return invalid("schema: properties: expected an object of schemas", "properties");
  const Members of_a = members_of(in_a), of_b = members_of(in_b);
  Json::object_t::Container& entries = out.get_ref<Json::object_t&>();
  for (const auto& [key, value] : in_a.items()) {
    const auto other = of_b.find(key);
    const Json* more = other != of_b.end() ? other->second : of_further_keys(b);
    entries.emplace_back(key, more != nullptr ? both(value, *more) : value);
  }
  for (const auto& [key, value] : in_b.items()) {
    if (!of_a.contains(key)) entries.emplace_back(key, of_further_keys(a) ? both(value, *of_further_keys(a)) : value);
  }
  return out;
}

std::set<std::string> required_of(const Json& schema) {
  std::set<std::string> out;
  if (has(schema, "required") && schema["required"].is_array())
    for (const Json& name : schema["required"])
      if (name.is_string()) out.insert(name.get<std::string>());
  return out;
}

// The values a key of an object may have, if the schema says so by enum or const.
bool fixed_values(const Members& properties, const std::string& key, Json& values) {
  const auto found = properties.find(key);
  if (found == properties.end()) return false;
  const Json& property = *found->second;
  if (!property.is_object() || !has_enum(property)) return false;
  values = enum_values(property);
  return true;
}

bool share_a_value(const Json& a, const Json& b) {
  return std::any_of(a.begin(), a.end(), [&](const Json& v) { return std::find(b.begin(), b.end(), v) != b.end(); });
}

}  // namespace

std::set<std::string> types_of(const Json& flat) {
  std::set<std::string> out;
  if (const auto it = flat.find("type"); it != flat.end()) {
    const auto add = [&](const Json& name) {
      if (name.is_string()) out.insert(name.get<std::string>());
    };
    if (it->is_array())
      for (const Json& name : *it) add(name);
    else
      add(*it);
    return out;
  }
  const auto any_of = [&](std::initializer_list<const char*> keywords) {
    return std::any_of(keywords.begin(), keywords.end(), [&](const char* k) { return flat.contains(k); });
  };
  if (any_of({"minLength", "maxLength", "pattern", "format"})) out.insert("string");
  if (any_of({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})) out.insert("number");
  if (any_of({"items", "prefixItems", "minItems", "maxItems", "uniqueItems"})) out.insert("array");
  if (any_of({"properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"}))
    out.insert("object");
  return out.empty() ? kAllTypes : out;
}

Result<Json> merge_schemas(const Json& a, const Json& b) {
  Json out = a;
  for (const auto& [keyword, value] : b.items()) {
    if (!out.contains(keyword) || out[keyword] == value) {
      out[keyword] = value;
      continue;
    }
    Json& mine = out[keyword];
    if (keyword == "type") {
      std::set<std::string> left = types_of(a), right = types_of(b);
      if (left.contains("number")) left.insert("integer");
      if (right.contains("number")) right.insert("integer");
      Json types = Json::array();
      for (const std::string& type : left)
        if (right.contains(type)) types.push_back(type);
      mine = std::move(types);
    } else if (keyword == "minLength" || keyword == "minItems" || keyword == "minProperties" || keyword == "minimum" ||
               keyword == "exclusiveMinimum") {
      if (value > mine) mine = value;
    } else if (keyword == "maxLength" || keyword == "maxItems" || keyword == "maxProperties" || keyword == "maximum" ||
               keyword == "exclusiveMaximum") {
      if (value < mine) mine = value;
    } else if (keyword == "required") {
      if (!mine.is_array() || !value.is_array())
        return invalid("schema: required: expected a list of names", "required");
      for (const Json& name : value)
        if (std::find(mine.begin(), mine.end(), name) == mine.end()) mine.push_back(name);
    } else if (keyword == "enum") {
      if (!mine.is_array() || !value.is_array()) return invalid("schema: enum: expected a list", "enum");
      Json common = Json::array();
      for (const Json& v : mine)
        if (std::find(value.begin(), value.end(), v) != value.end()) common.push_back(v);
      mine = std::move(common);
    } else if (keyword == "const") {
      out["enum"] = Json::array();  // two values at once: none
    } else if (keyword == "additionalProperties" || keyword == "items") {
      mine = both(mine, value);
    } else if (keyword == "uniqueItems") {
      mine = true;
    } else if (keyword != "properties") {
      return unsupported("schema: two different `" + keyword + "` at once (allOf, anyOf) are not enforced", keyword);
    }
  }
  const bool objects = has(a, "properties") || has(b, "properties");
  if (objects) {
    // What one side says of keys it does not name falls on the other side's names, whatever the order.
    REDOUBT_TRY(out["properties"], merge_properties(a, b));
    if ((has(a, "patternProperties") || has(b, "patternProperties")))
      return unsupported("schema: patternProperties beside allOf or anyOf is not enforced", "patternProperties");
  }
  if (has(out, "prefixItems") && (has(a, "prefixItems") != has(b, "prefixItems")) &&
      (has(a, "prefixItems") ? has(b, "items") : has(a, "items")))
    return unsupported("schema: prefixItems and items from two schemas at once are not enforced", "prefixItems");
  return out;
}

bool evidently_disjoint(const Json& a, const Json& b) {
  std::set<std::string> left = types_of(a), right = types_of(b);
  // Only a written type excludes others: keywords alone say nothing of values of another type.
  if (has(a, "type") && has(b, "type")) {
    const auto has_type = [](const std::set<std::string>& set, const std::string& type) {
      return set.contains(type) || (type == "integer" && set.contains("number"));
    };
    std::set<std::string> common;
    for (const std::string& type : kAllTypes)
      if (type != "number" && has_type(left, type) && has_type(right, type)) common.insert(type);
    if (left.contains("number") && right.contains("number")) common.insert("number");
    if (common.empty()) return true;
    const bool numbers =
        std::all_of(common.begin(), common.end(), [](const std::string& t) { return t == "number" || t == "integer"; });
    const auto below = [](const Json& x, const Json& y) {  // x's highest is under y's lowest
      for (const char* high : {"maximum", "exclusiveMaximum"})
        for (const char* low : {"minimum", "exclusiveMinimum"})
          if (has(x, high) && has(y, low) &&
              (x[high] < y[low] || (x[high] == y[low] && (high[0] == 'e' || low[0] == 'e'))))
            return true;
      return false;
    };
    if (numbers && (below(a, b) || below(b, a))) return true;
    if (common == std::set<std::string>{"object"}) {
      const std::set<std::string> need_a = required_of(a), need_b = required_of(b);
      const Members of_a = properties_of(a), of_b = properties_of(b);
      for (const std::string& key : need_a) {
        Json in_a, in_b;
        if (need_b.contains(key) && fixed_values(of_a, key, in_a) && fixed_values(of_b, key, in_b) &&
            !share_a_value(in_a, in_b))
          return true;
      }
      const auto lacks = [](const Json& schema, const Members& properties, const std::set<std::string>& needed) {
        if (of_further_keys(schema) == nullptr || *of_further_keys(schema) != Json(false) ||
            has(schema, "patternProperties"))
          return false;
        return std::any_of(needed.begin(), needed.end(),
                           [&](const std::string& key) { return !properties.contains(key); });
      };
      if (lacks(a, of_a, need_b) || lacks(b, of_b, need_a)) return true;
    }
  }
  if (has_enum(a) && has_enum(b)) return !share_a_value(enum_values(a), enum_values(b));
  return false;
}

}  // namespace redoubt::grammar
