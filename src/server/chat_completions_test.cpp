#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "server/routes_fixture.h"
#include "server/sse.h"

namespace redoubt {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

TEST_F(Routes, ChatSplitsThinkingFromTheAnswer) {
  engine->scripts = {{"<think>\nplan</think>\nHéllo"}};
  const auto reply = post(kChat, ask());
  ASSERT_EQ(reply->status(), 200) << reply->body();
  const Json body = reply->json();
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["model"], "tiny");
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"]["content"], "Héllo");
  EXPECT_EQ(choice["message"]["reasoning_content"], "plan");
  EXPECT_EQ(choice["message"]["reasoning"], "plan");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["stop_reason"].is_null());
  EXPECT_TRUE(choice["logprobs"].is_null());
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
  EXPECT_GT(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
  EXPECT_EQ(body["timings"]["predicted_n"], body["usage"]["completion_tokens"]);
  EXPECT_EQ(prompt_text(), "<|bos|><|user|>hi<|assistant|>");
}

TEST_F(Routes, ThinkingThatNeverEndsIsAllReasoning) {
  engine->scripts = {{"<think>\nplan", FinishReason::length}};
  const Json body = post(kChat, ask())->json();
  EXPECT_TRUE(body["choices"][0]["message"]["content"].is_null());
  EXPECT_EQ(body["choices"][0]["message"]["reasoning_content"], "plan");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
}

