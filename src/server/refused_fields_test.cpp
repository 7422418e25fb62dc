// A field that is understood is obeyed or refused by name, never answered 200 as if it were obeyed; the values that say
// nothing pass, since clients send them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
const Json kMessages = Json::parse(R"([{"role":"user","content":"hi"}])");
const Json kTools = Json::parse(R"([{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])");
const Json kSchema = Json::parse(R"({"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]})");

Json anthropic(const Json& more) {
  Json body = {{"max_tokens", 10}, {"messages", kMessages}};
  body.update(more);
  return body;
}
Json ollama(const Json& more) {
  Json body = {{"messages", kMessages}, {"stream", false}};
  body.update(more);
  return body;
}

Json many_names(int count) {
  Json names = Json::object();
  for (int i = 0; i < count; ++i) names["k" + std::to_string(i)] = i;
  return names;
}

TEST_F(Routes, FieldsThatAreNotObeyedAreRefusedByName) {
  struct Refusal {
    std::string path;
    Json body;
    std::string param;
  };
  const std::vector<Refusal> refusals = {
      {kChat, ask({{"verbosity", "tiny"}}), "verbosity"},
      {kChat, ask({{"verbosity", 1}}), "verbosity"},
      {kChat, ask({{"echo", true}}), "echo"},
      {kChat, ask({{"truncate_prompt_tokens", 5}}), "truncate_prompt_tokens"},
      {kChat, ask({{"stop_regex", "a+"}}), "stop_regex"},
      {kChat, ask({{"no_repeat_ngram_size", 3}}), "no_repeat_ngram_size"},
      {kChat, ask({{"do_sample", false}}), "do_sample"},
      {kChat, ask({{"do_sample", "yes"}}), "do_sample"},
      {kChat, ask({{"n_probs", 2}}), "n_probs"},
      {kChat, ask({{"samplers", {"top_k"}}}), "samplers"},
      {kChat, ask({{"dynatemp_range", 0.5}}), "dynatemp_range"},
      {kChat, ask({{"adapter", "a"}}), "adapter"},
      {kChat, ask({{"lora_request", {{"lora_name", "a"}}}}), "lora_request"},
      {kChat, ask({{"structured_outputs", {{"regex", "a"}, {"disable_any_whitespace", true}}}}),
       "structured_outputs.disable_any_whitespace"},
      {kChat, ask({{"structured_outputs", {{"json", kSchema}, {"whitespace_pattern", " "}}}}),
       "structured_outputs.whitespace_pattern"},
      {kChat, ask({{"structured_outputs", {{"regexp", "a"}}}}), "structured_outputs.regexp"},
      {kChat, ask({{"metadata", "x"}}), "metadata"},
      {kChat, ask({{"chat_template_kwargs", many_names(65)}}), "chat_template_kwargs"},
      {kChat, ask({{"user", 5}}), "user"},
      {kChat, ask({{"store", "yes"}}), "store"},
      {kChat, ask({{"service_tier", 1}}), "service_tier"},
      {"/v1/completions", {{"prompt", "x"}, {"user", 5}}, "user"},
      {"/v1/responses", {{"input", "x"}, {"max_tool_calls", 3}}, "max_tool_calls"},
      {"/v1/responses", {{"input", "x"}, {"metadata", 3}}, "metadata"},
      {"/v1/responses", {{"input", "x"}, {"text", {{"verbosity", "tiny"}}}}, "text.verbosity"},
      {"/v1/responses",
       {{"input", "x"}, {"guided_regex", "a"}, {"text", {{"format", {{"type", "json_object"}}}}}},
       "text.format"},
      {kChat, ask({{"reasoning", {{"exclude", true}}}}), "reasoning.exclude"},
      {kChat, ask({{"repeat_last_n", -2}}), "repeat_last_n"},
      {kChat, ask({{"repeat_penalty", 0.001}}), "repeat_penalty"},
      {kChat, ask({{"tfs_z", 0.5}}), "tfs_z"},
      {kChat, ask({{"top_n_sigma", 1.5}}), "top_n_sigma"},
      {kChat, ask({{"n_predict", 5}}), "n_predict"},
      {"/v1/completions", {{"prompt", "x"}, {"n_predict", -1}}, "n_predict"},
      {kChat, ask({{"guided_regex", ""}}), "guided_regex"},
      {kChat, ask({{"structured_outputs", {{"grammar", ""}}}}), "structured_outputs.grammar"},
      {kChat, ask({{"guided_choice", {"a"}}, {"min_tokens", 1}}), "min_tokens"},
      {kChat, ask({{"response_format", {{"type", "json_object"}}}, {"min_tokens", 5}}), "min_tokens"},
      {kChat, ask({{"tools", kTools}, {"tool_choice", "required"}, {"min_tokens", 5}}), "min_tokens"},
      {"/v1/completions", {{"prompt", "x"}, {"guided_regex", "a+"}, {"min_tokens", 5}}, "min_tokens"},
  };
  for (const Refusal& refusal : refusals) {
    SCOPED_TRACE(refusal.body.dump());
    const auto reply = post(refusal.path, refusal.body);
    EXPECT_EQ(reply->status(), 400) << reply->body();
    if (reply->status() == 400) {
      EXPECT_EQ(reply->json()["error"]["param"], refusal.param);
    }
  }
  // Envelopes without `param`: the name begins the message.
  for (const auto& [body, name] : std::vector<std::pair<Json, std::string>>{
           {ollama({{"logprobs", true}}), "logprobs"},
           {ollama({{"top_logprobs", 2}}), "top_logprobs"},
           {ollama({{"keep_alive", true}}), "keep_alive"},
           {ollama({{"format", "json"}, {"options", {{"grammar", "root ::= \"a\""}}}}), "format"},
           {ollama({{"options", {{"repeat_last_n", -2}}}}), "options.repeat_last_n"},
           {ollama({{"options", {{"top_n_sigma", 2}}}}), "options.top_n_sigma"},
           {ollama({{"messages", {{{"role", "tool"}, {"content", "x"}, {"tool_name", 5}}}}}),
            "messages[0].tool_name"}}) {
    const auto reply = post("/api/chat", body);
    EXPECT_EQ(reply->status(), 400) << body;
    EXPECT_EQ(reply->json()["error"].get<std::string>().find(name + ":"), 0u) << reply->body();
  }
}

