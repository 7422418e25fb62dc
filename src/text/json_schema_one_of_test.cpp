// Unions as pydantic and OpenAPI write them, large ones too, and that what costs the square of a schema is refused
// soon.

#include <gtest/gtest.h>

#include "text/grammar_fixture.h"
#include "text/thread_stopwatch.h"

namespace redoubt {
namespace {

std::string numbers(int from, int to, int step = 1) {
  std::string out;
  for (int i = from; i < to; i += step) out += (i > from ? "," : "") + std::to_string(i);
  return out;
}

// What pydantic makes of a union with a discriminator: a definition for each model, the list of references.
std::string tagged_union(int num_models, int num_fields, const std::string& keyword, bool is_tag_required = true) {
  std::string defs, list;
  for (int i = 0; i < num_models; ++i) {
    const std::string name = "Model" + std::to_string(i), comma = i > 0 ? "," : "";
    std::string fields, required;
    for (int k = 0; k < num_fields; ++k) {
      const std::string field = "\"field_" + std::to_string(k) + "\"";
      fields += "," + field + R"(:{"title":"A field","type":"integer"})";
      required += (k > 0 || is_tag_required ? "," : "") + field;
    }
    defs += comma + "\"" + name + R"(":{"type":"object","title":"A","properties":{"kind":{"const":")" + name +
            R"(","type":"string"})" + fields + R"(},"required":[)" + (is_tag_required ? "\"kind\"" : "") + required +
            "]}";
    list += comma + R"({"$ref":"#/$defs/)" + name + "\"}";
  }
  return R"({"$defs":{)" + defs +
         R"(},"type":"object","properties":{"item":{"discriminator":{"propertyName":"kind"},")" + keyword + "\":[" +
         list + R"(]}},"required":["item"]})";
}

TEST(JsonSchemaUnion, LargeOnesAreCompiledSoon) {
  for (const auto& [num_models, num_fields] : {std::pair{130, 15}, {200, 8}, {400, 15}}) {
    for (const char* keyword : {"oneOf", "anyOf"}) {
      const Stopwatch watch;
      const GrammarPtr grammar = from_schema(tagged_union(num_models, num_fields, keyword));
      EXPECT_LT(watch.seconds(), 5) << num_models << keyword;
      ASSERT_TRUE(grammar);
      std::string fields;
      for (int k = 0; k < num_fields; ++k) fields += ",\"field_" + std::to_string(k) + "\":1";
      // A matcher follows 256 ways at once: one for each model were too many for the last of them.
      for (int i = 0; i <= num_models; ++i) {
        const std::string text = R"({"item":{"kind":"Model)" + std::to_string(i) + "\"" + fields + "}}";
        EXPECT_EQ(bytes_match(grammar, text), i < num_models) << keyword << " " << text;
      }
    }
  }
}

TEST(JsonSchemaUnion, ATagWithADefaultIsWrittenAlways) {
  const GrammarPtr grammar = from_schema(tagged_union(3, 1, "oneOf", /*is_tag_required=*/false));
  ASSERT_TRUE(grammar);
  EXPECT_TRUE(bytes_match(grammar, R"({"item":{"kind":"Model1","field_0":1}})"));
  EXPECT_FALSE(bytes_match(grammar, R"({"item":{"field_0":1}})"));
}

TEST(JsonSchemaUnion, UnionsWithinUnionsAreToldApart) {
  const auto model = [](const std::string& pet, const std::string& color, const std::string& more) {
    return R"({"type":"object","properties":{"pet":{"const":")" + pet + R"("},"color":{"const":")" + color + R"("},")" +
           more + R"(":{"type":"null"}},"required":["pet","color",")" + more + "\"]}";
  };
  const std::string cats = "[" + model("cat", "black", "a") + "," + model("cat", "white", "b") + "]";
  for (const char* keyword : {"oneOf", "anyOf"}) {
    const GrammarPtr grammar = from_schema(R"({"oneOf":[{")" + std::string(keyword) + "\":" + cats + "}," +
                                           model("dog", "black", "c") + R"(,{"type":"null"}]})");
    ASSERT_TRUE(grammar);
    for (const char* text : {R"({"pet":"cat","color":"white","b":null})", R"({"pet":"cat","color":"black","a":null})",
                             R"({"pet":"dog","color":"black","c":null})", "null"})
      EXPECT_TRUE(bytes_match(grammar, text)) << text;
    EXPECT_FALSE(bytes_match(grammar, R"({"pet":"cat","color":"white","a":null})"));
  }
}

