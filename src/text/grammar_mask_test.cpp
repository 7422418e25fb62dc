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

// After "x" there are 600 ways to read on; more than are followed are left, by mask and token alike.
TEST(GrammarMask, MaskAndTokenAgreeWhereTheWaysAreTooMany) {
  const auto code = [](int i) { return std::string{static_cast<char>('a' + i / 20), static_cast<char>('a' + i % 20)}; };
  std::string text = "root ::= word+\nword ::= r0";
  for (int i = 1; i < 200; ++i) text += " | r" + std::to_string(i);
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
  std::string wide = "root ::= ";
  for (int i = 0; i < 300; ++i) wide += (i > 0 ? " | r" : "r") + std::to_string(i);
  for (int i = 0; i < 300; ++i) wide += "\nr" + std::to_string(i) + " ::= \"a" + std::to_string(i) + "\" root?";
  const auto refused = grammar_from_gbnf(wide + "\n");
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("alternatives"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace redoubt
