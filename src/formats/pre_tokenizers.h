// The pre-tokenizers that GGUF names, and the patterns by which tokenizer.json spells them.
// Source: the published tokenizer.json files; docs/formats/gguf.md.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace redoubt {

// The GGUF name for a tokenizer.json whose pre_tokenizer holds these Split patterns in this order; "" if unknown.
// individual_digits: it has Digits(individual_digits); own_pattern: its ByteLevel uses the GPT-2 pattern.
std::string pre_tokenizer_name(std::span<const std::string> patterns, bool individual_digits, bool own_pattern);

// The value of "pre_tokenizer" in tokenizer.json for a GGUF name; "" if unknown.
std::string pre_tokenizer_json(std::string_view gguf_name);

}  // namespace redoubt
