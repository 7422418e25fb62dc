#include "server/compiled_grammars.h"

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

class Grammars : public Routes {
 protected:
  GrammarPtr grammar_of(const Json& more, const char* path = kChat) {
    const auto reply = post(path, ask(more));
    EXPECT_EQ(reply->status(), 200) << reply->body();
    return engine->last.grammar;
  }
  void come_as(const std::string& tenant) {
    permit = std::make_shared<Permit>(std::make_shared<Principal>(Principal{.tenant = tenant}),
                                      std::make_shared<Permissive>());
  }
  static Json format(const Json& schema) {
    return {{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}}}};
  }
  static Json tool(const char* name, bool strict) {
    return {{"type", "function"},
            {"function",
             {{"name", name},
              {"strict", strict},
              {"parameters", {{"type", "object"}, {"properties", {{"city", {{"type", "string"}}}}}}}}}};
  }
};

const Json kSchema = {{"type", "object"}, {"properties", {{"a", {{"type", "string"}}}, {"b", {{"type", "integer"}}}}}};

TEST_F(Grammars, TheSameStructureIsCompiledOnce) {
  const GrammarPtr first = grammar_of(format(kSchema));
  EXPECT_EQ(grammar_of(format(kSchema)), first);
  EXPECT_EQ(grammar_of({{"structured_outputs", {{"json", kSchema}}}}), first);  // by another field
  for (const Json& structure :
       {Json{{"regex", "[a-c]+"}}, Json{{"choice", {"a", "b"}}}, Json{{"grammar", "root ::= \"a\""}}}) {
    const Json asked = {{"structured_outputs", structure}};
    EXPECT_EQ(grammar_of(asked), grammar_of(asked)) << asked;
  }
}

TEST_F(Grammars, StructuresThatDifferAreNotTakenForOneAnother) {
  Json turned = kSchema;
  turned["properties"] = {{"b", {{"type", "integer"}}}, {"a", {{"type", "string"}}}};  // keys come in this order
  EXPECT_NE(grammar_of(format(kSchema)), grammar_of(format(turned)));
  EXPECT_NE(grammar_of({{"structured_outputs", {{"regex", "a"}}}}),
            grammar_of({{"structured_outputs", {{"choice", {"a"}}}}}));
  EXPECT_NE(grammar_of({{"structured_outputs", {{"choice", {"a", "b"}}}}}),
            grammar_of({{"structured_outputs", {{"choice", {"a\",\"b"}}}}}));
}

TEST_F(Grammars, EachTenantHasItsOwn) {
  const GrammarPtr first = grammar_of(format(kSchema));
  come_as("t2");
  EXPECT_NE(grammar_of(format(kSchema)), first);
  come_as("t1");
  EXPECT_EQ(grammar_of(format(kSchema)), first);
}

TEST_F(Grammars, ThoseOfToolCallsAreKeptToo) {
  const Json strict = {{"tools", {tool("weather", true), tool("time", false)}}};
  const GrammarPtr first = grammar_of(strict);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(grammar_of(strict), first);
  Json alone = strict;
  alone["parallel_tool_calls"] = false;
  EXPECT_NE(grammar_of(alone), first);
  EXPECT_NE(grammar_of({{"tools", {tool("weather", true), tool("time", true)}}}), first);
  EXPECT_NE(grammar_of({{"tools", {tool("weather", true), tool("clock", false)}}}), first);
  Json formatted = strict;
  formatted.update(format(kSchema));
  const GrammarPtr with_content = grammar_of(formatted);
  EXPECT_NE(with_content, first);
  EXPECT_EQ(grammar_of(formatted), with_content);
  const Json forced = {{"tools", {tool("weather", false)}}, {"tool_choice", "required"}};
  EXPECT_EQ(grammar_of(forced), grammar_of(forced));
}

