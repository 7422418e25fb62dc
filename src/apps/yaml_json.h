// YAML as JSON: maps, lists and scalars. An unquoted scalar is a bool, whole number or null where it reads as one, else
// a string; a quoted one is a string. A key that stands twice is an error.
#pragma once

#include <string_view>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

// JSON is YAML too. Errors: invalid_argument with the line.
Result<Json> json_from_yaml(std::string_view text);

}  // namespace redoubt
