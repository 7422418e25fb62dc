// Keywords of JSON schemas, each against arithmetic or a count of its own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "text/grammar_fixture.h"
#include "text/json_schema.h"

namespace redoubt {
namespace {

std::string with(const std::string& keywords) { return "{" + keywords + "}"; }

TEST(JsonSchema, TuplesOfOlderDraftsAreTuples) {
  struct Tuple {
    std::string schema;
    std::vector<std::string> good, bad;
  };
  for (const Tuple& c : std::vector<Tuple>{
           {R"("type":"array","items":[{"type":"integer"},{"type":"string"}],"additionalItems":{"type":"null"})",
            {"[]", "[1]", "[1,\"a\"]", "[1,\"a\",null,null]"},
            {"[\"a\"]", "[1,2]", "[1,\"a\",3]"}},
           {R"("items":[{"type":"integer"},{"type":"string"}],"additionalItems":false,"minItems":2)",
            {"[1,\"a\"]"},
            {"[1]", "[1,\"a\",1]"}},
           {R"("items":[{"$ref":"#/$defs/n"}],"$defs":{"n":{"type":"null"}},"minItems":2)",
            {"[null,1]", "[null,\"x\",2]"},
            {"[1,null]", "[null]"}},
           {R"("allOf":[{"items":[{"type":"integer"}],"minItems":1},{"maxItems":1}])",
            {"[1]"},
            {"[]", "[1,1]", "[\"a\"]"}},
           // Beside one schema for all, additionalItems says nothing.
           {R"("type":"array","items":{"type":"integer"},"additionalItems":false)", {"[1,2,3]"}, {"[\"a\"]"}},
           {R"("type":"array","items":[],"additionalItems":{"type":"integer"})", {"[]", "[1,2]"}, {"[\"a\"]"}}}) {
    const GrammarPtr grammar = from_schema(with(c.schema));
    ASSERT_NE(grammar, nullptr);
    for (const std::string& text : c.good) EXPECT_TRUE(bytes_match(grammar, text)) << c.schema << text;
    for (const std::string& text : c.bad) EXPECT_FALSE(bytes_match(grammar, text)) << c.schema << text;
  }
  EXPECT_EQ(refusal(R"({"items":[{},{"not":{}}]})").param, "/items/1/not");
  EXPECT_EQ(refusal(R"({"items":[{}],"additionalItems":{"not":{}}})").param, "/additionalItems/not");
  EXPECT_EQ(refusal(R"({"items":[{}],"prefixItems":[{}]})").param, "/items");
}

TEST(JsonSchema, WholeStepsAreCounted) {
  for (const int64_t step : {2, 3, 5, 7, 10, 15, 25, 60, 100, 125, 250, 999, 1000, 1'000'000}) {
    const std::string keyword = "\"multipleOf\":" + std::to_string(step);
    const GrammarPtr integers = from_schema(with(R"("type":"integer",)" + keyword));
    const GrammarPtr numbers = from_schema(with(keyword));
    const GrammarPtr between = from_schema(with(keyword + R"(,"minimum":-1500,"exclusiveMaximum":2000)"));
    ASSERT_TRUE(integers && numbers && between);
    for (int64_t value = -3000; value <= 3000; ++value) {
      const std::string text = std::to_string(value);
      const bool is_multiple = value % step == 0;
      ASSERT_EQ(bytes_match(integers, text), is_multiple) << step << ": " << text;
      ASSERT_EQ(bytes_match(numbers, text), is_multiple) << step << ": " << text;
      ASSERT_EQ(bytes_match(between, text), is_multiple && value >= -1500 && value < 2000) << step << ": " << text;
    }
    ASSERT_TRUE(bytes_match(integers, std::to_string(step * 987'654'321)));
    ASSERT_FALSE(bytes_match(integers, std::to_string(step * 987'654'321 + 1)));
    for (const char* text : {"-0", "00", "010", "1e3", "10.0", ""}) EXPECT_FALSE(bytes_match(integers, text)) << text;
  }
}

// In hundred-thousandths, so that no fraction is rounded.
TEST(JsonSchema, StepsOfDecimalsAreCounted) {
  for (const auto& [written, hundred_thousandths] : std::vector<std::pair<std::string, int64_t>>{{"0.1", 10'000},
                                                                                                 {"0.01", 1000},
                                                                                                 {"0.001", 100},
                                                                                                 {"1e-4", 10},
                                                                                                 {"0.5", 50'000},
                                                                                                 {"0.25", 25'000},
                                                                                                 {"0.05", 5000},
                                                                                                 {"2.5", 250'000},
                                                                                                 {"0.3", 30'000}}) {
    const GrammarPtr grammar = from_schema(with(R"("type":"number","multipleOf":)" + written));
    const GrammarPtr from_one = from_schema(with(R"("minimum":1,"maximum":2.5,"multipleOf":)" + written));
    const GrammarPtr whole = from_schema(with(R"("type":"integer","multipleOf":)" + written));
    ASSERT_TRUE(grammar && from_one && whole);
    const size_t places = std::to_string(100'000 + hundred_thousandths % 100'000).find_last_not_of('0');
    for (int64_t units = -60'000; units <= 330'000; units += units % 1000 == 0 ? 250 : 50) {
      std::string text = std::to_string(100'000 + std::abs(units) % 100'000).substr(1);
      text = (units < 0 ? "-" : "") + std::to_string(std::abs(units) / 100'000) + "." + text;
      const bool is_multiple = units % hundred_thousandths == 0 && units != 0;
      while (text.back() == '0' && text.size() - text.find('.') > places + 1) text.pop_back();
      if (text.back() == '.') text.pop_back();
      ASSERT_EQ(bytes_match(grammar, text), is_multiple || units == 0) << written << ": " << text;
      ASSERT_EQ(bytes_match(from_one, text), is_multiple && units >= 100'000 && units <= 250'000)
          << written << ": " << text;
      const bool is_integer = text.find('.') == std::string::npos;
      ASSERT_EQ(bytes_match(whole, text), is_integer && units % hundred_thousandths == 0) << written << ": " << text;
    }
  }
  for (const char* refused : {"1234", "0.1234", "1e-16", "1e300", "0.00000999"})
    EXPECT_EQ(refusal(with(std::string("\"multipleOf\":") + refused)).code, ErrorCode::unsupported) << refused;
  for (const char* refused : {"0", "-1", "\"1\"", "null"})
    EXPECT_EQ(refusal(with(std::string("\"multipleOf\":") + refused)).code, ErrorCode::invalid_argument) << refused;
}

TEST(JsonSchema, ListedItemsAreDifferent) {
  const GrammarPtr grammar = from_schema(
      R"({"type":"array","uniqueItems":true,"minItems":1,"maxItems":3,"items":{"enum":["a","ab",1,1.0,{"k":[2]}]}})");
  ASSERT_NE(grammar, nullptr);
  const std::vector<std::string> values = {"\"a\"", "\"ab\"", "1", "{\"k\": [2]}"};
  // All lists of up to four of these.
  for (size_t code = 0, count = 0; code < 5 * 5 * 5 * 5; ++code) {
    std::string text = "[";
    std::set<size_t> seen;
    bool is_good = true;
    count = 0;
    for (size_t rest = code; rest > 0; rest /= 5) {
      const size_t value = rest % 5;
      if (value == 0) break;
      text += (count++ > 0 ? ", " : "") + values[value - 1];
      is_good = is_good && seen.insert(value).second;
    }
    ASSERT_EQ(bytes_match(grammar, text + "]"), is_good && count >= 1 && count <= 3) << text;
  }
  const GrammarPtr all = from_schema(
      R"({"type":"array","uniqueItems":true,"items":{"$ref":"#/$defs/D"},"$defs":{"D":{"enum":["a","b"],"type":"string"}}})");
  EXPECT_TRUE(bytes_match(all, "[]"));
  EXPECT_TRUE(bytes_match(all, "[\n  \"b\",\n  \"a\"\n]"));
  EXPECT_FALSE(bytes_match(all, "[\"a\",\"b\",\"a\"]"));
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const Json list = Json::parse(random_walk(grammar, json_vocabulary(), seed, seed == 0, 25));
    std::set<std::string> different;
    for (const Json& value : list) different.insert(value.dump());
    EXPECT_EQ(different.size(), list.size()) << list;
  }
}

TEST(JsonSchema, ItemsThatNobodyListsAreNotKeptDifferent) {
  for (const char* schema :
       {R"({"type":"array","uniqueItems":true})", R"({"uniqueItems":true,"items":{"type":"string"}})",
        R"({"uniqueItems":true,"items":{"enum":[1,2,3,4,5,6,7,8,9]}})",
        R"({"uniqueItems":true,"items":{"anyOf":[{"const":1},{"const":2}]}})",
        R"({"uniqueItems":true,"prefixItems":[{"const":1}],"items":{"const":1}})"}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.code, ErrorCode::unsupported) << schema;
    EXPECT_EQ(error.param, "/uniqueItems") << schema;
  }
  EXPECT_TRUE(bytes_match(from_schema(R"({"uniqueItems":true,"items":{"type":"integer"},"maxItems":1})"), "[7]"));
  EXPECT_TRUE(bytes_match(from_schema(R"({"uniqueItems":false,"items":{"type":"integer"}})"), "[7,7]"));
  EXPECT_TRUE(bytes_match(from_schema(R"({"type":"string","uniqueItems":true})"), "\"a\""));
  EXPECT_FALSE(refusal(R"({"uniqueItems":true,"minItems":3,"items":{"enum":[1,2]}})").message.empty());
}

TEST(JsonSchema, AnnotationsMayBeNull) {
  const GrammarPtr grammar = from_schema(
      R"({"$schema":null,"$id":null,"title":null,"description":null,"type":"object","required":["a"],"properties":
          {"a":{"type":"integer","title":null,"description":null,"default":null,"examples":null,"x-order":null,
           "deprecated":null,"nullable":null}}})");
  ASSERT_NE(grammar, nullptr);
  EXPECT_TRUE(bytes_match(grammar, "{\"a\":1}"));
  EXPECT_FALSE(bytes_match(grammar, "{\"a\":null}"));
}

TEST(JsonSchema, IllFormedKeywordsAreToldOfWhereTheyBindNothing) {
  for (const auto& [keyword, value] :
       std::vector<std::pair<std::string, std::string>>{{"minimum", "\"x\""},
                                                        {"maximum", "null"},
                                                        {"exclusiveMinimum", "true"},
                                                        {"exclusiveMaximum", "[]"},
                                                        {"multipleOf", "0"},
                                                        {"minItems", "-1"},
                                                        {"maxItems", "1.5"},
                                                        {"minProperties", "\"1\""},
                                                        {"maxProperties", "{}"},
                                                        {"uniqueItems", "1"},
                                                        {"items", "3"},
                                                        {"prefixItems", "{}"},
                                                        {"additionalItems", "1"},
                                                        {"additionalProperties", "\"no\""},
                                                        {"propertyNames", "1"},
                                                        {"required", "true"},
                                                        {"required", "[1]"},
                                                        {"properties", "[]"},
                                                        {"patternProperties", "1"},
                                                        {"nullable", "\"yes\""}}) {
    const Error error = refusal(R"({"type":["string","boolean"],")" + keyword + "\":" + value + "}");
    EXPECT_EQ(error.code, ErrorCode::invalid_argument) << keyword;
    EXPECT_EQ(error.param, "/" + keyword) << error.message;
    EXPECT_EQ(error.message.find("schema: " + keyword + ": expected "), 0u) << error.message;
  }
  for (const char* keyword : {"minLength", "maxLength", "pattern", "format"}) {
    const Error error = refusal(R"({"properties":{"a":{"type":"integer",")" + std::string(keyword) + "\":[]}}}");
    EXPECT_EQ(error.code, ErrorCode::invalid_argument) << keyword;
    EXPECT_EQ(error.param, "/properties/a/" + std::string(keyword)) << error.message;
  }
}

TEST(JsonSchema, WhatIsWorkedOnHasNoAnnotations) {
  const Json schema = *parse_json(R"({
      "title": "A", "$defs": {"B": {}}, "type": "object",
      "properties": {"title": {"description": "d", "type": "string"}, "b": {"default": 1, "$ref": "#/$defs/B"}},
      "anyOf": [{"x-a": 1, "enum": [{"title": "value"}]}, true],
      "items": {"examples": [1], "const": {"description": "value"}}, "prefixItems": [{"$comment": "c"}]})");
  size_t weight = 0;
  EXPECT_EQ(
      dump_json(grammar::bare_schema(schema, weight)),
      R"({"type":"object","properties":{"title":{"type":"string"},"b":{"$ref":"#/$defs/B"}},)"
      R"("anyOf":[{"enum":[{"title":"value"}]},true],"items":{"const":{"description":"value"}},"prefixItems":[{}]})");
  EXPECT_GE(weight, 25U);  // what is left out is met too
}

TEST(JsonSchema, ValuesWeighByTheirTexts) {
  EXPECT_EQ(grammar::weight_of(*parse_json("[1, null, {\"a\": true}]")), 5U);
  EXPECT_EQ(grammar::weight_of(Json(std::string(1600, 'y'))), 101U);
  EXPECT_EQ(grammar::weight_of(Json{{std::string(1600, 'y'), 1}}), 102U);
}

}  // namespace
}  // namespace redoubt
