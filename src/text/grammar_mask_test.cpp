// Masks against trying each token: those made of slices, and those of grammars that can be read in very many ways.

#include <random>

#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

// Words of many lengths and alphabets, some with what no slice holds: quotes, backslashes, controls, halves of
// characters.
VocabularyPtr many_words() {
  static const VocabularyPtr vocabulary = [] {
    std::mt19937 random(7);
    const std::vector<std::string> pieces[] = {{"a", "b", "z"},           {"A", "b", "c"},
                                               {"1", "_", "-", "x"},      {" ", "w", "T"},
                                               {".", "<", "!", "a", " "}, {"é", "日", "k", "🙂"},
                                               {"\"", "a", ",", "}"},     {"\\", "n", "u00"},
                                               {"\n", " ", "\t"},         {"\xe6", "\x97", "\xa5", "q", "\xf0\x9f"}};
    std::vector<std::string> texts;
    for (int i = 0; i < 1500; ++i) {
      const auto& alphabet = pieces[random() % std::size(pieces)];
      const size_t length = random() % 40 == 0 ? 30 + random() % 20 : 1 + random() % 8;
      std::string text;
      while (text.size() < length) text += alphabet[random() % alphabet.size()];
      texts.push_back(text);
    }
    return make_vocabulary(texts);
  }();
  return vocabulary;
}

// Masks made of slices are what trying each token gives, in states that read any text, counted text, some letters.
TEST(GrammarMask, SlicedMasksAreWhatEachTokenGives) {
  for (const char* schema :
       {R"({"type":"string"})", R"({"type":"string","maxLength":12})",
        R"({"type":"string","minLength":3,"maxLength":40})", R"({"type":"string","pattern":"^[a-z]+$"})",
        R"({"type":"string","pattern":"^[A-Za-z0-9_-]{1,9}$"})", R"({"type":"string","pattern":"^[^<>]{1,20}$"})",
        R"({"type":"string","pattern":"^[A-Z][a-z]+( [A-Z][a-z]+)*$"})",
        R"({"type":"object","additionalProperties":{"type":"string","maxLength":3}})"}) {
    SCOPED_TRACE(schema);
    const GrammarPtr grammar = from_schema(schema);
    for (uint32_t seed = 0; seed < 4; ++seed) random_walk(grammar, many_words(), seed, true, 12);
  }
  for (const char* pattern : {".*", "[^b]{0,5}x?", "([a-z]{3})*", "(a|bb|[^a-z])*z", "[\\s\\S]{0,9}", "[é-🙂]*b"}) {
    SCOPED_TRACE(pattern);
    for (uint32_t seed = 0; seed < 4; ++seed) random_walk(*grammar_from_regex(pattern), many_words(), seed, true, 12);
  }
  const auto calls =
      grammar_from_gbnf("root ::= ([a-zé日 ] | quoted)*\nquoted ::= \"\\\"\" [^\"]* \"\\\"\" root \"!\"\n");
  ASSERT_TRUE(calls.has_value()) << calls.error().message;
  for (uint32_t seed = 0; seed < 4; ++seed) random_walk(*calls, many_words(), seed, true, 12);
}

// After "x" there are 600 ways to read on; more than are followed are left, by mask and token alike. In groups: a rule
// that calls many is unfolded, and these ways were one.
TEST(GrammarMask, MaskAndTokenAgreeWhereTheWaysAreTooMany) {
  const auto code = [](int i) { return std::string{static_cast<char>('a' + i / 20), static_cast<char>('a' + i % 20)}; };
  std::string text = "root ::= word+\nword ::= g0";
  for (int i = 1; i < 14; ++i) text += " | g" + std::to_string(i);
  for (int i = 0; i < 200; ++i)
    text += (i % 15 == 0 ? "\ng" + std::to_string(i / 15) + " ::= r" : std::string(" | r")) + std::to_string(i);
  std::vector<std::string> tokens{"x", "xa", "xb"};
  for (int i = 0; i < 200; ++i) {
    const std::string n = std::to_string(i);
    text += "\nr" + n + " ::= \"x\" (p" + n + " | q" + n + " | t" + n + ")";
    for (const char* name : {"p", "q", "t"})
      text += std::string("\n") + name + n + " ::= " + "\"" + *name + code(i) + "\"";
    tokens.push_back("xp" + code(i));
    tokens.push_back("xt" + code(i) + "x");
    tokens.push_back("q" + code(i));
  }
  const auto grammar = grammar_from_gbnf(text + "\n");
  ASSERT_TRUE(grammar.has_value()) << grammar.error().message;
  const VocabularyPtr vocabulary = make_vocabulary(tokens);
  for (uint32_t seed = 0; seed < 6; ++seed) {
    std::mt19937 random(seed);
    GrammarMatcher matcher(*grammar, vocabulary);
    for (int step = 0; step < 8; ++step) {
      const auto mask = mask_of(matcher, vocabulary->vocab_size());
      std::vector<int32_t> open;
      for (int32_t id = 0; id < vocabulary->vocab_size(); ++id) {
        EXPECT_EQ(GrammarMatcher(matcher).accept(id), allowed(mask, id)) << "step " << step << " token " << id;
        if (allowed(mask, id)) open.push_back(id);
      }
      ASSERT_FALSE(open.empty() && !matcher.can_end());
      if (open.empty()) break;
      ASSERT_TRUE(matcher.accept(open[random() % open.size()]));
    }
  }
  std::string wide = "root ::= left | right\nleft ::= g0";
  for (int i = 1; i < 20; ++i) wide += (i == 10 ? "\nright ::= g" : std::string(" | g")) + std::to_string(i);
  for (int i = 0; i < 300; ++i)
    wide += (i % 15 == 0 ? "\ng" + std::to_string(i / 15) + " ::= r" : std::string(" | r")) + std::to_string(i);
  for (int i = 0; i < 300; ++i) wide += "\nr" + std::to_string(i) + " ::= \"a" + std::to_string(i) + "\" root?";
  const auto refused = grammar_from_gbnf(wide + "\n");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("alternatives"), std::string::npos) << refused.error().message;
}

