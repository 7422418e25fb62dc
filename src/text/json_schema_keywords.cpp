// Which keywords there are, and what stands behind each: an ill-formed one is told of, also where it binds nothing.

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_set>

#include "core/utf8.h"
#include "text/json_schema.h"

namespace redoubt::grammar {
namespace {

// By JSON Schema, OpenAPI and the editors and libraries that write more of them; none binds a value.
const std::unordered_set<std::string> kAnnotations = {"title",
                                                      "description",
                                                      "default",
                                                      "example",
                                                      "examples",
                                                      "$schema",
                                                      "$id",
                                                      "id",
                                                      "$comment",
                                                      "deprecated",
                                                      "discriminator",
                                                      "readOnly",
                                                      "writeOnly",
                                                      "$defs",
                                                      "definitions",
                                                      "contentEncoding",
                                                      "contentMediaType",
                                                      "contentSchema",
                                                      "externalDocs",
                                                      "xml",
                                                      "markdownDescription",
                                                      "enumNames",
                                                      "enumDescriptions",
                                                      "propertyOrdering"};
const std::unordered_set<std::string> kEnforced = {"type",
                                                   "properties",
                                                   "required",
                                                   "additionalProperties",
                                                   "patternProperties",
                                                   "propertyNames",
                                                   "nullable",
                                                   "minProperties",
                                                   "maxProperties",
                                                   "items",
                                                   "prefixItems",
                                                   "additionalItems",
                                                   "minItems",
                                                   "maxItems",
                                                   "enum",
                                                   "const",
                                                   "anyOf",
                                                   "oneOf",
                                                   "allOf",
                                                   "$ref",
                                                   "minLength",
                                                   "maxLength",
                                                   "pattern",
                                                   "format",
                                                   "minimum",
                                                   "maximum",
                                                   "exclusiveMinimum",
                                                   "exclusiveMaximum",
                                                   "multipleOf",
                                                   "uniqueItems"};

// A keyword's name for a message: the client wrote it, so it is cut short.
std::string shown(const std::string& keyword) { return std::string(utf8_head(keyword, 64)); }

// A number that was not read as it is written: beyond 64 bits, or of more digits than a double surely keeps, another
// one may stand in the client's text.
bool may_be_another_number(const Json& value) {
  constexpr double kBeyondIntegers = 9.2e18;
  constexpr size_t kExactDigits = 15;
  if (!value.is_number_float()) return false;
  return std::fabs(value.get<double>()) >= kBeyondIntegers || to_decimal(value).digits.size() > kExactDigits;
}

bool holds_another_number(const Json& value) {
  if (!value.is_structured()) return may_be_another_number(value);
  return std::any_of(value.begin(), value.end(), holds_another_number);
}

bool is_schema(const Json& value) { return value.is_object() || value.is_boolean(); }
bool is_names(const Json& value) {
  return value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& name) { return name.is_string(); });
}
bool is_count(const Json& value) {
  return value.is_number() && value.get<double>() >= 0 && std::trunc(value.get<double>()) == value.get<double>();
}
bool is_list(const Json& value) { return value.is_array() && !value.empty(); }
bool is_type(const Json& value) {
  const auto known = [](const Json& t) { return t.is_string() && kJsonTypes.contains(t.get<std::string>()); };
  return known(value) || (is_list(value) && std::all_of(value.begin(), value.end(), known));
}

struct Form {
  bool (*fits)(const Json&);
  const char* expected;
  std::initializer_list<std::string_view> keywords;
};

// $ref, const and the schemas inside say for themselves what they are, where they are followed.
const std::array<Form, 12> kForms = {{
    {is_type, "a JSON type or a list of them", {"type"}},
    {[](const Json& v) { return v.is_object(); }, "an object of schemas", {"properties", "patternProperties"}},
    {is_list, "a list that is not empty", {"anyOf", "oneOf", "allOf", "enum"}},
    {is_names, "a list of names", {"required"}},
    {is_schema, "a schema", {"additionalProperties", "propertyNames", "additionalItems"}},
    {[](const Json& v) { return is_schema(v) || v.is_array(); }, "a schema", {"items"}},
    {[](const Json& v) { return v.is_array(); }, "a list of schemas", {"prefixItems"}},
    {is_count,
     "a whole number from 0",
     {"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"}},
    {[](const Json& v) { return v.is_string(); }, "a string", {"pattern", "format"}},
    {[](const Json& v) { return v.is_number(); },
     "a number",
     {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}},
    {[](const Json& v) { return v.is_number() && v.get<double>() > 0; }, "a number over 0", {"multipleOf"}},
    {[](const Json& v) { return v.is_boolean() || v.is_null(); }, "true or false", {"uniqueItems", "nullable"}},
}};

Status check_form(const std::string& keyword, const Json& value) {
  for (const Form& form : kForms) {
    if (std::ranges::find(form.keywords, keyword) == form.keywords.end() || form.fits(value)) continue;
    return invalid("schema: " + keyword + ": expected " + form.expected, keyword);
  }
  return ok();
}

}  // namespace

bool is_annotation(const std::string& keyword) { return kAnnotations.contains(keyword) || keyword.starts_with("x-"); }

Status SchemaCompiler::check_keywords(const Json& schema, const std::string& at) const {
  for (const auto& [keyword, value] : schema.items()) {
    if (is_annotation(keyword)) continue;
    if (!kEnforced.contains(keyword))
      return unsupported("schema: keyword `" + shown(keyword) + "` is not enforced", place_of(at, shown(keyword)));
    REDOUBT_CHECK(check_form(keyword, value));
    const bool has_values = keyword == "enum" || keyword == "const";
    if (has_values && numbers_ == SchemaNumbers::unknown && holds_another_number(value))
      return unsupported("schema: " + keyword +
                             ": a number that readers of JSON would change (an integer beyond 64 bits, or more digits "
                             "than a double keeps) is not enforced",
                         keyword);
    const bool bounds = keyword.ends_with("inimum") || keyword.ends_with("aximum");
    if (bounds && value.is_number_float() && std::fabs(value.get<double>()) >= 9.2e18)
      return unsupported("schema: " + keyword + ": a bound beyond 64 bits is not enforced", keyword);
  }
  return ok();
}

}  // namespace redoubt::grammar
