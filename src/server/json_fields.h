// Typed access to the fields of a request: a wrong type or range is an error that names the field's path as `param`.
// An absent field and null are the same; fields nobody asks for are ignored.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

class JsonFields {
 public:
  // `object` must be an object and outlive this; `path` is where it stands in the body ("response_format", "" the
  // body).
  explicit JsonFields(const Json& object, std::string path = {}) : object_(&object), path_(std::move(path)) {}

  std::string param(std::string_view key) const {
    return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  }
  const Json* find(std::string_view key) const;  // nullptr if absent or null

  Result<std::optional<std::string>> string(std::string_view key) const;
  Result<std::optional<bool>> boolean(std::string_view key) const;
  Result<std::optional<double>> number(std::string_view key, double low, double high) const;
  Result<std::optional<int64_t>> integer(std::string_view key, int64_t low = std::numeric_limits<int64_t>::min(),
                                         int64_t high = std::numeric_limits<int64_t>::max()) const;
  Result<const Json*> array(std::string_view key) const;   // nullptr if absent
  Result<const Json*> object(std::string_view key) const;  // nullptr if absent

  // An error for a field that is understood, but not obeyed here.
  Error refuse(std::string_view key, std::string_view why) const;
  // The same for a word that is none of those expected; it is shown, cut short.
  Error refuse_word(std::string_view key, std::string_view expected, std::string_view found) const;
  // Refuses the field if it is present and is none of null, false, 0, "", [] and {}.
  Status refuse_unless_empty(std::string_view key, std::string_view why) const;

 private:
  const Json* object_;
  std::string path_;
};

std::string_view json_type(const Json& value);  // "a string", "a number", ...
// The body of a request: JSON and an object, or invalid_argument.
Result<Json> parse_json_body(std::string_view body);
// The string at `key` of the object that a body is; read no further than it. For who must know it before the body is
// worked on: the rest may be no JSON. nullopt: the field is absent or no string.
std::optional<std::string> find_string_in_body(std::string_view body, std::string_view key);
std::string string_in_body(std::string_view body, std::string_view key);  // the same, "" if there is none
Error wrong_type(std::string_view param, std::string_view expected, const Json& found);

}  // namespace redoubt
