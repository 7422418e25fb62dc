// Unions as pydantic and OpenAPI write them, large ones too, and that what costs the square of a schema is refused
// soon.

#include <gtest/gtest.h>

#include <ctime>

#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

// Of this thread's own time, so that other work on the machine counts little; sanitizers cost up to ten times as much.
class Stopwatch {
 public:
  double seconds() const { return (now() - start_) / kSlower; }

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr double kSlower = 10;
#else
  static constexpr double kSlower = 1;
#endif
  static double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }
  const double start_ = now();
};

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
