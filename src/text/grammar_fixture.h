// Helpers of the grammar tests: vocabularies, and random walks that hold each mask to trying every token.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "text/grammar.h"
#include "text/grammar_vocabulary.h"

namespace redoubt {

using VocabularyPtr = std::shared_ptr<const GrammarVocabulary>;

inline VocabularyPtr make_vocabulary(std::vector<std::string> extra) {
  std::vector<std::string> texts{""};  // id 0: a token without text, never allowed
  for (int b = 0; b < 256; ++b) texts.push_back(std::string(1, static_cast<char>(b)));
  texts.insert(texts.end(), extra.begin(), extra.end());
  return std::make_shared<const grammar::Vocabulary>(texts);
}

inline VocabularyPtr json_vocabulary() {
  static const VocabularyPtr vocabulary = make_vocabulary(
      {"{\"",  "\":",     "\": ", "\",",     "\", \"",   "\"}", "\"}}",  "}]",       "}},",     "]}",       "},{",
       "[{\"", "tr",      "true", "true,",   "false}",   "nul", "null",  "12",       "123,",    "1}",       "0.5",
       "e1",   "-1",      "\n",   "\n  ",    "\n    \"", " \"", " {",    ": [",      "name",    "na",       "me\"",
       "abc",  "ab\\",    "\\n",  "\\u00",   "\\ud8",    "é",   "日本",  "\xe6\x97", "\xa5\",", "\":\"",    "\":{\"",
       "[]",   "{}",      "[[",   "[[[",     "]]",       ",1",  ", ",    "  ",       "\t",      "aaaaaaaa", "bb",
       "ba",   "\"a\":1", "red",  "\"red\"", "green",    "id",  "2024-", "02-29",    "00",      "99"});
  return vocabulary;
}

inline const grammar::Vocabulary& texts(const VocabularyPtr& vocabulary) {
  return static_cast<const grammar::Vocabulary&>(*vocabulary);
}

inline bool bytes_match(const GrammarPtr& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar, json_vocabulary());
  for (const char c : text)
    if (!matcher.accept(1 + static_cast<uint8_t>(c))) return false;
  return matcher.can_end();
}

inline GrammarPtr from_schema(std::string_view schema) {
  auto json = parse_json(schema);
  EXPECT_TRUE(json.has_value()) << schema;
  auto grammar = grammar_from_json_schema(*json);
  EXPECT_TRUE(grammar.has_value()) << schema << ": " << (grammar.has_value() ? "" : grammar.error().message);
  return grammar.has_value() ? *grammar : nullptr;
}

inline Error refusal(std::string_view schema) {
  auto json = parse_json(schema);
  EXPECT_TRUE(json.has_value()) << schema;
  auto grammar = grammar_from_json_schema(*json);
  EXPECT_FALSE(grammar.has_value()) << schema;
  return grammar.has_value() ? Error{} : grammar.error();
}

inline std::vector<uint32_t> mask_of(GrammarMatcher& matcher, int32_t vocab_size) {
  std::vector<uint32_t> mask((static_cast<size_t>(vocab_size) + 31) / 32, 0xffffffff);
  matcher.fill_mask(mask);
  return mask;
}

inline bool allowed(const std::vector<uint32_t>& mask, int32_t id) {
  return mask[static_cast<size_t>(id) / 32] >> (id % 32) & 1;
}

// Walks at random through a grammar's masks; checks each against trying every token, and returns the text once it
// ended.
inline std::string random_walk(const GrammarPtr& grammar, const VocabularyPtr& vocabulary, uint32_t seed,
                               bool brute_force, int max_tokens = 60) {
  std::mt19937 random(seed);
  GrammarMatcher matcher(grammar, vocabulary);
  std::string text;
  for (int step = 0; step < 2000; ++step) {
    const auto mask = mask_of(matcher, vocabulary->vocab_size());
    std::vector<int32_t> open;
    for (int32_t id = 0; id < vocabulary->vocab_size(); ++id) {
      if (brute_force) {
        GrammarMatcher copy(matcher);
        const bool accepted = copy.accept(id);
        EXPECT_EQ(accepted, allowed(mask, id)) << "after " << text << " token " << texts(vocabulary).text(id);
        if (accepted != allowed(mask, id)) return {};
      }
      if (allowed(mask, id)) open.push_back(id);
    }
    EXPECT_EQ(matcher.must_end(), matcher.can_end() && open.empty());
    if (open.empty()) {
      EXPECT_TRUE(matcher.can_end()) << "a dead end after " << text;
      return text;
    }
    if (matcher.can_end() && random() % 4 == 0) return text;
    // Once the text is long, what closes things is preferred, so that walks end; inside a string that is the quote.
    int32_t chosen = open[random() % open.size()];
    if (step > max_tokens && random() % 4 != 0) {
      const bool in_string = allowed(mask, 1 + 'z') && allowed(mask, 1 + '"');
      for (const char closing : in_string ? std::string("\"") : std::string("\"]}"))
        if (allowed(mask, 1 + closing)) chosen = 1 + closing;
    }
    EXPECT_TRUE(matcher.accept(chosen));
    text += texts(vocabulary).text(chosen);
  }
  ADD_FAILURE() << "no end in sight: " << text.substr(0, 200);
  return text;
}

}  // namespace redoubt
