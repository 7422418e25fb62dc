// JSON with limits. `Json` keeps the order of keys, because chat templates and clients see it.
// parse_json is the only way in for untrusted text: it bounds nesting (a hostile text cannot exhaust the stack later,
// in a dump or a destructor) and values (nor memory, which can be twenty times the text) and turns the library's
// exceptions into an Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

using Json = nlohmann::ordered_json;

struct JsonLimits {
  int max_depth = 64;                   // arrays and objects inside one another
  size_t max_bytes = size_t{64} << 20;  // of the text
  size_t max_values = size_t{1} << 20;  // arrays and objects among them; one takes up to a hundred bytes of memory
};

// Errors: invalid_argument with the byte position. Invalid UTF-8 in a string and duplicate keys are errors too: a
// duplicate key would let two readers of one text see two different documents.
Result<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

// At most so many values does a text hold, found without parsing it. `inside_strings`: of the JSON that the strings
// under one of `keys_of_json` hold (or under a key that is written with an escape, which may be any).
struct JsonValues {
  int64_t outside_strings = 0, inside_strings = 0;
};
JsonValues count_json_values(std::string_view text, std::span<const std::string_view> keys_of_json = {});

// Compact, UTF-8; bytes that are not UTF-8 become U+FFFD (never throws).
std::string dump_json(const Json& value);

}  // namespace redoubt