TEST_F(Routes, NeutralValuesOfRefusedFieldsPass) {
  const Json neutral = Json::parse(R"({"verbosity":"medium","truncate_prompt_tokens":null,"stop_regex":"",
    "no_repeat_ngram_size":0,"do_sample":true,"n_probs":0,"samplers":[],"dynatemp_range":0,"adapter":null,
    "lora_request":null,"echo":false,"metadata":{"a":"b"},"user":"u","store":false,"service_tier":"auto",
    "structured_outputs":{"regex":"a","disable_any_whitespace":false,"whitespace_pattern":null,"structural_tag":null}})");
  const auto reply = post(kChat, ask(neutral));
  EXPECT_EQ(reply->status(), 200) << reply->body();
  EXPECT_EQ(post("/v1/responses", {{"input", "x"}, {"max_tool_calls", nullptr}, {"text", {{"verbosity", "medium"}}}})
                ->status(),
            200);
  EXPECT_EQ(post(kChat, ask({{"repeat_last_n", -1},
                             {"tfs_z", 1.0},
                             {"top_n_sigma", -1.0},
                             {"n_predict", nullptr},
                             {"grammar", ""},
                             {"min_tokens", 0},
                             {"guided_choice", {"a"}}}))
                ->status(),
            200);
  for (const Json& keep : {Json("5m"), Json(-1), Json(0), Json(nullptr)}) {
    EXPECT_EQ(post("/api/chat", ollama({{"keep_alive", keep}, {"logprobs", false}, {"top_logprobs", 0}}))->status(),
              200)
        << keep;
  }
}

