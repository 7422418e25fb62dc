// Schemas that hold at once: what cannot hold beside the rest is no alternative, and what the client did not write is
// not held against its schema.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

using Texts = std::vector<std::string>;

TEST(JsonSchemaJoin, AnAlternativeThatCannotHoldBesideTheRestIsNone) {
  struct Case {
    std::string schema;
    Texts instances, others;
  };
  const std::vector<Case> cases = {
      {R"({"type":"object","anyOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],
           "additionalProperties":false},{"type":"null"}]})",
       {R"({"a":1})"},
       {"null", "{}"}},
      {R"({"type":"string","anyOf":[{"type":"string","maxLength":4},{"type":"null"}]})", {R"("abcd")"}, {"null"}},
      {R"({"type":["string","null"],"anyOf":[{"type":"string","maxLength":3},{"type":"integer"}]})",
       {R"("abc")"},
       {"null", "1"}},
      {R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],
           "oneOf":[{"type":"object","properties":{"a":{"minimum":3}}},{"type":"string"}]})",
       {R"({"a":3})"},
       {R"({"a":2})", R"("x")"}},
      {R"({"allOf":[{"type":"object"},{"anyOf":[{"type":"object"},{"type":"integer"}]}]})", {"{}"}, {"1"}},
      {R"({"enum":["a","b"],"anyOf":[{"enum":["a"]},{"enum":["c"]}]})", {R"("a")"}, {R"("b")", R"("c")"}},
      {R"({"const":"a","anyOf":[{"const":"b"},{"type":"string"}]})", {R"("a")"}, {R"("b")"}},
      {R"({"const":"a","oneOf":[{"enum":["b","c"]},{"type":"string"}]})", {R"("a")"}, {R"("b")"}},
      {R"({"const":1,"anyOf":[{"const":1.0},{"const":2}]})", {"1.0"}, {"2"}},
      {R"({"type":"number","anyOf":[{"type":"integer"},{"type":"string"}]})", {"1"}, {R"("x")"}},
      {R"({"oneOf":[false,{"type":"null"}]})", {"null"}, {"1"}},
      {R"({"oneOf":[{"allOf":[{"type":"integer"},{"type":"string"}]},{"type":"null"}]})", {"null"}, {"1"}},
      // What else could not be joined does not matter then.
      {R"({"type":"string","pattern":"^a$","anyOf":[{"type":"null","pattern":"b"},{"minLength":1}]})",
       {R"("a")"},
       {"null"}},
      {R"({"type":"array","uniqueItems":true,"items":{"allOf":[{"enum":[1]},{"enum":[2]}]}})", {"[]"}, {"[1]"}},
      {R"({"type":"array","items":{"type":"string","anyOf":[{"type":"null"}]}})", {"[]"}, {"[null]", "[\"a\"]"}}};
  for (const Case& one : cases) {
    const GrammarPtr grammar = from_schema(one.schema);
    ASSERT_TRUE(grammar) << one.schema;
    for (const std::string& text : one.instances) EXPECT_TRUE(bytes_match(grammar, text)) << one.schema << text;
    for (const std::string& text : one.others) EXPECT_FALSE(bytes_match(grammar, text)) << one.schema << text;
  }
}

TEST(JsonSchemaJoin, WhereNothingIsLeftNothingCanMatch) {
  for (const char* schema :
       {R"({"type":"string","anyOf":[{"type":"null"},{"type":"integer"}]})",
        R"({"type":"string","oneOf":[{"type":"null"},{"type":"integer"}]})",
        R"({"enum":["a"],"anyOf":[{"enum":["b"]}]})", R"({"allOf":[{"const":"a"},{"const":"b"}]})",
        R"({"allOf":[{"type":"integer"},{"type":"string"}]})",
        R"({"type":"object","required":["a"],"properties":{"a":{"type":"string","anyOf":[{"type":"null"}]}}})"}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.message, "schema: grammar: nothing can match it") << schema;
    EXPECT_EQ(error.param, "") << schema;
  }
}

// An empty list that the client wrote is ill-formed wherever it stands, also beside what excludes it.
TEST(JsonSchemaJoin, WhatTheClientWroteIsCheckedAsItStandsThere) {
  for (const auto& [schema, place] : std::vector<std::pair<std::string, std::string>>{
           {R"({"type":"string","anyOf":[{"type":"null","enum":[]},{"minLength":1}]})", "/anyOf/0/enum"},
           {R"({"enum":["a"],"oneOf":[{"enum":["a"]},{"enum":[]}]})", "/oneOf/1/enum"},
           {R"({"allOf":[{"type":"string"},{"type":[]}]})", "/allOf/1/type"},
           {R"({"type":"string","anyOf":[{"type":"null","minimum":"x"},{"minLength":1}]})", "/anyOf/0/minimum"}}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.param, place) << error.message;
    EXPECT_NE(error.message.find(": expected "), std::string::npos) << error.message;
  }
}

}  // namespace
}  // namespace redoubt
