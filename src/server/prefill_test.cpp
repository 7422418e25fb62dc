// A conversation that ends with the assistant's message: where the protocol says so, the answer goes on from it.
#include <gtest/gtest.h>

#include <string>

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr const char* kOpenPrompt = "<|bos|><|user|>q<|assistant|>The capital is";
constexpr const char* kNewTurn = "<|bos|><|user|>q<|assistant|>The capital is<|eos|><|assistant|>";
const Json kText = "The capital is";

Json with_prefill(const Json& content, const Json& more = Json::object()) {
  Json body = {{"max_tokens", 10},
               {"messages", {{{"role", "user"}, {"content", "q"}}, {{"role", "assistant"}, {"content", content}}}}};
  body.update(more);
  return body;
}

TEST_F(Routes, AnthropicsPrefillIsGoneOnFrom) {
  engine->scripts = {{" Paris."}};
  const Json blocks = Json::parse(R"([{"type":"text","text":"The capital"},{"type":"text","text":" is"}])");
  for (const Json& content : {kText, blocks}) {
    const auto reply = post("/v1/messages", with_prefill(content));
    ASSERT_EQ(reply->status(), 200) << reply->body();
    EXPECT_EQ(prompt_text(), kOpenPrompt);
    EXPECT_EQ(reply->json()["content"], Json::parse(R"([{"type":"text","text":" Paris."}])"));
    EXPECT_EQ(post("/v1/messages/count_tokens", with_prefill(content))->json()["input_tokens"],
              engine->last.prompt.size());
  }
  std::string text;
  for (const Json& event : post("/v1/messages", with_prefill(kText, {{"stream", true}}))->events())
    if (event["type"] == "content_block_delta") text += event["delta"]["text"].get<std::string>();
  EXPECT_EQ(prompt_text(), kOpenPrompt);
  EXPECT_EQ(text, " Paris.");
}

TEST_F(Routes, ARequestMaySayWhetherItsPrefillIsGoneOnFrom) {
  const auto prompt = [&](const Json& more) {
    EXPECT_EQ(post("/v1/messages", with_prefill(kText, more))->status(), 200) << more;
    return prompt_text();
  };
  EXPECT_EQ(prompt({{"continue_final_message", false}}), kNewTurn);
  EXPECT_EQ(prompt({{"add_generation_prompt", true}}), kNewTurn);
  EXPECT_EQ(prompt({{"continue_final_message", true}}), kOpenPrompt);
  EXPECT_EQ(prompt({{"add_generation_prompt", false}}), kOpenPrompt);
  EXPECT_EQ(prompt({{"thinking", {{"type", "enabled"}}}, {"continue_final_message", false}}),
            std::string(kNewTurn) + "<think>\n");
}

TEST_F(Routes, APrefillThatBeginsNothingIsLeftOut) {
  for (const Json& content : {Json(""), Json::array()}) {
    EXPECT_EQ(post("/v1/messages", with_prefill(content))->status(), 200) << content;
    EXPECT_EQ(prompt_text(), "<|bos|><|user|>q<|assistant|>");
  }
}

TEST_F(Routes, WhatAPrefillCannotHaveBesideItIsRefused) {
  const Json format = {{"type", "json_schema"}, {"schema", {{"type", "object"}}}};
  const auto message = [&](const Json& content, const Json& more) {
    const auto reply = post("/v1/messages", with_prefill(content, more));
    EXPECT_EQ(reply->status(), 400) << reply->body();
    return reply->status() == 400 ? reply->json()["error"]["message"].get<std::string>() : std::string();
  };
  const std::string beside = "is not possible where the last message is the assistant's, to go on from";
  EXPECT_EQ(message(kText, {{"thinking", {{"type", "enabled"}, {"budget_tokens", 5}}}}), "thinking: " + beside);
  EXPECT_EQ(message(kText, {{"output_config", {{"format", format}}}}), "output_config.format.schema: " + beside);
  EXPECT_EQ(message(kText, {{"output_format", format}}), "output_format.schema: " + beside);
  EXPECT_EQ(message("so: ", Json::object()),
            "messages[1].content: a last message of the assistant cannot end with white space");
  EXPECT_EQ(message(Json::parse(R"([{"type":"thinking","thinking":"hm"}])"), Json::object()),
            "messages[1].content: expected a text to go on from, found none");
}

