// allOf and its kin: two flat schemas as one.

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

// Both at once, left to be joined when the place is reached.
Json both(const Json& a, const Json& b) {
  if (a == b || b == Json(true)) return a;
  if (a == Json(true)) return b;
  if (a == Json(false) || b == Json(false)) return false;
  return Json{{"allOf", Json::array({a, b})}};
}

bool has(const Json& schema, const char* keyword) { return schema.contains(keyword); }

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

// By its text, so that long lists are gone through once each.
std::unordered_set<std::string> texts_of(const Json& values) {
  std::unordered_set<std::string> texts;
  for (const Json& value : values) texts.insert(value_text(value));
  return texts;
}

// As JSON counts them: an integer is a number too.
std::set<std::string> types_with_integers(const Json& schema) {
  std::set<std::string> types = types_of(schema);
  if (types.contains("number")) types.insert("integer");
  return types;
}

std::set<std::string> common_types(const Json& a, const Json& b) {
  const std::set<std::string> other = types_with_integers(b);
  std::set<std::string> common = types_with_integers(a);
  std::erase_if(common, [&](const std::string& type) { return !other.contains(type); });
  return common;
}

std::unordered_set<std::string> listed_texts(const Json& schema) {
  return has(schema, "const") ? std::unordered_set{value_text(schema["const"])} : texts_of(schema["enum"]);
}

// Whether their types or their listed values alone leave nothing. Then it does not matter what else cannot be joined.
bool exclude_each_other(const Json& a, const Json& b) {
  if (has(a, "type") && has(b, "type") && common_types(a, b).empty()) return true;
  const auto is_listed = [](const Json& schema) { return has(schema, "const") || has(schema, "enum"); };
  if (!is_listed(a) || !is_listed(b)) return false;
  const std::unordered_set<std::string> in_a = listed_texts(a), in_b = listed_texts(b);
  return std::none_of(in_b.begin(), in_b.end(), [&](const std::string& text) { return in_a.contains(text); });
}

}  // namespace

Members members_of(const Json& object) {
  Members members;
  for (const auto& [key, value] : object.get_ref<const Json::object_t&>()) members.emplace(key, &value);
  return members;
}

const Json* of_further_keys(const Json& schema) {
  const auto it = schema.find("additionalProperties");
  return it == schema.end() ? nullptr : &*it;
}

std::string value_text(const Json& value) {
  if (value.is_number_float() && std::fabs(value.get<double>()) < 9.2e18 &&
      value.get<double>() == std::trunc(value.get<double>()))
    return std::to_string(static_cast<int64_t>(value.get<double>()));
  if (!value.is_structured()) return dump_json(value);
  std::string text = value.is_array() ? "[" : "{";
  if (value.is_array()) {
    for (const Json& member : value) text += value_text(member) + ",";
    return text + "]";
  }
  std::map<std::string_view, const Json*> members;
  for (const auto& [key, member] : value.get_ref<const Json::object_t&>()) members.emplace(key, &member);
  for (const auto& [key, member] : members) text += dump_json(Json(key)) + ":" + value_text(*member) + ",";
  return text + "}";
}

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
  if (any_of({"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
              "maxProperties"}))
    out.insert("object");
  return out.empty() ? kJsonTypes : out;
}

Result<Json> merge_schemas(const Json& a, const Json& b) {
  if (is_never(a) || is_never(b) || exclude_each_other(a, b)) return Json(false);
  Json out = a;
  for (const auto& [keyword, value] : b.items()) {
    if (!out.contains(keyword) || out[keyword] == value) {
      out[keyword] = value;
      continue;
    }
    Json& mine = out[keyword];
    if (keyword == "type") {
      mine = Json::array();
      for (const std::string& type : common_types(a, b)) mine.push_back(type);
    } else if (keyword == "minLength" || keyword == "minItems" || keyword == "minProperties" || keyword == "minimum" ||
               keyword == "exclusiveMinimum") {
      if (value > mine) mine = value;
    } else if (keyword == "maxLength" || keyword == "maxItems" || keyword == "maxProperties" || keyword == "maximum" ||
               keyword == "exclusiveMaximum") {
      if (value < mine) mine = value;
    } else if (keyword == "required") {
      if (!mine.is_array() || !value.is_array())
        return invalid("schema: required: expected a list of names", "required");
      std::unordered_set<std::string> known = texts_of(mine);
      for (const Json& name : value)
        if (known.insert(value_text(name)).second) mine.push_back(name);
    } else if (keyword == "enum") {
      if (!mine.is_array() || !value.is_array()) return invalid("schema: enum: expected a list", "enum");
      const std::unordered_set<std::string> others = texts_of(value);
      Json common = Json::array();
      for (const Json& v : mine)
        if (others.contains(value_text(v))) common.push_back(v);
      if (common.empty()) return Json(false);
      mine = std::move(common);
    } else if (keyword == "const") {
      continue;  // the same value, or they would exclude each other
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

}  // namespace redoubt::grammar