constexpr const char* kPrepared[] = {
    R"({"type":"object","required":["a"],"properties":{"a":{"type":"string","maxLength":5},"b":{"type":"number"},
        "c":{"type":"array","items":{"enum":["red","green"]}}}})",
    R"({"type":"array","items":{"$ref":"#/$defs/x"},"$defs":{"x":{"anyOf":[{"type":"null"},{"type":"array",
        "items":{"$ref":"#/$defs/x"}}]}}})",
    R"({"type":"string","pattern":"^[A-Z][a-z]+( [A-Z][a-z]+)*$"})"};

// Prepared masks are what trying each token gives; and without a limit all are found, those of what is left to the
// states below too: walks add none.
TEST(GrammarMask, PreparedMasksAreWhatEachTokenGivesAndAllThereAre) {
  for (const char* schema : kPrepared) {
    SCOPED_TRACE(schema);
    for (const VocabularyPtr& vocabulary : {json_vocabulary(), many_words()}) {
      const GrammarPtr grammar = from_schema(schema);
      const size_t before = grammar->size_bytes();
      EXPECT_GT(prepare_masks(*grammar, *vocabulary, {.max_masks = 1'000'000, .max_us = 60'000'000}), 5u);
      const size_t prepared = grammar->size_bytes();
      EXPECT_GT(prepared, before);
      for (uint32_t seed = 0; seed < 6; ++seed) random_walk(grammar, vocabulary, seed, true, 12);
      EXPECT_EQ(grammar->size_bytes(), prepared);
    }
  }
}

TEST(GrammarMask, PreparationHasLimits) {
  const GrammarPtr grammar = from_schema(R"({"type":"array","items":{"type":"string","maxLength":2000}})");
  EXPECT_EQ(prepare_masks(*grammar, *json_vocabulary(), {.max_masks = 7, .max_us = 60'000'000}), 7u);
  EXPECT_EQ(prepare_masks(*grammar, *json_vocabulary(), {.max_us = 0}), 0u);
  random_walk(grammar, json_vocabulary(), 1, true, 12);
  // Each of 400 rules ends where it was called from: what may lie below them is counted only so far.
  std::string chain = "root ::= (r0 \"!\"){1,3}\n";
  for (int i = 0; i < 400; ++i)
    chain += "r" + std::to_string(i) + " ::= \"a\" r" + std::to_string((i + 1) % 400) + " | \"b\" r" +
             std::to_string((i * 7) % 400) + " \"c\" | \"d\"\n";
  const auto hostile = grammar_from_gbnf(chain);
  ASSERT_TRUE(hostile.has_value()) << hostile.error().message;
  EXPECT_LE(prepare_masks(**hostile, *json_vocabulary(), {.max_masks = 500, .max_us = 60'000'000}), 500u);
  for (uint32_t seed = 0; seed < 3; ++seed) random_walk(*hostile, json_vocabulary(), seed, true, 12);
}

// The entries of a counted text's states are mostly one.
TEST(GrammarMask, EqualMasksAreKeptOnce) {
  const auto bytes_of = [](const char* schema) {
    const GrammarPtr grammar = from_schema(schema);
    const size_t before = grammar->size_bytes();
    prepare_masks(*grammar, *many_words(), {.max_masks = 1'000'000, .max_us = 60'000'000});
    return grammar->size_bytes() - before;
  };
  const size_t few = bytes_of(R"({"type":"string","maxLength":60})");
  const size_t many = bytes_of(R"({"type":"string","maxLength":240})");
  EXPECT_LT(many, 4 * few);
  EXPECT_GT(many, few);
}

}  // namespace
}  // namespace redoubt