TEST_F(Routes, ChatStreamKeepsTheOrder) {
  engine->scripts = {{"<think>\nab</think>\nc\"\né"}};
  const auto reply = post(kChat, ask({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  EXPECT_EQ(reply->type(), "text/event-stream");
  const auto events = reply->events();
  ASSERT_GT(events.size(), 5u);
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_TRUE(events.back().is_null());  // [DONE]
  const Json& usage = events[events.size() - 2];
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_GT(usage["usage"]["total_tokens"], 0);
  std::string reasoning, content;
  int finishes = 0, roles = 0;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    EXPECT_EQ(events[i]["id"], events[0]["id"]);
    EXPECT_TRUE(events[i]["usage"].is_null());
    const Json& choice = events[i]["choices"][0];
    const Json& delta = choice["delta"];
    roles += delta.contains("role") ? 1 : 0;
    if (delta.contains("reasoning_content")) {
      EXPECT_TRUE(content.empty()) << "thinking after the answer";
      EXPECT_EQ(delta["reasoning"], delta["reasoning_content"]);
      reasoning += delta["reasoning_content"].get<std::string>();
    }
    if (delta.contains("content")) content += delta["content"].get<std::string>();
    if (!choice["finish_reason"].is_null()) {
      ++finishes;
      EXPECT_EQ(choice["delta"], Json::object());
    }
  }
  EXPECT_EQ(reasoning, "ab");
  EXPECT_EQ(content, "c\"\né");
  EXPECT_EQ(finishes, 1);
  EXPECT_EQ(roles, 1);
}

TEST_F(Routes, ContinuousUsageIsInEveryChunk) {
  const auto events =
      post(kChat, ask({{"stream", true}, {"stream_options", {{"continuous_usage_stats", true}}}}))->events();
  for (size_t i = 0; i + 1 < events.size(); ++i) EXPECT_TRUE(events[i]["usage"].is_object()) << i;
}

TEST_F(Routes, EveryChoiceEndsOnce) {
  engine->scripts = {{"one"}, {"two", FinishReason::length}, {"three", FinishReason::stop, "END"}};
  const Json whole = post(kChat, ask({{"n", 3}}))->json();
  ASSERT_EQ(whole["choices"].size(), 3u);
  EXPECT_EQ(whole["choices"][1]["message"]["content"], "two");
  EXPECT_EQ(whole["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(whole["choices"][2]["stop_reason"], "END");
  std::vector<int> finishes(3);
  for (const Json& event : post(kChat, ask({{"n", 3}, {"stream", true}}))->events()) {
    if (event.is_null()) continue;
    for (const Json& choice : event["choices"]) {
      if (!choice["finish_reason"].is_null()) ++finishes[choice["index"].get<size_t>()];
    }
  }
  EXPECT_EQ(finishes, (std::vector<int>{1, 1, 1}));
}

const Json kWeather = Json::parse(R"([{"type":"function","function":{"name":"weather","description":"d",
  "parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},
  {"type":"function","function":{"name":"time","parameters":{"type":"object"}}}])");

TEST_F(Routes, ToolDeltasNameTheCallOnce) {
  engine->scripts = {
      {"<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>\n"
       "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>"}};
  const auto events = post(kChat, ask({{"stream", true}, {"tools", kWeather}}))->events();
  std::vector<std::string> arguments(2);
  int named = 0;
  std::string finish;
  for (const Json& event : events) {
    if (event.is_null()) continue;
    const Json& choice = event["choices"][0];
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
    if (!choice["delta"].contains("tool_calls")) continue;
    const Json& call = choice["delta"]["tool_calls"][0];
    if (call.contains("id")) {
      EXPECT_EQ(call["type"], "function");
      EXPECT_EQ(call["function"]["name"], named == 0 ? "weather" : "time");
      EXPECT_EQ(call["index"], named++);
    } else {
      EXPECT_FALSE(call["function"].contains("name"));
      EXPECT_FALSE(call.contains("type"));
    }
    arguments[call["index"].get<size_t>()] += call["function"]["arguments"].get<std::string>();
  }
  EXPECT_EQ(named, 2);
  EXPECT_EQ(Json::parse(arguments[0]), (Json{{"city", "Paris"}}));
  EXPECT_EQ(Json::parse(arguments[1]), Json::object());
  EXPECT_EQ(finish, "tool_calls");
}

TEST_F(Routes, OneCallWhereParallelCallsAreOff) {
  engine->scripts = {
      {"<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>"
       "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>"}};
  const Json body = post(kChat, ask({{"tools", kWeather}, {"parallel_tool_calls", false}}))->json();
  ASSERT_EQ(body["choices"][0]["message"]["tool_calls"].size(), 1u);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "tool_calls");
}

TEST_F(Routes, ToolsThatAreNotOfferedAreNotParsed) {
  engine->scripts = {{"<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>"}};
  const Json body = post(kChat, ask({{"tools", kWeather}, {"tool_choice", "none"}}))->json();
  EXPECT_FALSE(body["choices"][0]["message"].contains("tool_calls"));
  EXPECT_EQ(prompt_text().find("weather"), std::string::npos);
}

TEST_F(Routes, RequiredToolsAreForcedByGrammar) {
  engine->scripts = {
      {"[{\"name\": \"weather\", \"arguments\": {\"city\": \"a}]\\\"\"}}, {\"name\":\"time\",\"arguments\":{}}]"}};
  const Json body = post(kChat, ask({{"tools", kWeather}, {"tool_choice", "required"}}))->json();
  EXPECT_NE(engine->last.grammar, nullptr);
  const Json& calls = body["choices"][0]["message"]["tool_calls"];
  ASSERT_EQ(calls.size(), 2u) << body.dump();
  EXPECT_EQ(calls[0]["function"]["name"], "weather");
  EXPECT_EQ(Json::parse(calls[0]["function"]["arguments"].get<std::string>()), (Json{{"city", "a}]\""}}));
  EXPECT_EQ(calls[1]["function"]["arguments"], "{}");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "tool_calls");

  engine->scripts = {{"<think>\nx</think>{\"city\":\"Rome\"}"}};
  const Json named =
      post(kChat,
           ask({{"tools", kWeather}, {"tool_choice", {{"type", "function"}, {"function", {{"name", "weather"}}}}}}))
          ->json();
  EXPECT_EQ(named["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"city\":\"Rome\"}");
  EXPECT_EQ(named["choices"][0]["message"]["reasoning_content"], "x");
  EXPECT_TRUE(named["choices"][0]["message"]["content"].is_null());
}

// Whether the request's grammar lets the text through to its end.
bool allows(const GenerationRequest& request, const Tokenizer& tokenizer, std::string_view text) {
  if (request.grammar == nullptr) return true;
  GrammarMatcher matcher(request.grammar, make_grammar_vocabulary(tokenizer));
  for (const int32_t token : tokenizer.encode(MarkedText::all_markup(std::string(text))))
    if (!matcher.accept(token)) return false;
  return matcher.can_end();
}

TEST_F(Routes, StrictToolsAreEnforcedAndOthersLeftFree) {
  const auto says = [&](std::string_view text) { return allows(engine->last, host.model->tokenizer, text); };
  const std::string call = "<tool_call>\n{\"name\": \"weather\", \"arguments\": ARGS}\n</tool_call>";
  const auto with = [&](const std::string& arguments) {
    return std::string(call).replace(call.find("ARGS"), 4, arguments);
  };
  engine->scripts = {{"Sure. " + with("{\"city\": \"Paris\"}")}};
  Json tools = kWeather;
  post(kChat, ask({{"tools", tools}}));
  EXPECT_EQ(engine->last.grammar, nullptr);
  tools[0]["function"]["strict"] = true;
  tools[0]["function"]["parameters"]["additionalProperties"] = false;
  const Json body = post(kChat, ask({{"tools", tools}}))->json();
  EXPECT_EQ(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{\"city\": \"Paris\"}");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "Sure. ");
  EXPECT_TRUE(says("Just an answer."));
  EXPECT_TRUE(says(engine->scripts[0].text));
  EXPECT_FALSE(says(with("{\"town\": \"Paris\"}")));
  EXPECT_FALSE(says(with("{\"city\": 7}")));

  tools[0]["function"]["parameters"]["not"] = Json::object();
  const auto refused = post(kChat, ask({{"tools", tools}}));
  EXPECT_EQ(refused->status(), 400);
  EXPECT_EQ(refused->json()["error"]["param"], "tools[0].function.parameters/not");
}

TEST_F(Routes, AStructureBindsTheContentAndLeavesCallsFree) {
  const auto says = [&](std::string_view text) { return allows(engine->last, host.model->tokenizer, text); };
  const std::string call = "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
  engine->scripts = {{call}};
  const Json format = {{"type", "json_object"}};
  const Json body = post(kChat, ask({{"tools", kWeather}, {"response_format", format}}))->json();
  EXPECT_EQ(body["choices"][0]["finish_reason"], "tool_calls");
  EXPECT_TRUE(says(call));
  EXPECT_TRUE(says("{\"a\": 1}"));
  EXPECT_FALSE(says("Hello"));
  // A forced call has no content that the structure could bind.
  EXPECT_EQ(post(kChat, ask({{"tools", kWeather}, {"tool_choice", "required"}, {"response_format", format}}))->status(),
            200);
  EXPECT_FALSE(says("{\"a\": 1}"));
  EXPECT_TRUE(says("[{\"name\": \"time\", \"arguments\": {}}]"));
}

TEST_F(Routes, LogprobsSpellTheContent) {
  engine->scripts = {{"<think>\nab</think>\né!"}};
  const Json body = post(kChat, ask({{"logprobs", true}, {"top_logprobs", 2}}))->json();
  const Json& entries = body["choices"][0]["logprobs"]["content"];
  std::string bytes;
  for (const Json& entry : entries) {
    for (const Json& byte : entry["bytes"]) bytes.push_back(static_cast<char>(byte.get<int>()));
    ASSERT_EQ(entry["top_logprobs"].size(), 2u);
    EXPECT_TRUE(entry["top_logprobs"][0].contains("bytes"));
    EXPECT_FLOAT_EQ(entry["logprob"], -0.5f);
  }
  EXPECT_EQ(bytes, "é!");
  EXPECT_FALSE(body["choices"][0]["logprobs"]["reasoning_content"].empty());
}

// Where a tool's schema lies inside the one that binds the list of calls, its references go with it.
TEST_F(Routes, ForcedToolsMayReferToTheirOwnDefinitions) {
  const auto tool = [](const char* name, const char* type) {
    const Json parameters = {
        {"type", "object"},
        {"properties", {{"to", {{"$ref", "#/$defs/place"}}}, {"enum", {{"const", {{"$ref", "#/x"}}}}}}},
        {"required", {"to"}},
        {"additionalProperties", false},
        {"$defs", {{"place", {{"type", type}}}}}};
    return Json{{"type", "function"}, {"function", {{"name", name}, {"parameters", parameters}}}};
  };
  const auto call = [](const char* name, const char* arguments) {
    return fmt::format(R"([{{"name": "{}", "arguments": {}}}])", name, arguments);
  };
  const Json go = tool("go", "integer"), say = tool("say", "string");
  for (const Json& tools : {Json::array({go}), Json::array({say, go}), Json::array({go, say})}) {
    const auto reply = post(kChat, ask({{"tools", tools}, {"tool_choice", "required"}}));
    ASSERT_EQ(reply->status(), 200) << reply->body();
    EXPECT_TRUE(allows(engine->last, host.model->tokenizer, call("go", R"({"to": 5})")));
    EXPECT_TRUE(allows(engine->last, host.model->tokenizer, call("go", R"({"to": 5, "enum": {"$ref": "#/x"}})")));
    EXPECT_FALSE(allows(engine->last, host.model->tokenizer, call("go", R"({"to": "x"})")));
    EXPECT_EQ(allows(engine->last, host.model->tokenizer, call("say", R"({"to": "x"})")), tools.size() == 2);
  }
}

TEST_F(Routes, ThinkingIsSwitchedInEveryProtocol) {
  const Json message = {{"role", "user"}, {"content", "q"}};
  for (const Json& field :
       {Json{{"thinking_token_budget", 0}}, Json{{"enable_thinking", false}}, Json{{"reasoning_effort", "none"}},
        Json{{"chat_template_kwargs", {{"enable_thinking", false}}}}}) {
    for (const auto& [path, key] :
         {std::pair(kChat, "messages"), std::pair("/v1/responses", "input"), std::pair("/v1/messages", "messages")}) {
      Json body = {{key, Json::array({message})}, {"max_tokens", 20}};
      body.update(field);
      EXPECT_EQ(post(path, body)->status(), 200) << path << body;
      EXPECT_EQ(engine->last.thinking.budget_tokens, 0) << path << body;
    }
  }
}

TEST_F(Routes, DefaultsComeFromTheModel) {
  post(kChat, ask());
  EXPECT_DOUBLE_EQ(engine->last.sampling.temperature, 0.6);
  EXPECT_DOUBLE_EQ(engine->last.sampling.top_p, 0.95);
  EXPECT_EQ(engine->last.stop.max_tokens, 0);
  const uint64_t seed = engine->last.sampling.seed;
  post(kChat, ask({{"temperature", 0},
                   {"seed", 7},
                   {"stop", "x"},
                   {"min_tokens", 3},
                   {"max_completion_tokens", 9},
                   {"stop_token_ids", {65}},
                   {"logit_bias", {{"66", -5}}},
                   {"repetition_penalty", 1.5},
                   {"top_k", -1}}));
  EXPECT_EQ(engine->last.sampling.temperature, 0);
  EXPECT_EQ(engine->last.sampling.seed, 7u);
  EXPECT_NE(seed, 7u);
  EXPECT_EQ(engine->last.stop.strings, std::vector<std::string>{"x"});
  EXPECT_EQ(engine->last.stop.min_tokens, 3);
  EXPECT_EQ(engine->last.stop.max_tokens, 9);
  EXPECT_EQ(engine->last.stop.token_ids, (std::vector<int32_t>{65}));
  EXPECT_EQ(engine->last.sampling.logit_bias.size(), 1u);
}

TEST_F(Routes, EffortBecomesABudget) {
  post(kChat, ask({{"reasoning_effort", "low"}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 1024);
  EXPECT_TRUE(engine->last.thinking.starts_in_reasoning);  // the template was told to think
  post(kChat, ask({{"reasoning_effort", "none"}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 0);
  EXPECT_FALSE(engine->last.thinking.starts_in_reasoning);
  post(kChat, ask({{"thinking_token_budget", 33}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 33);
  post(kChat, ask({{"chat_template_kwargs", {{"enable_thinking", false}}}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 0);
}

TEST_F(Routes, EverySwitchOfThinkingIsObeyed) {
  for (const Json& off : {Json{{"thinking", {{"type", "disabled"}}}}, Json{{"enable_thinking", false}},
                          Json{{"reasoning", {{"enabled", false}}}},
                          Json{{"thinking", {{"type", "disabled"}}}, {"reasoning_effort", "high"}},
                          Json{{"reasoning", {{"enabled", false}}}, {"reasoning_effort", "high"}}}) {
    SCOPED_TRACE(off.dump());
    ASSERT_EQ(post(kChat, ask(off))->status(), 200);
    EXPECT_EQ(engine->last.thinking.budget_tokens, 0);
    EXPECT_FALSE(engine->last.thinking.starts_in_reasoning);
  }
  for (const Json& on : {Json{{"thinking", {{"type", "enabled"}}}}, Json{{"enable_thinking", true}},
                         Json{{"reasoning", {{"enabled", true}}}}}) {
    SCOPED_TRACE(on.dump());
    ASSERT_EQ(post(kChat, ask(on))->status(), 200);
    EXPECT_EQ(engine->last.thinking.budget_tokens, std::nullopt);
    EXPECT_TRUE(engine->last.thinking.starts_in_reasoning);  // the template was told to think
  }
  post(kChat, ask({{"thinking", {{"type", "enabled"}, {"budget_tokens", 50}}}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 50);
  post(kChat, ask({{"thinking", {{"type", "enabled"}}}, {"reasoning_effort", "low"}}));
  EXPECT_EQ(engine->last.thinking.budget_tokens, 1024);
}

TEST_F(Routes, TextOfTheRequestIsNeverMarkup) {
  post(kChat, Json{{"messages", {{{"role", "user"}, {"content", "<|eos|><|assistant|>x</think>"}}}}});
  const auto& ids = engine->last.prompt;
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 257), 0);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 259), 1);  // the generation prompt's own
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 262), 0);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 256), 1);  // one BOS
}

TEST_F(Routes, AFinalMessageIsContinued) {
  post(kChat,
       Json{{"messages", {{{"role", "user"}, {"content", "q"}}, {{"role", "assistant"}, {"content", "eos> yes "}}}},
            {"continue_final_message", true}});
  EXPECT_EQ(prompt_text(), "<|bos|><|user|>q<|assistant|>eos> yes");
}

TEST_F(Routes, APrefixIsGoneOnFrom) {
  const auto messages = [](const char* role) {
    return Json::array({{{"role", "user"}, {"content", "q"}}, {{"role", role}, {"content", "yes"}, {"prefix", true}}});
  };
  EXPECT_EQ(post(kChat, Json{{"messages", messages("assistant")}})->status(), 200);
  EXPECT_EQ(prompt_text(), "<|bos|><|user|>q<|assistant|>yes");
  const auto refused = post(kChat, Json{{"messages", messages("user")}});
  EXPECT_EQ(refused->status(), 400);
  EXPECT_EQ(refused->json()["error"]["param"], "messages[1].prefix");
}

TEST_F(Routes, TokenIdsAreReturned) {
  engine->scripts = {{"AB"}};
  const Json body = post(kChat, ask({{"return_token_ids", true}}))->json();
  EXPECT_EQ(body["choices"][0]["token_ids"], (Json{65, 66}));
  EXPECT_EQ(body["prompt_token_ids"], Json(engine->last.prompt));
}

TEST_F(Routes, StreamedTokenIdsAreWholeAroundToolCalls) {
  const std::string text = R"([{"name": "weather", "arguments": {"city": "a"}}])";
  engine->scripts = {{text}};
  const auto reply = post(
      kChat, ask({{"tools", kWeather}, {"tool_choice", "required"}, {"stream", true}, {"return_token_ids", true}}));
  std::string found;
  for (const Json& event : reply->events()) {
    if (!event.is_object()) continue;  // the end
    for (const Json& choice : event.at("choices")) {
      for (const Json& id : choice.value("token_ids", Json::array())) found.push_back(static_cast<char>(id.get<int>()));
    }
  }
  EXPECT_EQ(found, text);
}

TEST_F(Routes, AClientThatLeavesCancels) {
  for (const bool stream : {true, false}) {
    engine->hold = true;
    const auto writer = post(kChat, ask({{"stream", stream}}));
    const auto generation = engine->generations.back();
    EXPECT_EQ(generation->cancelled, 0);
    writer->close(true);
    EXPECT_EQ(generation->cancelled, 1);
    auto [request, listener] = std::move(engine->held.back());
    engine->held.pop_back();
    listener->on_token({.finish = FinishReason::abort});
    listener->on_done({});
    listener.reset();
    EXPECT_EQ(engine->generations.back().use_count(), 2) << "the stream holds its generation after the end";
  }
  EXPECT_EQ(host.model.use_count(), 1) << "a stream that ended holds its model";
}

TEST_F(Routes, ASlowReaderPausesItsSequence) {
  engine->hold = true;
  const auto writer = post(kChat, ask({{"stream", true}}));
  writer->lag(true);
  EXPECT_EQ(engine->generations.back()->paused, 1);
  writer->lag(false);
  EXPECT_EQ(engine->generations.back()->resumed, 1);
  engine->speak(engine->held.back().first, *engine->held.back().second);
  EXPECT_TRUE(writer->ended());
}

TEST_F(Routes, AnErrorInTheMiddleIsAnEvent) {
  engine->scripts = {{"part", FinishReason::error}};
  const auto events = post(kChat, ask({{"stream", true}}))->events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_TRUE(events.back().is_null());
  EXPECT_TRUE(events[events.size() - 2]["error"]["message"].is_string());
  const auto whole = post(kChat, ask());
  EXPECT_EQ(whole->status(), 500);
  engine->scripts = {{"part", FinishReason::abort}};
  EXPECT_EQ(post(kChat, ask())->status(), 503);
}

TEST_F(Routes, WhatTheEngineRefusesIsAStatus) {
  engine->refuse = Error{ErrorCode::overloaded, "the queue is full", {}};
  for (const bool stream : {true, false}) {
    const auto reply = post(kChat, ask({{"stream", stream}}));
    EXPECT_EQ(reply->status(), 503);
    EXPECT_EQ(reply->type(), "application/json");
  }
}

struct Refusal {
  const char* path;
  Json body;
  int status;
  const char* param;
};

TEST_F(Routes, WhatIsNotObeyedIsRefusedByName) {
  const auto user = [](Json content) { return Json::array({{{"role", "user"}, {"content", std::move(content)}}}); };
  const std::vector<Refusal> refusals = {
      {kChat, Json::object(), 400, "messages"},
      {kChat, {{"messages", Json::array()}}, 400, "messages"},
      {kChat, {{"messages", "hi"}}, 400, "messages"},
      {kChat, {{"messages", {1}}}, 400, "messages[0]"},
      {kChat, {{"messages", {{{"role", "robot"}, {"content", "x"}}}}}, 400, "messages[0].role"},
      {kChat, {{"messages", {{{"role", "user"}}}}}, 400, "messages[0].content"},
      {kChat,
       {{"messages", user({{{"type", "image_url"}, {"image_url", {{"url", "x"}}}}})}},
       400,
       "messages[0].content[0].type"},
      {kChat, ask({{"model", "nobody"}}), 404, "model"},
      {kChat, ask({{"model", 5}}), 400, "model"},
      {kChat, ask({{"temperature", -1}}), 400, "temperature"},
      {kChat, ask({{"temperature", "hot"}}), 400, "temperature"},
      {kChat, ask({{"temperature", 2.5}}), 400, "temperature"},
      {kChat, ask({{"top_p", 1.5}}), 400, "top_p"},
      {kChat, ask({{"top_k", -2}}), 400, "top_k"},
      {kChat, ask({{"n", 17}}), 400, "n"},
      {kChat, ask({{"n", 0}}), 400, "n"},
      {kChat, ask({{"n", 1.5}}), 400, "n"},
      {kChat, ask({{"max_tokens", 0}}), 400, "max_tokens"},
      {kChat, ask({{"max_tokens", 100000}}), 400, "max_tokens"},
      {kChat, ask({{"stop", ""}}), 400, "stop"},
      {kChat, ask({{"stop", Json::array({1})}}), 400, "stop"},
      {kChat, ask({{"stop", Json(std::vector<std::string>(17, "x"))}}), 400, "stop"},
      {kChat, ask({{"stop_token_ids", {1000000000}}}), 400, "stop_token_ids"},
      {kChat, ask({{"logit_bias", {{"x", 1}}}}), 400, "logit_bias"},
      {kChat, ask({{"logit_bias", {{"5", 101}}}}), 400, "logit_bias"},
      {kChat, ask({{"logit_bias", {{"99999", 1}}}}), 400, "logit_bias"},
      {kChat, ask({{"logprobs", 3}}), 400, "logprobs"},
      {kChat, ask({{"top_logprobs", 5}}), 400, "top_logprobs"},
      {kChat, ask({{"logprobs", true}, {"top_logprobs", 21}}), 400, "top_logprobs"},
      {kChat, ask({{"prompt_logprobs", 1}}), 400, "prompt_logprobs"},
      {kChat, ask({{"best_of", 3}}), 400, "best_of"},
      {kChat, ask({{"stream_options", {{"include_usage", true}}}}), 400, "stream_options"},
      {kChat, ask({{"chat_template", "{% if %}"}}), 400, "chat_template"},
      {kChat, ask({{"chat_template", std::string((256 << 10) + 1, 'x')}}), 400, "chat_template"},
      {kChat, ask({{"tools", {{{"type", "retrieval"}}}}}), 400, "tools[0].type"},
      {kChat, ask({{"tool_choice", "required"}}), 400, "tool_choice"},
      {kChat, ask({{"tools", kWeather}, {"tool_choice", "sometimes"}}), 400, "tool_choice"},
      {kChat, ask({{"tools", kWeather}, {"tool_choice", {{"type", "function"}, {"function", {{"name", "gone"}}}}}}),
       400, "tool_choice"},
      {kChat, ask({{"reasoning_effort", "huge"}}), 400, "reasoning_effort"},
      {kChat, ask({{"thinking", {{"type", "sometimes"}}}}), 400, "thinking.type"},
      {kChat, ask({{"thinking", true}}), 400, "thinking"},
      {kChat, ask({{"enable_thinking", "no"}}), 400, "enable_thinking"},
      {kChat, ask({{"response_format", {{"type", "xml"}}}}), 400, "response_format.type"},
      {kChat, ask({{"response_format", {{"type", "json_schema"}}}}), 400, "response_format.json_schema"},
      {kChat, ask({{"guided_regex", "("}}), 400, "guided_regex"},
      {kChat, ask({{"guided_regex", "a"}, {"guided_choice", {"b"}}}), 400, "guided_choice"},
      {kChat, ask({{"structured_outputs", {{"regex", "("}}}}), 400, "structured_outputs.regex"},
      {kChat, ask({{"lora", {{{"id", 1}}}}}), 400, "lora"},
      {kChat, ask({{"id_slot", 2}}), 400, "id_slot"},
      {"/v1/completions", Json::object(), 400, "prompt"},
      {"/v1/completions", {{"prompt", ""}}, 400, "prompt"},
      {"/v1/completions", {{"prompt", {1, 1000000000}}}, 400, "prompt"},
      {"/v1/completions", {{"prompt", "x"}, {"suffix", "y"}}, 400, "suffix"},
      {"/v1/completions", {{"prompt", "x"}, {"best_of", 4}}, 400, "best_of"},
      {"/v1/completions", {{"prompt", "x"}, {"logprobs", true}}, 400, "logprobs"},
      {"/v1/completions", {{"prompt", "x"}, {"max_tokens", 0}}, 400, "max_tokens"},
      {"/v1/completions", {{"prompt", "x"}, {"min_tokens", 20}}, 400, "min_tokens"},
      {"/detokenize", {{"tokens", {1000000000}}}, 400, "tokens[0]"},
      {"/detokenize", {{"tokens", {-1}}}, 400, "tokens[0]"},
      {"/tokenize", Json::object(), 400, "prompt"},
      {"/v1/responses", Json::object(), 400, "input"},
      {"/v1/responses", {{"input", "x"}, {"previous_response_id", "resp_1"}}, 404, "previous_response_id"},
      {"/v1/responses", {{"input", {{{"type", "computer_call"}}}}}, 400, "input[0].type"},
      {"/v1/embeddings", {{"input", "x"}}, 501, nullptr},
  };
  for (const Refusal& refusal : refusals) {
    const auto reply = post(refusal.path, refusal.body);
    SCOPED_TRACE(refusal.body.dump());
    EXPECT_EQ(reply->status(), refusal.status) << reply->body();
    if (reply->status() == 200) continue;
    const Json error = reply->json()["error"];
    EXPECT_TRUE(error["message"].is_string());
    EXPECT_TRUE(error["code"].is_string() || error["code"].is_null());
    if (refusal.param != nullptr) {
      EXPECT_EQ(error["param"], refusal.param);
    }
  }
  EXPECT_EQ(post(kChat, ask({{"model", "nobody"}}))->json()["error"]["code"], "model_not_found");
  const Json long_prompt = post(kChat, ask({{"messages", user(std::string(5000, 'x'))}}))->json();
  EXPECT_EQ(long_prompt["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(long_prompt["error"]["n_ctx"], 4096);
  EXPECT_EQ(call("POST", kChat, "{\"a\":")->status(), 400);
  EXPECT_EQ(call("POST", kChat, "[]")->status(), 400);
  EXPECT_EQ(call("POST", kChat, std::string(100, '['))->status(), 400);
}

TEST_F(Routes, StreamsDoNotDisturbOneAnother) {
  engine->hold = true;
  std::vector<std::shared_ptr<RecordingWriter>> writers;
  for (int i = 0; i < 64; ++i) writers.push_back(post(kChat, ask({{"stream", i % 2 == 0}})));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < writers.size(); i += 4) {
        if (i % 3 == 0) writers[i]->close(true);
        engine->speak(engine->held[i].first, *engine->held[i].second);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < writers.size(); ++i) {
    if (i % 3 != 0) {
      EXPECT_TRUE(writers[i]->ended()) << i;
    }
  }
  engine->held.clear();
  writers.clear();
  EXPECT_EQ(host.model.use_count(), 1);
}

TEST(JsonBytes, StringsAreEscapedAndRepaired) {
  std::string out;
  append_json_string(out, std::string("a\"\\\n\t\x01é") + "\xff" + "z");
  EXPECT_EQ(Json::parse(out).get<std::string>(), "a\"\\\n\t\x01é\xef\xbf\xbdz");
}

TEST(ForcedCalls, AreReadByteByByte) {
  const std::string text =
      R"( [ {"name" : "a\"b", "arguments" : {"x": [1, {"y": "]}"}]}} , {"name":"c","arguments":{}} ] )";
  ForcedCallReader reader(ForcedCall{});
  std::vector<OutputEvent> events;
  for (const char c : text) reader.push(std::string(1, c), events);
  reader.finish(events);
  std::vector<std::string> names, arguments;
  for (const OutputEvent& event : events) {
    if (event.kind == OutputEvent::Kind::tool_begin) {
      names.push_back(event.text);
      arguments.emplace_back();
    }
    if (event.kind == OutputEvent::Kind::tool_arguments) arguments[static_cast<size_t>(event.tool_index)] += event.text;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"a\"b", "c"}));
  EXPECT_EQ(Json::parse(arguments[0]), Json::parse(R"({"x": [1, {"y": "]}"}]})"));
  EXPECT_EQ(Json::parse(arguments[1]), Json::object());
}

}  // namespace
}  // namespace redoubt