TEST(JsonSchemaUnion, AlternativesThatMayBothHoldAreRefused) {
  const std::string a = R"({"type":"object","properties":{"k":{"const":"a"},"x":{"type":"null"}},"required":["k"]})";
  for (const std::string& schema :
       {R"({"oneOf":[)" + a + "," + a + "]}",                                                // one tag twice
        R"({"oneOf":[)" + a + R"(,{"type":"object","properties":{"y":{"type":"null"}}}]})",  // a model without a tag
        R"({"oneOf":[)" + a + R"(,{"properties":{"y":{"type":"null"}}}]})",
        std::string(R"({"oneOf":[{"enum":["a","b"]},{"enum":["b","c"]}]})"),
        std::string(R"({"oneOf":[{"enum":[{"a":1,"b":2}]},{"enum":[{"b":2.0,"a":1}]}]})"),  // one value in two ways
        std::string(R"({"oneOf":[{"const":"a"},{"type":"string"}]})"),
        std::string(R"({"oneOf":[{"type":"null"},{"oneOf":[{"type":"string"},{"type":"null"}]}]})")}) {
    const Error error = refusal(schema);
    EXPECT_EQ(error.param, "/oneOf") << schema << ": " << error.message;
    EXPECT_NE(error.message.find("not evident"), std::string::npos) << schema << ": " << error.message;
  }
}

// allOf of two lists is their intersection; a million values and more of each with each other once kept a worker busy.
TEST(JsonSchemaUnion, LongListsAreJoinedInOnePass) {
  const Stopwatch watch;
  const GrammarPtr grammar =
      from_schema(R"({"allOf":[{"enum":[)" + numbers(0, 2200) + R"(]},{"enum":[)" + numbers(1100, 4000) + "]}]}");
  ASSERT_TRUE(grammar);
  for (const char* in_both : {"1100", "2199"}) EXPECT_TRUE(bytes_match(grammar, in_both)) << in_both;
  for (const char* in_one : {"1099", "2200", "0"}) EXPECT_FALSE(bytes_match(grammar, in_one)) << in_one;

  std::string names[2];
  for (int half = 0; half < 2; ++half)
    for (int i = 0; i < 40'000; ++i) names[half] += (i > 0 ? ",\"" : "\"") + std::to_string(2 * i + half) + "\"";
  const std::string of_key = R"({"type":"object","required":["k"],"properties":{"k":{"enum":[)";
  for (const std::string& schema : {R"({"allOf":[{"enum":[)" + names[0] + R"(]},{"enum":[)" + names[1] + "]}]}",
                                    R"({"allOf":[{"required":[)" + names[0] + R"(]},{"required":[)" + names[1] + "]}]}",
                                    R"({"oneOf":[)" + of_key + names[0] + "]}}}," + of_key + names[1] + "]}}}]}"}) {
    (void)grammar_from_json_schema(*parse_json(schema));  // compiled or refused, either will do
  }
  EXPECT_LT(watch.seconds(), 5);
}

TEST(JsonSchemaUnion, ManyPartsToJoinAreRefusedSoon) {
  std::string parts = R"({"allOf":[)", any_of = R"({"enum":[1)", one_of = R"({"oneOf":[)";
  for (int i = 0; i < 8000; ++i)
    parts += (i > 0 ? "," : "") + std::string(R"({"properties":{"k)") + std::to_string(i) + R"(":{"type":"null"}}})";
  for (int i = 0; i < 5000; ++i) any_of += ",1";
  any_of += R"(],"anyOf":[)";
  // No key has constants in all of them: each requires one that the others do not allow.
  for (int i = 0; i < 400; ++i) {
    any_of += (i > 0 ? "," : "") + std::string(R"({"minimum":)") + std::to_string(-i) + "}";
    one_of += (i > 0 ? "," : "") + std::string(R"({"type":"object","additionalProperties":false,"properties":{"a)") +
              std::to_string(i) + R"(":{"type":"null"})";
    for (int k = 0; k < 40; ++k) one_of += ",\"k" + std::to_string(k) + R"(":{"type":"null"})";
    one_of += R"(},"required":["a)" + std::to_string(i) + "\"]}";
  }
  for (const auto& [text, keyword] :
       {std::pair{parts + "]}", "allOf"}, {any_of + "]}", "anyOf"}, {one_of + "]}", "oneOf"}}) {
    const Stopwatch watch;
    const Error error = refusal(text);
    EXPECT_NE(error.message.find("too much to join or compare in " + std::string(keyword)), std::string::npos)
        << error.message;
    EXPECT_EQ(error.param, "/" + std::string(keyword));
    EXPECT_LT(watch.seconds(), 3) << keyword;
  }
}

