// A random walk through a grammar's masks, for the fuzz targets: aborts where a mask promises what accept refuses, or
// where neither a token nor the end is allowed.
#pragma once

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "text/grammar.h"
#include "text/grammar_vocabulary.h"

namespace redoubt::fuzz {

// The text if it came to an end within the walk, else "".
inline std::string walk(const GrammarPtr& grammar, uint32_t seed) {
  static const auto vocabulary = [] {
    std::vector<std::string> texts;
    for (int b = 0; b < 256; ++b) texts.emplace_back(1, static_cast<char>(b));
    for (const char* text :
         {"{\"", "\":",  "\",\"", "\"}",  "}]",  "]}",       "aaaa", "ab",  "((",       "))",   "12", "\\u00",
          "é",   "word", " word", "Word", "a_b", "abcdefgh", "日本", "a<b", "\xe6\x97", "a\",", "x: "})
      texts.emplace_back(text);
    return std::make_shared<const grammar::Vocabulary>(texts);
  }();
  std::mt19937 random(seed);
  GrammarMatcher matcher(grammar, vocabulary);
  std::vector<uint32_t> mask((static_cast<size_t>(vocabulary->vocab_size()) + 31) / 32);
  std::string text;
  for (int step = 0; step < 40; ++step) {
    matcher.fill_mask(mask);
    std::vector<int32_t> open;
    for (int32_t id = 0; id < vocabulary->vocab_size(); ++id)
      if (mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1) open.push_back(id);
    if (open.empty()) return matcher.can_end() ? text : (std::abort(), text);
    if (matcher.can_end() && random() % 3 == 0) return text;
    const int32_t chosen = open[random() % open.size()];
    if (!matcher.accept(chosen)) std::abort();
    text += vocabulary->text(chosen);
  }
  return matcher.can_end() ? text : std::string();
}

}  // namespace redoubt::fuzz