TEST_F(Routes, AnthropicsOlderFormatBindsTheAnswerToo) {
  const Json format = {{"type", "json_schema"}, {"schema", kSchema}};
  EXPECT_EQ(post("/v1/messages", anthropic(Json::object()))->status(), 200);
  EXPECT_EQ(engine->last.grammar, nullptr);
  for (const Json& body : {Json{{"output_format", format}}, Json{{"output_config", {{"format", format}}}}}) {
    EXPECT_EQ(post("/v1/messages", anthropic(body))->status(), 200);
    EXPECT_NE(engine->last.grammar, nullptr) << body;
  }
  for (const Json& body : {Json{{"output_format", {{"type", "xml"}}}}, Json{{"output_format", "json"}},
                           Json{{"output_format", format}, {"output_config", {{"format", format}}}}}) {
    const auto reply = post("/v1/messages", anthropic(body));
    EXPECT_EQ(reply->status(), 400) << body;
    EXPECT_EQ(reply->json()["error"]["message"].get<std::string>().find("output_format"), 0u) << reply->body();
  }
}

TEST_F(Routes, AnthropicsStopsAreObeyedByEitherName) {
  EXPECT_EQ(post("/v1/messages", anthropic({{"stop", "x"}}))->status(), 200);
  EXPECT_EQ(engine->last.stop.strings, std::vector<std::string>{"x"});
  EXPECT_EQ(post("/v1/messages", anthropic({{"stop_sequences", {"y"}}}))->status(), 200);
  EXPECT_EQ(engine->last.stop.strings, std::vector<std::string>{"y"});
  const auto both = post("/v1/messages", anthropic({{"stop", "x"}, {"stop_sequences", {"y"}}}));
  EXPECT_EQ(both->status(), 400) << both->body();
  EXPECT_EQ(both->json()["error"]["message"].get<std::string>().find("stop:"), 0u) << both->body();
}

TEST_F(Routes, OllamasContextBoundsARawPromptToo) {
  const auto generate = [&](int64_t context) {
    return post("/api/generate",
                {{"prompt", "0123456789"}, {"raw", true}, {"stream", false}, {"options", {{"num_ctx", context}}}});
  };
  EXPECT_EQ(generate(12)->status(), 200);
  EXPECT_EQ(engine->last.stop.max_tokens, 2);
  EXPECT_EQ(generate(8)->status(), 400);
  EXPECT_NE(generate(8)->body().find("context length is 8 tokens"), std::string::npos);
  EXPECT_EQ(generate(4097)->status(), 400);
}

TEST_F(Routes, APromptWithoutItsToolsIsShownSo) {
  const auto shown = [&](const Json& more) { return post("/apply-template", ask(more))->json()["prompt"]; };
  EXPECT_NE(shown({{"tools", kTools}}), shown(Json::object()));
  EXPECT_EQ(shown({{"tools", kTools}, {"tool_choice", "none"}}), shown(Json::object()));
  EXPECT_EQ(post("/apply-template", ask({{"tool_choice", "some"}}))->status(), 400);
}

TEST_F(Routes, OllamasToolNameIsTheToolsName) {
  host.model->chat_template = std::move(
      *ChatTemplate::parse("{% for m in messages %}{{ m.name }}={{ m.content }};{% endfor %}{# tool_call #}"));
  post("/api/chat", ollama({{"messages", {{{"role", "tool"}, {"content", "22"}, {"tool_name", "weather"}}}}}));
  EXPECT_EQ(prompt_text(), "weather=22;");
}

