// Tools that are no functions: custom ones are called with a text, those that others run are left out and named.
#include "server/custom_tools.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "server/responses_tools.h"
#include "server/routes_fixture.h"
#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

using testing::Contains;
using testing::Pair;

constexpr const char* kResponses = "/v1/responses";
constexpr const char* kChat = "/v1/chat/completions";
const Json kPatch = {{"type", "custom"}, {"name", "patch"}, {"description", "Edits files"}};
const Json kDigits = {{"type", "custom"},
                      {"name", "patch"},
                      {"format", {{"type", "grammar"}, {"syntax", "regex"}, {"definition", "^[0-9]+|x\"$"}}}};
// A call with the text: a"b<newline>é<clef>
constexpr const char* kCall =
    "<tool_call>{\"name\": \"patch\", \"arguments\": {\"input\": \"a\\\"b\\n\\u00e9\\uD834\\uDD1E\"}}</tool_call>";
constexpr const char* kText = "a\"b\né\xf0\x9d\x84\x9e";

Json list(const Json& tools) { return tools.is_array() ? tools : Json::array({tools}); }
Json responses(const Json& tools, const Json& more = Json::object()) {
  Json body = {{"input", "hi"}, {"tools", list(tools)}};
  body.update(more);
  return body;
}
Json chat(const Json& tools, const Json& more = Json::object()) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"tools", list(tools)}};
  body.update(more);
  return body;
}
Json chat_tool(Json tool) {
  tool.erase("type");
  if (tool.contains("format") && tool["format"].contains("syntax")) {
    const Json grammar = {{"syntax", tool["format"]["syntax"]}, {"definition", tool["format"]["definition"]}};
    tool["format"] = {{"type", "grammar"}, {"grammar", grammar}};
  }
  return {{"type", "custom"}, {"custom", std::move(tool)}};
}

TEST(CustomInput, ReadsTheTextHoweverItIsCut) {
  for (const auto& [arguments, text] : std::vector<std::pair<std::string, std::string>>{
           {R"({"input":"abc"})", "abc"},
           {" {\n \"input\" :\t\"a\\\\\\/\\b\\f\\n\\r\\t\\\"\" }", "a\\/\b\f\n\r\t\""},
           {R"({"input":"\ud834\udd1e\u00e9"})", "\xf0\x9d\x84\x9e\xc3\xa9"},
           {R"({"input":"\ud834x\udd1e\ud834"})", "\xef\xbf\xbdx\xef\xbf\xbd\xef\xbf\xbd"},
           {R"({"input":"cut)", "cut"},
           {R"({"inp)", ""},
           {"", ""},
           {R"({"input":""})", ""},
           {R"({"patch":"abc"})", R"({"patch":"abc"})"},
           {R"({"input":{"a":1}})", R"({"input":{"a":1}})"},
           {"{}", "{}"}}) {
    EXPECT_EQ(custom_input(arguments), text) << arguments;
    CustomInput bytewise;
    std::string pieces;
    for (const char c : arguments) pieces += bytewise.push(std::string_view(&c, 1));
    EXPECT_EQ(pieces + bytewise.finish(), text) << arguments;
  }
}

TEST_F(Routes, ACustomToolOfResponsesIsCalledWithItsText) {
  engine->scripts = {{kCall}};
  const auto reply = post(kResponses, responses({kPatch}));
  ASSERT_EQ(reply->status(), 200) << reply->body();
  EXPECT_NE(prompt_text().find("Edits files"), std::string::npos) << prompt_text();
  EXPECT_NE(prompt_text().find("\"required\": [\"input\"]"), std::string::npos) << prompt_text();
  const Json item = reply->json()["output"][0];
  EXPECT_EQ(item["type"], "custom_tool_call");
  EXPECT_EQ(item["name"], "patch");
  EXPECT_EQ(item["input"], kText);
  EXPECT_EQ(item["status"], "completed");
  EXPECT_EQ(item["id"].get<std::string>().find("ctc_"), 0u);
  EXPECT_EQ(item["call_id"].get<std::string>().find("call_"), 0u);
  EXPECT_EQ(reply->json()["tools"], Json::array({kPatch}));
  EXPECT_THAT(reply->headers(), testing::Not(Contains(Pair(kToolsLeftOutHeader, testing::_))));
}