TEST_F(Routes, APrefillGoesWithThinkingThatWasDoneAndWithTools) {
  const Json thought = Json::parse(R"([{"type":"thinking","thinking":"hm"},{"type":"text","text":"The capital is"}])");
  EXPECT_EQ(post("/v1/messages", with_prefill(thought, {{"thinking", {{"type", "enabled"}}}}))->status(), 200);
  EXPECT_EQ(prompt_text(), kOpenPrompt);
  EXPECT_EQ(post("/v1/messages", with_prefill(kText, {{"thinking", {{"type", "adaptive"}}}}))->status(), 200);
  EXPECT_EQ(prompt_text(), kOpenPrompt);

  const Json tools = Json::parse(R"([{"name":"f","input_schema":{"type":"object","properties":{}}}])");
  engine->scripts = {{R"( so<tool_call>{"name": "f", "arguments": {}}</tool_call>)"}};
  Json answer = post("/v1/messages", with_prefill(kText, {{"tools", tools}}))->json();
  EXPECT_EQ(answer["content"][0]["text"], " so");
  EXPECT_EQ(answer["content"][1]["type"], "tool_use");
  engine->scripts = {{"{}"}};
  answer = post("/v1/messages", with_prefill(kText, {{"tools", tools}, {"tool_choice", {{"type", "any"}}}, {"n", 1}}))
               ->json();
  EXPECT_NE(engine->last.grammar, nullptr);
  EXPECT_TRUE(prompt_text().ends_with(kText.get<std::string>())) << prompt_text();

  // A call that waits for its result is no text to go on from.
  const Json call = Json::parse(R"([{"type":"text","text":"x"},{"type":"tool_use","id":"t","name":"f","input":{}}])");
  EXPECT_EQ(post("/v1/messages", with_prefill(call))->status(), 200);
  EXPECT_TRUE(prompt_text().ends_with("<|eos|><|assistant|>")) << prompt_text();
}

TEST_F(Routes, OllamasLastMessageIsGoneOnFrom) {
  EXPECT_EQ(post("/api/chat", with_prefill("The capital is "))->status(), 200);
  EXPECT_EQ(prompt_text(), kOpenPrompt);
  EXPECT_EQ(post("/api/chat", with_prefill(""))->status(), 200);
  EXPECT_TRUE(prompt_text().ends_with("<|eos|><|assistant|>")) << prompt_text();
  // OpenAI's protocol opens a turn of its own.
  EXPECT_EQ(post("/v1/chat/completions", with_prefill(kText))->status(), 200);
  EXPECT_EQ(prompt_text(), kNewTurn);
}

// DeepSeek's and Qwen's templates print what follows the thinking, without white space around it.
TEST_F(Routes, WhatTheTemplateLeavesOutOfAPrefillIsNoHindrance) {
  const Json source =
      "{% for m in messages %}<|{{ m.role }}|>{{ (m.content.split('</think>') | last) | trim }}{{ eos_token }}{% "
      "endfor %}";
  const Json more = {{"chat_template", source}, {"continue_final_message", true}};
  for (const char* content : {"<think>hm</think>\n\nyes", "\n yes\n"}) {
    const auto reply = post("/v1/chat/completions", with_prefill(content, more));
    EXPECT_EQ(reply->status(), 200) << reply->body();
    EXPECT_EQ(prompt_text(), "<|user|>q<|eos|><|assistant|>yes");
  }
  EXPECT_EQ(post("/v1/chat/completions", with_prefill("<think>hm</think> ", more))->status(), 400);
}

}  // namespace
}  // namespace redoubt