// The error is kept, and names the field of the request that met it.
TEST_F(Grammars, ARefusalNamesTheFieldOfEachRequest) {
  for (int i = 0; i < 2; ++i) {
    const auto of_format = post(kChat, ask(format({{"not", Json::object()}})));
    EXPECT_EQ(of_format->status(), 400);
    EXPECT_EQ(of_format->json()["error"]["param"], "response_format.json_schema.schema/not");
    const auto guided = post(kChat, ask({{"guided_json", {{"not", Json::object()}}}}));
    EXPECT_EQ(guided->json()["error"]["param"], "guided_json/not");
  }
  EXPECT_EQ(host.model->grammars->stats().grammars, 1u);
}

// A double is enforced where the client wrote what it reads back; the text tells, not the number that was read.
TEST_F(Grammars, NumbersAreTakenFromTheTextOfTheRequest) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(post(kChat, ask({{"guided_json", {{"const", 3.141592653589793}}}}))->status(), 200);
    EXPECT_EQ(post(kChat, ask({{"guided_json", R"({"const":1.8446744073709552e19})"}}))->status(), 200);
    const auto other = post(kChat, ask({{"guided_json", R"({"const":18446744073709551616})"}}));
    EXPECT_EQ(other->status(), 400) << other->body();
    EXPECT_EQ(other->json()["error"]["param"], "guided_json/const");
  }
}

// Each schema is within the limits of one; all of a request's tools are bounded together, kept ones too.
TEST_F(Grammars, ToolsShareWhatTheyMayCost) {
  const auto large = [](int i) {
    Json made = tool(("t" + std::to_string(i)).c_str(), /*strict=*/true);
    made["function"]["parameters"]["properties"] = {{"a", {{"type", "string"}, {"maxLength", 9000 + i}}},
                                                    {"b", {{"type", "string"}, {"maxLength", 9500}}}};
    return made;
  };
  Json tools = Json::array();
  for (int i = 0; i < 3; ++i) tools.push_back(large(i));
  EXPECT_EQ(post(kChat, ask({{"tools", tools}}))->status(), 200);
  for (int i = 3; i < 10; ++i) tools.push_back(large(i));
  const auto refused = post(kChat, ask({{"tools", tools}}));
  EXPECT_EQ(refused->status(), 400) << refused->body();
  EXPECT_EQ(refused->json()["error"]["param"], "tools[3].function.parameters");
  EXPECT_NE(refused->body().find("(tool 't3'): too large together"), std::string::npos) << refused->body();
  EXPECT_EQ(post(kChat, ask({{"tools", tools}}))->body(), refused->body());  // those before it are kept by now
}

TEST_F(Grammars, ManyOrdinaryToolsAreCompiled) {
  Json tools = Json::array();
  for (int i = 0; i < 3; ++i) {
    tools.push_back(tool(("t" + std::to_string(i)).c_str(), /*strict=*/true));
    Json& parameters = tools.back()["function"]["parameters"];
    for (int k = 0; k < 10; ++k) {
      Json& property = parameters["properties"]["property_" + std::to_string(i) + "_" + std::to_string(k)];
      property = {{"type", k % 3 == 0 ? "integer" : "string"}, {"description", "what it is for"}};
      if (k % 5 == 1) property["maxLength"] = 100;
      if (k % 5 == 2) property = {{"type", "array"}, {"items", {{"enum", {"one", "two", "three"}}}}};
    }
    parameters["additionalProperties"] = false;
  }
  const auto reply = post(kChat, ask({{"tools", tools}}));
  EXPECT_EQ(reply->status(), 200) << reply->body();
  ASSERT_NE(engine->last.grammar, nullptr);
  // What the model's context has room for is far from all that tools may cost: dozens such are compiled.
  const auto one = grammar_from_json_schema(tools[0]["function"]["parameters"]);
  ASSERT_TRUE(one.has_value());
  EXPECT_LT((*one)->cost(), kMaxGrammarCost / 30);
}

TEST_F(Grammars, AModelWithoutACacheCompilesEach) {
  host.model->grammars = nullptr;
  EXPECT_NE(grammar_of(format(kSchema)), grammar_of(format(kSchema)));
}

}  // namespace
}  // namespace redoubt