TEST_F(Routes, ACustomToolOfResponsesStreamsItsText) {
  engine->scripts = {{kCall}};
  const auto events = post(kResponses, responses({kPatch}, {{"stream", true}}))->events();
  std::string deltas;
  std::vector<std::string> types;
  for (const Json& event : events) {
    const std::string type = event["type"];
    if (type == "response.custom_tool_call_input.delta") {
      deltas += event["delta"].get<std::string>();
      EXPECT_EQ(event["output_index"], 0);
      EXPECT_FALSE(event["delta"].get<std::string>().empty());
    }
    if (types.empty() || types.back() != type) types.push_back(type);
  }
  EXPECT_EQ(types,
            (std::vector<std::string>{"response.created", "response.in_progress", "response.output_item.added",
                                      "response.custom_tool_call_input.delta", "response.custom_tool_call_input.done",
                                      "response.output_item.done", "response.completed"}));
  EXPECT_EQ(deltas, kText);
  const Json& added = events[2]["item"];
  EXPECT_EQ(added["type"], "custom_tool_call");
  EXPECT_EQ(added["input"], "");
  EXPECT_EQ(added["status"], "in_progress");
  const Json& done = events[events.size() - 3];
  EXPECT_EQ(done["input"], kText);
  EXPECT_EQ(done["item_id"], added["id"]);
  EXPECT_EQ(events[events.size() - 2]["item"]["input"], kText);
  EXPECT_EQ(events.back()["response"]["output"][0]["call_id"], added["call_id"]);
}

TEST_F(Routes, ACustomToolOfChatIsCalledWithItsText) {
  engine->scripts = {{kCall}};
  const Json tools = Json::array({chat_tool(kPatch)});
  const Json choice = post(kChat, chat(tools))->json()["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  const Json& call = choice["message"]["tool_calls"][0];
  EXPECT_EQ(call["type"], "custom");
  EXPECT_EQ(call["custom"], (Json{{"name", "patch"}, {"input", kText}}));
  EXPECT_FALSE(call.contains("function"));
  std::string input;
  int named = 0;
  for (const Json& event : post(kChat, chat(tools, {{"stream", true}}))->events()) {
    if (event.is_null() || !event["choices"][0]["delta"].contains("tool_calls")) continue;
    const Json& delta = event["choices"][0]["delta"]["tool_calls"][0];
    named += delta.contains("id");
    if (delta.contains("id")) {
      EXPECT_EQ(delta["type"], "custom");
      EXPECT_EQ(delta["custom"]["name"], "patch");
    }
    input += delta["custom"]["input"].get<std::string>();
  }
  EXPECT_EQ(named, 1);
  EXPECT_EQ(input, kText);
}

TEST_F(Routes, PastCallsOfCustomToolsAreHistory) {
  const Json past = Json::parse(R"([{"role":"user","content":"U"},
    {"type":"custom_tool_call","id":"ctc_1","call_id":"call_1","name":"patch","input":"a\nb","status":"completed"},
    {"type":"custom_tool_call_output","call_id":"call_1","output":[{"type":"input_text","text":"Done!"}]}])");
  ASSERT_EQ(post(kResponses, {{"input", past}, {"tools", list(kPatch)}})->status(), 200);
  const std::string expected = R"(<tool_call>{"name": "patch", "arguments": {"input": "a\nb"}}</tool_call>)";
  EXPECT_NE(prompt_text().find(expected), std::string::npos) << prompt_text();
  EXPECT_NE(prompt_text().find("result: Done!"), std::string::npos) << prompt_text();
  const Json messages = Json::parse(R"([{"role":"user","content":"U"},
    {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"custom","custom":{"name":"patch","input":"a\nb"}}]},
    {"role":"tool","tool_call_id":"c","content":"Done!"}])");
  ASSERT_EQ(post(kChat, {{"messages", messages}})->status(), 200);
  EXPECT_NE(prompt_text().find(expected), std::string::npos) << prompt_text();
}

