// Grammars of many rules are compiled in a time that grows as they do, not as rules times states.

#include "text/grammar_fixture.h"
#include "text/thread_stopwatch.h"

namespace redoubt {
namespace {

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

}  // namespace
}  // namespace redoubt
