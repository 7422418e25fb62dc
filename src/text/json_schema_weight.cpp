// What working on a schema costs, and what of it is worked on at all.

#include <algorithm>

#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kTextUnit = 16;  // bytes of text that cost as much as a value

bool is_one_of(std::string_view keyword, std::initializer_list<std::string_view> keywords) {
  return std::ranges::find(keywords, keyword) != keywords.end();
}

}  // namespace

size_t weight_of_text(size_t bytes) { return bytes / kTextUnit; }

size_t weight_of(const Json& value) {
  size_t weight = 1;
  if (value.is_string()) {
    weight += weight_of_text(value.get_ref<const std::string&>().size());
  } else if (value.is_array()) {
    for (const Json& inner : value) weight += weight_of(inner);
  } else if (value.is_object()) {
    for (const auto& [key, inner] : value.get_ref<const Json::object_t&>())
      weight += weight_of_text(key.size()) + weight_of(inner);
  }
  return weight;
}

Json bare_value(std::string_view keyword, const Json& value, size_t& weight) {
  if (value.is_object() && is_one_of(keyword, {"properties", "patternProperties"})) {
    Json out = Json::object();
    Json::object_t::Container& members = out.get_ref<Json::object_t&>();
    members.reserve(value.size());
    ++weight;
    for (const auto& [name, schema] : value.get_ref<const Json::object_t&>()) {
      weight += weight_of_text(name.size());
      members.emplace_back(name, bare_schema(schema, weight));
    }
    return out;
  }
  if (value.is_array() && is_one_of(keyword, {"anyOf", "oneOf", "allOf", "items", "prefixItems"})) {
    Json out = Json::array();
    ++weight;
    for (const Json& schema : value) out.push_back(bare_schema(schema, weight));
    return out;
  }
  if (is_one_of(keyword, {"items", "additionalItems", "additionalProperties", "propertyNames"}))
    return bare_schema(value, weight);
  weight += weight_of(value);
  return value;
}

Json bare_schema(const Json& schema, size_t& weight) {
  if (!schema.is_object()) {
    weight += weight_of(schema);
    return schema;
  }
  ++weight;
  Json out = Json::object();
  Json::object_t::Container& members = out.get_ref<Json::object_t&>();
  members.reserve(schema.size());
  for (const auto& [keyword, value] : schema.get_ref<const Json::object_t&>()) {
    weight += weight_of_text(keyword.size());
    if (is_annotation(keyword))
      ++weight;
    else
      members.emplace_back(keyword, bare_value(keyword, value, weight));
  }
  return out;
}

}  // namespace redoubt::grammar