TEST_F(Routes, ACustomToolsCallIsBoundToItsForm) {
  const Json function = {{"type", "function"}, {"name", "f"}, {"parameters", {{"type", "object"}}}};
  ASSERT_EQ(post(kResponses, responses({function, kPatch}))->status(), 200);
  EXPECT_NE(engine->last.grammar, nullptr);
  ASSERT_EQ(post(kResponses, responses({function}))->status(), 200);
  EXPECT_EQ(engine->last.grammar, nullptr);
  const auto forced = [&](const std::string& path, const Json& body, bool is_bound) {
    const auto reply = post(path, body);
    ASSERT_EQ(reply->status(), 200) << reply->body();
    ASSERT_NE(engine->last.grammar, nullptr);
    EXPECT_TRUE(bytes_match(engine->last.grammar, R"({"input": "12"})"));
    EXPECT_TRUE(bytes_match(engine->last.grammar, R"({"input": "x\""})"));
    EXPECT_EQ(bytes_match(engine->last.grammar, R"({"input": "12a"})"), !is_bound);
    EXPECT_FALSE(bytes_match(engine->last.grammar, R"({"output": "12"})"));
  };
  const Json named = {{"tool_choice", {{"type", "custom"}, {"name", "patch"}}}};
  const Json named_in_chat = {{"tool_choice", {{"type", "custom"}, {"custom", {{"name", "patch"}}}}}};
  forced(kResponses, responses({kPatch}, named), false);
  forced(kResponses, responses({kDigits}, named), true);
  forced(kChat, chat({chat_tool(kDigits)}, named_in_chat), true);
  engine->scripts = {{R"({"input": "12"})"}};
  EXPECT_EQ(post(kResponses, responses({kDigits}, named))->json()["output"][0]["input"], "12");
  // Where a syntax cannot be bound, a tool of plain text is offered all the same, and one with an expression is not.
  context.options.tool_syntax = ToolSyntax::deepseek_v32;
  EXPECT_EQ(post(kResponses, responses({kPatch}))->status(), 200);
  EXPECT_EQ(post(kResponses, responses({kDigits}))->status(), 400);
}

TEST_F(Routes, WhatACustomToolMayNotBeIsRefusedByName) {
  const auto refused = [&](const std::string& path, const Json& body, const std::string& param) {
    const auto reply = post(path, body);
    EXPECT_EQ(reply->status(), 400) << reply->body();
    const Json error = reply->json()["error"];
    EXPECT_EQ(error["param"], param) << reply->body();
    EXPECT_EQ(error["message"].get<std::string>().find(param), 0u) << reply->body();
    return error;
  };
  const auto of_format = [](const Json& format) {
    Json tool = kPatch;
    tool["format"] = format;
    return tool;
  };
  const Json lark = of_format({{"type", "grammar"}, {"syntax", "lark"}, {"definition", "start: /x/"}});
  const Json error = refused(kResponses, responses({lark}), "tools[0].format.syntax");
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["message"],
            "tools[0].format.syntax: lark is not enforced; regex is, and a format of type text binds nothing");
  refused(kChat, chat({chat_tool(lark)}), "tools[0].custom.format.grammar.syntax");
  refused(kResponses, responses({of_format({{"type", "xml"}})}), "tools[0].format.type");
  refused(kResponses, responses({of_format(5)}), "tools[0].format");
  refused(kResponses, responses({of_format({{"type", "grammar"}, {"syntax", "regex"}})}), "tools[0].format.definition");
  refused(kResponses, responses({of_format({{"type", "grammar"}, {"syntax", "regex"}, {"definition", "(?=a)"}})}),
          "tools[0].format.definition");
  refused(kResponses, responses({{{"type", "custom"}, {"name", "a b"}}}), "tools[0].name");
  refused(kResponses, responses({{{"type", "custom"}}}), "tools[0].name");
  refused(kResponses, responses({kPatch, kPatch}), "tools[1].name");
  refused(kChat, chat({chat_tool(kPatch), chat_tool(kPatch)}), "tools[1].custom.name");
  refused(kChat, chat({{{"type", "custom"}}}), "tools[0].custom");
  EXPECT_EQ(refused(kChat, chat({{{"type", "web_search"}}}), "tools[0].type")["message"],
            "tools[0].type: expected function or custom, found \"web_search\"");
  EXPECT_EQ(refused(kChat, chat({chat_tool(kPatch), {{"type", "mcp"}}}), "tools[1].type")["message"],
            "tools[1].type: expected function or custom, found \"mcp\"");
  const Json as_function = {{"tool_choice", {{"type", "function"}, {"name", "patch"}}}};
  refused(kResponses, responses({kPatch}, as_function), "tool_choice");
  const Json in_chat = {{"tool_choice", {{"type", "function"}, {"function", {{"name", "patch"}}}}}};
  refused(kChat, chat({chat_tool(kPatch)}, in_chat), "tool_choice");
}

