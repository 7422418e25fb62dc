// The published pre-tokenizers by hand: one pass over the text, several times as fast as their regular expressions.
// The regular expressions (pretokenizer_pattern.h) are the definition; a test holds the two together on random text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer_spec.h"

namespace redoubt {

// Appends the end of each piece of `text` (valid UTF-8), last one text.size().
using KnownSplitter = void (*)(std::string_view text, std::vector<size_t>& ends);

// The hand-written form of these splits, nullptr if there is none.
KnownSplitter known_splitter(std::span<const SplitRule> splits);

// The published patterns, as tokenizer.json spells them.
namespace patterns {
extern const std::string_view kGpt2, kQwen2, kLlama3;
extern const std::string_view kDeepSeekV3Digits, kDeepSeekV3Cjk, kDeepSeekV3Words;
std::vector<SplitRule> deepseek_llm();  // V2's
std::vector<SplitRule> deepseek_coder();
}  // namespace patterns

// Of these two (pretokenizer_deepseek_llm.cpp).
void split_deepseek_llm(std::string_view text, std::vector<size_t>& ends);
void split_deepseek_coder(std::string_view text, std::vector<size_t>& ends);

}  // namespace redoubt