TEST_F(Routes, AKeywordThatIsNotEnforcedIsNamed) {
  const auto refused = [&](const Json& body) {
    const auto reply = post(kChat, ask(body));
    EXPECT_EQ(reply->status(), 400) << reply->body();
    EXPECT_EQ(reply->json()["error"]["type"], "invalid_request_error");
    return reply->json()["error"];
  };
  const Json unique = {{"type", "array"}, {"uniqueItems", true}};
  Json error =
      refused({{"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", unique}}}}}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "response_format.json_schema.schema/uniqueItems");
  error = refused({{"guided_regex", "a(?=b)"}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "guided_regex");
  // The field's name stands once, and no other head behind it.
  error = refused({{"guided_grammar", "root := 1"}});
  EXPECT_EQ(error["message"].get<std::string>().find("guided_grammar: line 1: "), 0u) << error;
  error = refused({{"guided_json", unique}});
  EXPECT_EQ(error["message"].get<std::string>().find("guided_json/uniqueItems: "), 0u) << error;
  error = refused({{"guided_regex", "("}});  // wrong, whoever reads it
  EXPECT_TRUE(error["code"].is_null());
  error = refused({{"tools",
                    {{{"type", "function"},
                      {"function",
                       {{"name", "f"},
                        {"strict", true},
                        {"parameters", {{"type", "object"}, {"dependentRequired", {{"a", {"b"}}}}}}}}}}}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "tools[0].function.parameters/dependentRequired");
  context.options.tool_syntax = ToolSyntax::deepseek_v32;
  error = refused({{"tools", kTools}, {"response_format", {{"type", "json_object"}}}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "tools");
  EXPECT_EQ(error["message"], "tools: the arguments of calls are not enforced in this model's syntax");
}

}  // namespace
// A hint that binds nothing is no promise: clients send it with every request, and it comes back as they sent it.
TEST_F(Routes, VerbosityIsAHint) {
  for (const char* verbosity : {"low", "medium", "high"}) {
    EXPECT_EQ(post(kChat, ask({{"verbosity", verbosity}}))->status(), 200) << verbosity;
    const Json text = {{"verbosity", verbosity}, {"format", {{"type", "text"}}}};
    const auto reply = post("/v1/responses", {{"input", "x"}, {"text", text}});
    ASSERT_EQ(reply->status(), 200) << reply->body();
    EXPECT_EQ(reply->json()["text"], text);
  }
}

TEST_F(Routes, HintsOfAnthropicAndResponsesAreTaken) {
  const Json edits =
      Json::parse(R"({"edits":[{"type":"clear_tool_uses_20250919","trigger":{"type":"input_tokens","value":1}}]})");
  EXPECT_EQ(post("/v1/messages", anthropic({{"context_management", edits}, {"container", "c"}}))->status(), 200);
  const Json include = {"web_search_call.action.sources", "reasoning.encrypted_content"};
  EXPECT_EQ(post("/v1/responses", {{"input", "x"}, {"include", include}})->status(), 200);
}

TEST_F(Routes, ABlockThatIsNotReadIsNamed) {
  const auto refusal = [&](const char* role, const char* type) {
    const Json block = {{"type", type}};
    return post("/v1/messages", anthropic({{"messages", {{{"role", role}, {"content", {block}}}}}}))
        ->json()["error"]["message"];
  };
  EXPECT_EQ(refusal("user", "image"), "messages[0].content[0].type: expected text or tool_result, found \"image\"");
  EXPECT_EQ(refusal("assistant", "server_tool_use"),
            "messages[0].content[0].type: expected text, thinking or tool_use, found \"server_tool_use\"");
}

// What a client of another protocol asks for by that one's name is not written freely in silence.
TEST_F(Routes, StructuresByOtherProtocolsNamesAreRefused) {
  const Json hello = Json::array({{{"role", "user"}, {"content", "hi"}}});
  const std::vector<std::pair<std::string, std::vector<std::string>>> routes = {
      {"/v1/chat/completions", {"format", "output_format", "output_config", "text"}},
      {"/v1/responses", {"format", "output_format", "output_config"}},
      {"/v1/messages", {"format", "text"}},
      {"/api/chat", {"response_format", "guided_json", "structured_outputs", "output_format", "text"}}};
  for (const auto& [path, fields] : routes) {
    for (const std::string& field : fields) {
      const Json body = {{path == "/v1/responses" ? "input" : "messages", hello},
                         {"model", "tiny"},
                         {"max_tokens", 5},
                         {field, {{"type", "json_schema"}}}};
      const auto reply = post(path, body);
      EXPECT_EQ(reply->status(), 400) << path << field << reply->body();
      EXPECT_NE(reply->body().find(field + ": is another protocol's"), std::string::npos) << path << reply->body();
    }
  }
}

// A client with thirty tools looks for the one that is meant.
TEST_F(Routes, ASchemaIsRefusedWithItsToolAndThePlaceInIt) {
  const Json bad = {{"type", "object"}, {"properties", {{"date", {{"type", "string"}, {"pattern", "(?=a)"}}}}}};
  const Json good = {{"type", "object"}};
  const auto tools_of = [&](const Json& schema) {
    Json tools = Json::array();
    for (const auto& [name, parameters] : {std::pair{"first", good}, std::pair{"search", schema}})
      tools.push_back(
          {{"type", "function"}, {"function", {{"name", name}, {"parameters", parameters}, {"strict", true}}}});
    return tools;
  };
  const auto refused = [&](std::string_view path, const Json& body, std::string_view place) {
    const auto reply = post(std::string(path), body);
    ASSERT_EQ(reply->status(), 400) << path << reply->body();
    const Json error = reply->json()["error"];
    const std::string message = error.is_string() ? error.get<std::string>() : error["message"].get<std::string>();
    EXPECT_EQ(message.find(std::string(place) + " (tool 'search'): regex: "), 0u) << message;
    if (error.contains("param")) {
      EXPECT_EQ(error["param"], place);
    }
  };
  const std::string chat_place = "tools[1].function.parameters/properties/date/pattern";
  refused(kChat, ask({{"tools", tools_of(bad)}, {"tool_choice", "required"}}), chat_place);
  Json named = ask({{"tools", tools_of(bad)}});
  named["tool_choice"] = {{"type", "function"}, {"function", {{"name", "search"}}}};
  refused(kChat, named, chat_place);
  Json with_reference = bad;
  with_reference["$defs"] = {{"day", bad["properties"]["date"]}};
  with_reference["properties"]["date"] = {{"$ref", "#/$defs/day"}};
  refused(kChat, ask({{"tools", tools_of(with_reference)}, {"tool_choice", "required"}}),
          "tools[1].function.parameters/$defs/day/pattern");

  // Tools of the Responses API that are no functions are passed over, and count in the place.
  Json flat = Json::array({{{"type", "web_search"}}});
  for (Json& tool : tools_of(bad)) {
    flat.push_back({{"type", "function"}});
    flat.back().update(tool["function"]);
  }
  refused("/v1/responses", {{"input", "hi"}, {"tools", flat}, {"tool_choice", "required"}},
          "tools[2].parameters/properties/date/pattern");
  Json custom = Json::array();
  for (Json& tool : tools_of(bad))
    custom.push_back({{"name", tool["function"]["name"]}, {"input_schema", tool["function"]["parameters"]}});
  refused("/v1/messages",
          {{"max_tokens", 5},
           {"messages", {{{"role", "user"}, {"content", "hi"}}}},
           {"tools", custom},
           {"tool_choice", {{"type", "any"}}}},
          "tools[1].input_schema/properties/date/pattern");
}

// Arguments of past calls are JSON in strings, which the limit of the body's own values does not see.
TEST_F(Routes, PastCallsHoldNoMoreValuesTogetherThanABody) {
  std::string arguments = "{\"a\":[0";
  for (int i = 0; i < 400'000; ++i) arguments += ",0";
  arguments += "]}";
  const auto asked = [&](int calls) {
    Json messages = Json::array();
    for (int i = 0; i < calls; ++i)
      messages.push_back({{"role", "assistant"},
                          {"tool_calls", {{{"id", "c"}, {"function", {{"name", "f"}, {"arguments", arguments}}}}}}});
    return parse_chat_messages(messages, "messages");
  };
  EXPECT_TRUE(asked(2));
  const auto refused = asked(3);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "messages[2].tool_calls[0].function.arguments");
}

TEST_F(Routes, PenaltiesSeeAsManyTokensAsTheClientSays) {
  const auto window = [&] { return engine->last.sampling.penalty_window; };
  EXPECT_EQ(post(kChat, ask({{"repetition_penalty", 1.2}}))->status(), 200);
  EXPECT_EQ(window(), -1);
  EXPECT_EQ(post(kChat, ask({{"repeat_penalty", 1.2}, {"repeat_last_n", 64}}))->status(), 200);
  EXPECT_EQ(window(), 64);
  const auto ollama = [&](const Json& options) {
    const auto reply = post("/api/chat", {{"messages", {{{"role", "user"}, {"content", "hi"}}}}, {"options", options}});
    EXPECT_EQ(reply->status(), 200) << reply->body();
    return window();
  };
  EXPECT_EQ(ollama({{"repeat_last_n", 0}, {"repeat_penalty", 1.2}}), 0);
  EXPECT_EQ(ollama({{"repeat_last_n", -1}, {"repeat_penalty", 1.2}}), -1);
  EXPECT_EQ(ollama({{"repeat_penalty", 1.2}}), 64);  // Ollama's own
  EXPECT_EQ(ollama(Json::object()), -1);
}

TEST_F(Routes, RefusalsNameFieldsAsTheProtocolDoes) {
  const Json user = {{{"role", "user"}, {"content", "hi"}}};
  const auto says = [&](std::string_view path, const std::string& body, const std::string& name) {
    const auto reply = call("POST", std::string(path), body);
    EXPECT_EQ(reply->status(), 400) << reply->body();
    const Json error = reply->json()["error"];
    const std::string message = error.is_string() ? error.get<std::string>() : error["message"].get<std::string>();
    EXPECT_EQ(message.find(name + ":"), 0u) << message;
    if (error.contains("param")) {
      EXPECT_EQ(error["param"], name);
    }
  };
  says(kChat, ask({{"max_completion_tokens", 5000}}).dump(), "max_completion_tokens");
  says(kChat, ask({{"max_tokens", 5000}}).dump(), "max_tokens");
  says("/v1/responses", R"({"input":"hi","max_output_tokens":5000})", "max_output_tokens");
  const auto ollama_options = [&](const Json& options) {
    return Json{{"messages", user}, {"options", options}}.dump();
  };
  says("/api/chat", ollama_options({{"stop_token_ids", {100000}}}), "options.stop_token_ids");
  says("/api/chat", ollama_options({{"logit_bias", {{"100000", 1}}}}), "options.logit_bias");
  says("/api/chat", ollama_options({{"min_tokens", 9}, {"num_predict", 3}}), "options.min_tokens");
  EXPECT_NE(call("POST", "/api/chat", ollama_options({{"min_tokens", 9}, {"num_predict", 3}}))
                ->body()
                .find("at most options.num_predict (3)"),
            std::string::npos);
  // Tools without a `function` inside, one of them passed over.
  says("/v1/responses", R"({"input":"hi","tools":[{"type":"web_search"},{"type":"function","name":"a b"}]})",
       "tools[1].name");
  says("/v1/responses", R"({"input":"hi","tools":[{"type":"function","name":"a","parameters":3}]})",
       "tools[0].parameters");
  says("/v1/messages",
       Json{{"max_tokens", 5}, {"messages", user}, {"tools", {{{"name", "a b"}, {"input_schema", Json::object()}}}}}
           .dump(),
       "tools[0].name");
  says("/v1/responses", R"({"input":[{"role":"king","content":"hi"}],"instructions":"x"})", "input[0].role");
}

TEST_F(Routes, AFinalErrorSaysSo) {
  for (const char* path : {"/v1/embeddings", "/api/embed"}) {
    const auto reply = post(path, {{"input", "x"}});
    EXPECT_EQ(reply->status(), 501);
    EXPECT_THAT(reply->headers(), testing::Contains(testing::Pair("x-should-retry", "false")));
  }
}

// Words by which LiteLLM, LangChain and Claude Code tell a full context.
TEST_F(Routes, AFullContextIsSaidInTheWordsThatClientsLookFor) {
  const std::string text(5000, 'x');
  const Json messages = {{{"role", "user"}, {"content", text}}};
  const Json error = post(kChat, {{"messages", messages}})->json()["error"];
  EXPECT_NE(error["message"].get<std::string>().find("this model's maximum context length is 4096 tokens"),
            std::string::npos);
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["n_ctx"], 4096);
  EXPECT_GT(error["n_prompt_tokens"], 4096);
  const auto theirs = post("/v1/messages", {{"max_tokens", 5}, {"messages", messages}})->json()["error"]["message"];
  const std::string begin = "prompt is too long: ", end = " tokens > 4096 maximum";
  EXPECT_EQ(theirs.get<std::string>().find(begin), 0u) << theirs;
  EXPECT_TRUE(theirs.get<std::string>().ends_with(end)) << theirs;
}

}  // namespace redoubt