TEST_F(Routes, ToolsThatOthersRunAreLeftOutAndNamed) {
  const Json function = {{"type", "function"}, {"name", "f"}};
  const Json tools = Json::parse(R"([{"type":"web_search"},{"type":"function","name":"f"},
    {"type":"web_search_2025_08_26"},{"type":"mcp","server_label":"x","server_url":"https://x"},
    {"type":"image_generation"},{"type":"local_shell"},{"type":"computer_use_preview"}])");
  const std::string named = "web_search,mcp,image_generation,local_shell,computer_use_preview";
  for (const bool stream : {false, true}) {
    const auto reply = post(kResponses, responses(tools, {{"stream", stream}}));
    ASSERT_EQ(reply->status(), 200) << reply->body();
    EXPECT_THAT(reply->headers(), Contains(Pair(kToolsLeftOutHeader, named)));
    EXPECT_EQ(prompt_text().find("web_search"), std::string::npos);
    const Json echoed = stream ? reply->events().back()["response"]["tools"] : reply->json()["tools"];
    EXPECT_EQ(echoed, Json::array({function}));
  }
}

// What OpenAI adds next is no reason to lock its clients out. A header shows plain names, and not without end.
TEST_F(Routes, ToolsOfUnknownTypesAreLeftOutAndNamed) {
  const auto left_out = [&](const Json& tools) {
    const auto reply = post(kResponses, responses(tools));
    EXPECT_EQ(reply->status(), 200) << reply->body();
    EXPECT_EQ(reply->json()["tools"], Json::array());
    for (const auto& [name, value] : reply->headers())
      if (name == kToolsLeftOutHeader) return value;
    return std::string();
  };
  EXPECT_EQ(left_out({{{"type", "banana"}}, {{"type", "banana_2027_01_02"}}, {{"type", "web_search"}}}),
            "banana,web_search");
  EXPECT_EQ(left_out({{{"type", "tele\r\nport"}}, {{"type", ""}}, {{"type", "a,b"}}, {{"type", std::string(65, 'a')}}}),
            "other");
  Json many = Json::array();
  for (int i = 0; i < 40; ++i) many.push_back({{"type", "t" + std::to_string(i)}});
  const std::string names = left_out(many);
  EXPECT_EQ(std::ranges::count(names, ','), 32) << names;
  EXPECT_TRUE(names.ends_with(",t31,other")) << names;
}

TEST_F(Routes, AToolThatIsLeftOutIsNotDemanded) {
  const auto says = [&](const Json& body) {
    const auto reply = post(kResponses, body);
    EXPECT_EQ(reply->status(), 400) << reply->body();
    return reply->json()["error"]["message"].get<std::string>();
  };
  const Json search = Json::array({{{"type", "web_search_preview"}}});
  EXPECT_EQ(says(responses(search, {{"tool_choice", {{"type", "web_search_preview"}}}})),
            "tool_choice: web_search_preview is not run by this server");
  EXPECT_EQ(says(responses(search, {{"tool_choice", "required"}})),
            "tool_choice: expected tools to choose from, found only such as this server does not run "
            "(web_search_preview)");
  EXPECT_EQ(says(responses(Json::array(), {{"tool_choice", "required"}})),
            "tool_choice: expected tools to choose from, found none");
  EXPECT_EQ(post(kResponses, responses(search, {{"tool_choice", "auto"}}))->status(), 200);
  EXPECT_EQ(says(responses({{{"type", "banana"}}}, {{"tool_choice", {{"type", "banana"}}}})),
            "tool_choice: banana is not run by this server");
  EXPECT_EQ(says(responses({{{"type", "a\r\n"}}}, {{"tool_choice", {{"type", "a\r\n"}}}})),
            "tool_choice: expected none, auto, required, a function or a custom tool");
  EXPECT_EQ(says(responses({{{"type", 5}}})), "tools[0].type: expected a string, found a number");
  EXPECT_EQ(says(responses({{{"name", "g"}}})),
            "tools[0].type: expected function, custom or another type of tool, found nothing");
}

}  // namespace
}  // namespace redoubt
