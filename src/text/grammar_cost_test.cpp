// Grammars of many rules are compiled in a time that grows as they do, not as rules times states.

#include <gmock/gmock.h>

#include "text/grammar_fixture.h"
#include "text/thread_stopwatch.h"

namespace redoubt {
namespace {

using testing::HasSubstr;

// Every one of many rules is found to end while the first is long: it was walked again for each.
TEST(GrammarCost, ALongRuleOfManyOthersIsCompiledSoon) {
  std::string properties = "\"" + std::string(100'000, 'x') + R"(":{"type":"null"})", required;
  required = properties.substr(0, properties.find(':'));
  for (int i = 0; i < 4000; ++i) {
    const std::string name = "\"k" + std::to_string(i) + "\"";
    properties += "," + name + R"(:{"const":)" + std::to_string(i) + "}";
    required += "," + name;
  }
  const Stopwatch watch;
  EXPECT_TRUE(from_schema(R"({"type":"object","properties":{)" + properties + R"(},"required":[)" + required +
                          R"(],"additionalProperties":false})"));
  EXPECT_LT(watch.seconds(), 4);
}

// Rules that may be empty, one after the other: from each state all that follow are reached.
TEST(GrammarCost, ManyRulesThatMayBeEmptyEndSoon) {
  std::string root = "root ::=", rules;
  for (int i = 0; i < 1200; ++i) {
    const std::string name = "r" + std::to_string(i);
    root += " " + name + "?";
    rules += "\n" + name + " ::= [a-z]{0,20}";
  }
  const Stopwatch watch;
  EXPECT_FALSE(grammar_from_gbnf(root + rules).has_value());
  EXPECT_LT(watch.seconds(), 1.5);
}

std::string repeated(std::string_view text, size_t times) {
  std::string all;
  for (size_t i = 0; i < times; ++i) all += text;
  return all;
}

// None of these costs a state, and each was made anew with what stands around it.
TEST(GrammarCost, WhatCostsNoStateIsCountedToo) {
  const Stopwatch watch;
  EXPECT_FALSE(grammar_from_gbnf("root ::= (" + std::string(15'000, '|') + "\"a\"){10000}").has_value());
  EXPECT_FALSE(grammar_from_regex("(" + std::string(12'000, '|') + "a){10000}").has_value());
  std::string calls, rules;  // behind each call of one state a long way that reads nothing
  for (int i = 0; i < 8000; ++i) {
    calls += (i > 0 ? "|r" : "r") + std::to_string(i);
    rules += "\nr" + std::to_string(i) + " ::= \"" + std::to_string(i) + "\"";
  }
  EXPECT_FALSE(grammar_from_gbnf("root ::= (" + calls + ")" + repeated(" (\"a\"?){10000}", 13) + rules).has_value());
  EXPECT_LT(watch.seconds(), 2);
}

TEST(GrammarCost, NamesAndValuesAreComparedWithPatternsWithinABudget) {
  const Stopwatch watch;
  std::string names, values;
  for (int i = 0; i < 20; ++i) {
    const std::string text = "\"" + std::string(9'980, 'a') + std::to_string(i) + "\"";
    names += (i > 0 ? "," : "") + text + ":{}";
    values += (i > 0 ? "," : "") + text;
  }
  const std::string pattern = "^[ab]{0,10000}a[ab]{9000}x$";
  EXPECT_THAT(refusal(R"({"type":"object","patternProperties":{")" + pattern + R"(":{"type":"null"}},"properties":{)" +
                      names + "}}")
                  .message,
              HasSubstr("too large"));
  EXPECT_THAT(refusal(R"({"type":"string","pattern":")" + pattern + R"(","enum":[)" + values + "]}").message,
              HasSubstr("too large"));
  std::string many = "\"0\"";
  for (int i = 1; i < 100'000; ++i) many += ",\"" + std::to_string(i) + "\"";
  EXPECT_TRUE(from_schema(R"({"type":"string","maxLength":1,"enum":[)" + many + "]}"));
  EXPECT_LT(watch.seconds(), 4);
}

// What one side says of further keys falls on each key of the other: the product of two lists.
TEST(GrammarCost, FurtherKeysThatFallOnManyNamesAreCounted) {
  const auto both = [](int num_names, const std::string& further) {
    std::string names;
    for (int i = 0; i < num_names; ++i)
      names += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + R"(":{"type":"string"})";
    return R"({"allOf":[{"type":"object","properties":{)" + names + R"(}},{"additionalProperties":)" + further + "}]}";
  };
  std::string values = "\"v\"";
  for (int i = 0; i < 6000; ++i) values += ",\"" + std::to_string(i) + "\"";
  const Stopwatch watch;
  const auto grammar = grammar_from_json_schema(*parse_json(both(6000, "{\"enum\":[" + values + "]}")));
  ASSERT_FALSE(grammar.has_value());
  EXPECT_THAT(grammar.error().message, HasSubstr("too large with all"));
  EXPECT_LT(watch.seconds(), 2);
  EXPECT_TRUE(from_schema(both(100, "false"))) << "which weighs nothing";
}

// Each pattern is a kind of key that is counted along, so that their number times the count is built.
TEST(GrammarCost, PatternsTimesACountAreRefusedBeforeTheyAreBuilt) {
  const auto counted = [](int patterns, int most) {
    std::string keys;
    for (int i = 0; i < patterns; ++i) keys += (i > 0 ? ",\"^k" : "\"^k") + std::to_string(i) + R"($":{"type":"null"})";
    return R"({"type":"object","patternProperties":{)" + keys + R"(},"maxProperties":)" + std::to_string(most) +
           R"(,"additionalProperties":false})";
  };
  const Stopwatch watch;
  EXPECT_THAT(refusal(counted(50, 19'999)).message, HasSubstr("too many to count"));
  EXPECT_LT(watch.seconds(), 1);
  EXPECT_TRUE(from_schema(counted(50, 8)));
}

// A mask is made while nobody gets a token: more ways on from one place than are looked at are refused, and told so.
TEST(GrammarCost, ManyWaysFromOnePlaceAreRefused) {
  const auto compiled = [](int ways) {
    std::string wide = "big ::=", rules;
    for (int i = 0; i < ways; ++i) {
      const std::string name = " n" + std::to_string(i);
      wide += (i > 0 ? " |" : "") + name;
      rules += "\n" + name + " ::= \"" + std::to_string(i) + "\" [a-z]{0,8}";
    }
    const std::string filler = " (\"z\"{9999} \"y\"){18}";  // leaves no room to unfold the choice
    return grammar_from_gbnf("root ::= \"b\" big | \"Q\"" + filler + "\n" + wide + rules);
  };
  EXPECT_TRUE(compiled(900).has_value());
  const auto refused = compiled(1500);
  ASSERT_FALSE(refused.has_value());
  EXPECT_THAT(refused.error().message, HasSubstr("rule 'big' has more alternatives at one place than are followed"));
}

}  // namespace
}  // namespace redoubt