// Each alternative is kept until they were told apart: not five hundred copies of something large.
TEST(JsonSchemaUnion, ManyReferencesToALargeOneAreRefusedSoon) {
  std::string large = R"({"$defs":{"L":{"type":"object","properties":{)", list;
  for (int i = 0; i < 5'000; ++i) large += (i > 0 ? ",\"k" : "\"k") + std::to_string(i) + R"(":{"type":"null"})";
  for (int i = 0; i < 500; ++i) list += (i > 0 ? "," : "") + std::string(R"({"$ref":"#/$defs/L"})");
  const Stopwatch watch;
  const Error error = refusal(large + "}}},\"oneOf\":[" + list + "]}");
  EXPECT_NE(error.message.find("too much to join or compare in oneOf"), std::string::npos) << error.message;
  EXPECT_LT(watch.seconds(), 3);
}

// A base that every alternative joins; no key has constants that tell them apart, so that each pair is compared.
std::string joined_with_base(const std::string& base, int num_alternatives) {
  std::string list;
  for (int i = 0; i < num_alternatives; ++i) {
    const std::string own = "\"k" + std::to_string(i) + "\"";
    list += (i > 0 ? "," : "") +
            std::string(R"({"allOf":[{"$ref":"#/$defs/B"},{"type":"object","properties":{"c":true,)") + own +
            R"(:{"type":"null"}},"required":["c",)" + own + R"(],"additionalProperties":false}]})";
  }
  return R"({"$defs":{"B":{"properties":{"c":)" + base + R"(}}},"oneOf":[)" + list + "]}";
}

// A value may be a text of any length, which was gone through again for each pair.
TEST(JsonSchemaUnion, LongTextsCountByTheirLength) {
  const auto base_of = [](size_t length) { return R"({"const":")" + std::string(length, 'y') + "\"}"; };
  const Stopwatch watch;
  const GrammarPtr grammar = from_schema(joined_with_base(base_of(100), 100));
  ASSERT_TRUE(grammar);
  EXPECT_TRUE(bytes_match(grammar, R"({"c":")" + std::string(100, 'y') + R"(","k7":null})"));
  const auto long_ones = grammar_from_json_schema(*parse_json(joined_with_base(base_of(100'000), 100)));
  ASSERT_FALSE(long_ones.has_value());
  EXPECT_EQ(long_ones.error().message, "schema: too much to join or compare in oneOf");
  EXPECT_EQ(long_ones.error().param, "/oneOf");
  EXPECT_LT(watch.seconds(), 2);
}

// An annotation is not copied with what it stands beside: of as many alternatives any length is well.
TEST(JsonSchemaUnion, LongAnnotationsWeighNothing) {
  const std::string base = R"({"type":"null","description":")" + std::string(3'000'000, 'y') + "\"}";
  const Stopwatch watch;
  EXPECT_TRUE(grammar_from_json_schema(*parse_json(joined_with_base(base, 100))).has_value());
  EXPECT_LT(watch.seconds(), 1);
}

TEST(JsonSchemaUnion, TypesThatAreListedOftenAreReadOnce) {
  std::string types = R"("string")", names = R"("v")";
  for (int i = 0; i < 20'000; ++i) types += R"(,"string")";
  for (int i = 0; i < 10'000; ++i) names += ",\"" + std::to_string(i) + "\"";
  const Stopwatch watch;
  const GrammarPtr grammar = from_schema(R"({"type":[)" + types + R"(],"enum":[)" + names + "]}");
  ASSERT_TRUE(grammar);
  EXPECT_TRUE(bytes_match(grammar, R"("777")"));
  EXPECT_LT(watch.seconds(), 1);
}

// Of a large schema with as many definitions.
TEST(JsonSchemaUnion, ManyReferencesIntoManyDefinitionsAreFollowedSoon) {
  std::string defs, properties;
  for (int i = 0; i < 120'000; ++i) {
    const std::string name = "d" + std::to_string(i), comma = i > 0 ? "," : "";
    defs += comma + "\"" + name + "\":{}";
    if (i < 110'000) continue;
    properties += (i > 110'000 ? ",\"" : "\"") + name + R"(":{"$ref":"#/$defs/)" + name + "\"}";
  }
  const Json schema = *parse_json(R"({"$defs":{)" + defs + R"(},"properties":{)" + properties + "}}");
  const Stopwatch watch;
  (void)grammar_from_json_schema(schema);  // compiled or refused, either will do
  EXPECT_LT(watch.seconds(), 1.5);
}

// Optional keys with one beginning are ways that go together: sets of all of them for each byte.
TEST(JsonSchemaUnion, KeysWithALongCommonBeginningAreCompiledSoon) {
  std::string properties, last;
  for (int i = 0; i < 900; ++i) {
    last = "\"" + std::string(200, 'x') + std::to_string(i) + "\"";
    properties += (i > 0 ? "," : "") + last + R"(:{"type":"null"})";
  }
  const Stopwatch watch;
  const GrammarPtr grammar = from_schema(R"({"type":"object","properties":{)" + properties + "}}");
  ASSERT_TRUE(grammar);
  EXPECT_LT(watch.seconds(), 0.9);
}

// References that come back to the union itself.
TEST(JsonSchemaUnion, AUnionOfItselfIsRefusedSoon) {
  const Stopwatch watch;
  for (const char* schema : {R"({"oneOf":[{"$ref":"#"},{"$ref":"#"},{"type":"null"}]})",
                             R"({"oneOf":[{"anyOf":[{"$ref":"#"},{"type":"null"}]},{"$ref":"#"}]})"})
    EXPECT_FALSE(refusal(schema).message.empty()) << schema;
  EXPECT_LT(watch.seconds(), 3);
}

}  // namespace
}  // namespace redoubt
