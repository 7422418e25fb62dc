// The protocols beside OpenAI's chat: completions, tokenize, Anthropic, Responses, Ollama.
#include "server/routes_fixture.h"

namespace redoubt {
namespace {

std::vector<std::string> types(const std::vector<Json>& events) {
  std::vector<std::string> out;
  for (const Json& event : events) {
    const std::string type = event["type"];
    if (out.empty() || out.back() != type) out.push_back(type);
  }
  return out;
}

const Json kMessages = Json::array({{{"role", "user"}, {"content", "hi"}}});

TEST_F(Routes, CompletionsEchoWithLogprobs) {
  engine->scripts = {{"cd"}};
  const Json body =
      post("/v1/completions", {{"prompt", "ab"}, {"echo", true}, {"logprobs", 2}, {"max_tokens", 5}})->json();
  EXPECT_EQ(body["object"], "text_completion");
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["text"], "abcd");
  const Json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], (Json{"a", "b", "c", "d"}));
  EXPECT_EQ(logprobs["text_offset"], (Json{0, 1, 2, 3}));
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_FLOAT_EQ(logprobs["token_logprobs"][1], -0.5f);
  EXPECT_EQ(logprobs["top_logprobs"][2].size(), 2u);
  EXPECT_EQ(engine->last.prompt, (std::vector<int32_t>{'a', 'b'}));  // no BOS unless asked
  post("/v1/completions", {{"prompt", "ab"}, {"add_special_tokens", true}});
  EXPECT_EQ(engine->last.prompt, (std::vector<int32_t>{256, 'a', 'b'}));
  EXPECT_EQ(engine->last.stop.max_tokens, 16);
}

TEST_F(Routes, CompletionsOfNothingAreThePromptAlone) {
  engine->scripts = {{"c", FinishReason::length}};
  const Json body =
      post("/v1/completions", {{"prompt", "ab"}, {"echo", true}, {"logprobs", 0}, {"max_tokens", 0}})->json();
  EXPECT_EQ(body["choices"][0]["text"], "ab");
  EXPECT_EQ(body["choices"][0]["logprobs"]["tokens"].size(), 2u);
  EXPECT_EQ(body["usage"]["completion_tokens"], 0);
}

TEST_F(Routes, CompletionsOfSeveralPrompts) {
  engine->scripts = {{"x"}, {"y"}};
  const Json body = post("/v1/completions", {{"prompt", {"a", "b"}}, {"n", 2}})->json();
  ASSERT_EQ(body["choices"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(body["choices"][i]["index"], i);
    EXPECT_EQ(body["choices"][i]["text"], i % 2 == 0 ? "x" : "y");
  }
  const auto events =
      post("/v1/completions", {{"prompt", {{65}, {66, 67}}}, {"stream", true}, {"logprobs", 1}})->events();
  EXPECT_TRUE(events.back().is_null());
  EXPECT_EQ(events[0]["choices"][0]["logprobs"]["tokens"][0], "x");
}

TEST_F(Routes, TokenizeInBothShapes) {
  const Json vllm = post("/tokenize", {{"prompt", "aé"}, {"return_token_strs", true}})->json();
  EXPECT_EQ(vllm["tokens"], (Json{97, 0xc3, 0xa9}));
  EXPECT_EQ(vllm["count"], 3);
  EXPECT_EQ(vllm["max_model_len"], 4096);
  EXPECT_EQ(vllm["token_strs"][0], "a");
  const Json llama = post("/tokenize", {{"content", "aé"}, {"with_pieces", true}})->json();
  EXPECT_EQ(llama["tokens"][0]["piece"], "a");
  EXPECT_EQ(llama["tokens"][1]["piece"], (Json{0xc3}));
  EXPECT_EQ(post("/tokenize", {{"messages", kMessages}})->json()["tokens"][0], 256);
  const Json text = post("/detokenize", {{"tokens", {97, 0xc3, 0xa9}}})->json();
  EXPECT_EQ(text["prompt"], "aé");
  EXPECT_EQ(text["content"], "aé");
  EXPECT_EQ(post("/apply-template", {{"messages", kMessages}})->json()["prompt"], "<|bos|><|user|>hi<|assistant|>");
  EXPECT_EQ(post("/v1/chat/completions/render", {{"messages", kMessages}})->json()["prompt_token_ids"][0], 256);
}

TEST_F(Routes, ModelsAreListed) {
  const Json list = call("GET", "/v1/models")->json();
  EXPECT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(call("GET", "/v1/models/other")->json()["id"], "other");
  EXPECT_EQ(call("GET", "/v1/models/gone")->json()["error"]["code"], "model_not_found");
  EXPECT_EQ(call("GET", "/api/tags")->json()["models"].size(), 2u);
  EXPECT_EQ(call("GET", "/api/ps")->json()["models"].size(), 1u);
  EXPECT_TRUE(call("GET", "/version")->json().contains("version"));
  EXPECT_EQ(call("GET", "/v1/responses/resp_1")->status(), 404);
}

TEST_F(Routes, AnthropicMessage) {
  engine->scripts = {{"<think>\nplan</think>\nHi"}};
  const Json body = post("/v1/messages", {{"model", "tiny"}, {"max_tokens", 9000}, {"messages", kMessages}})->json();
  EXPECT_EQ(body["type"], "message");
  EXPECT_EQ(body["content"][0]["type"], "thinking");
  EXPECT_EQ(body["content"][0]["thinking"], "plan");
  EXPECT_EQ(body["content"][1]["text"], "Hi");
  EXPECT_EQ(body["stop_reason"], "end_turn");
  EXPECT_EQ(body["usage"]["cache_read_input_tokens"], 2);
  EXPECT_LT(engine->last.stop.max_tokens, 4096);  // cut to what the context has room for
}

TEST_F(Routes, AnthropicEventsInOrder) {
  engine->scripts = {{"<think>\nplan</think>\nHi<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1}}</tool_call>"}};
  const auto reply = post("/v1/messages", {{"max_tokens", 10},
                                           {"stream", true},
                                           {"messages", kMessages},
                                           {"tools", {{{"name", "f"}, {"input_schema", {{"type", "object"}}}}}}});
  const auto events = reply->events();
  EXPECT_EQ(types(events), (std::vector<std::string>{"message_start", "content_block_start", "content_block_delta",
                                                     "content_block_stop", "content_block_start", "content_block_delta",
                                                     "content_block_stop", "content_block_start", "content_block_delta",
                                                     "content_block_stop", "message_delta", "message_stop"}));
  EXPECT_GT(events[0]["message"]["usage"]["input_tokens"], 0);
  std::string arguments;
  for (const Json& event : events) {
    if (event["type"] == "content_block_delta" && event["delta"]["type"] == "input_json_delta") {
      EXPECT_EQ(event["index"], 2);
      arguments += event["delta"]["partial_json"].get<std::string>();
    }
    if (event["type"] == "message_delta") {
      EXPECT_EQ(event["delta"]["stop_reason"], "tool_use");
    }
  }
  EXPECT_EQ(Json::parse(arguments), (Json{{"a", 1}}));
  EXPECT_EQ(reply->body().find("event: message_start\ndata: "), 0u);
}

TEST_F(Routes, ClaudeCodesRequestIsUnderstood) {
  const Json request = Json::parse(R"({"model":"tiny","max_tokens":32000,"stream":false,
    "system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2; cch=abc"},
              {"type":"text","text":"You are useful.","cache_control":{"type":"ephemeral"}}],
    "tools":[{"name":"Read","description":"d","input_schema":{"$schema":"x","type":"object","properties":{}}}],
    "metadata":{"user_id":"u"},"thinking":{"type":"adaptive"},"context_management":{"edits":[]},
    "messages":[{"role":"user","content":[{"type":"text","text":"go","cache_control":{"type":"ephemeral"}}]},
      {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":""},{"type":"tool_use","id":"toolu_1","name":"Read","input":{"p":1}}]},
      {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"file"}]},{"type":"text","text":"more"}]}]})");
  const auto reply = post("/v1/messages", request);
  ASSERT_EQ(reply->status(), 200) << reply->body();
  const std::string prompt = prompt_text();
  EXPECT_EQ(prompt.find("billing"), std::string::npos);
  EXPECT_NE(prompt.find("<|system|>You are useful."), std::string::npos);
  EXPECT_NE(prompt.find("result: file<|user|>more<|assistant|>"), std::string::npos) << prompt;
  EXPECT_EQ(post("/v1/messages/count_tokens", request)->json()["input_tokens"], engine->last.prompt.size());
}

TEST_F(Routes, AnthropicErrorsHaveTheirEnvelope) {
  const Json missing = post("/v1/messages", {{"messages", kMessages}})->json();
  EXPECT_EQ(missing["type"], "error");
  EXPECT_EQ(missing["error"]["type"], "invalid_request_error");
  const auto unknown = post("/v1/messages", {{"model", "gone"}, {"max_tokens", 1}, {"messages", kMessages}});
  EXPECT_EQ(unknown->status(), 404);
  EXPECT_EQ(unknown->json()["error"]["type"], "not_found_error");
  engine->scripts = {{"a", FinishReason::error}};
  const auto events = post("/v1/messages", {{"max_tokens", 1}, {"stream", true}, {"messages", kMessages}})->events();
  EXPECT_EQ(events.back()["type"], "error");
}

TEST_F(Routes, ResponsesEventsInOrder) {
  engine->scripts = {{"<think>\nplan</think>\nHi"}};
  const auto events = post("/v1/responses", {{"input", "hi"}, {"stream", true}, {"instructions", "be kind"}})->events();
  EXPECT_EQ(types(events),
            (std::vector<std::string>{
                "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
                "response.reasoning_text.delta", "response.reasoning_text.done", "response.content_part.done",
                "response.output_item.done", "response.output_item.added", "response.content_part.added",
                "response.output_text.delta", "response.output_text.done", "response.content_part.done",
                "response.output_item.done", "response.completed"}));
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i]["sequence_number"], i);
    if (events[i].contains("item_id") || events[i].contains("item")) {
      EXPECT_TRUE(events[i].contains("output_index"));
    }
  }
  const Json& response = events.back()["response"];
  EXPECT_EQ(response["status"], "completed");
  ASSERT_EQ(response["output"].size(), 2u);
  EXPECT_EQ(response["output"][0]["content"][0]["text"], "plan");
  EXPECT_EQ(response["output"][1]["content"][0]["text"], "Hi");
  EXPECT_EQ(response["instructions"], "be kind");
  EXPECT_GT(response["usage"]["input_tokens"], 0);
}

TEST_F(Routes, CodexsRequestIsUnderstood) {
  const Json request = Json::parse(
      R"({"model":"tiny","instructions":"I","store":false,"stream":true,"include":["reasoning.encrypted_content"],
    "parallel_tool_calls":false,"tool_choice":"auto","prompt_cache_key":"k","reasoning":{"effort":"medium","summary":"auto"},
    "tools":[{"type":"function","name":"shell","description":"d","strict":false,"parameters":{"type":"object","properties":{}}},
             {"type":"web_search"},{"type":"custom","name":"apply_patch"}],
    "input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"D"}]},
      {"type":"message","role":"user","content":[{"type":"input_text","text":"U"}]},
      {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"R"}],"encrypted_content":null},
      {"type":"function_call","call_id":"call_1","name":"shell","arguments":"{\"c\":\"ls\"}"},
      {"type":"function_call_output","call_id":"call_1","output":"out"}]})");
  engine->scripts = {{"ok</think>\n<tool_call>{\"name\": \"shell\", \"arguments\": {\"c\": \"ls\"}}</tool_call>"}};
  const auto reply = post("/v1/responses", request);
  ASSERT_EQ(reply->status(), 200) << reply->body();
  EXPECT_NE(prompt_text().find("result: out"), std::string::npos) << prompt_text();
  const Json done = reply->events().back()["response"];
  ASSERT_EQ(done["output"].size(), 2u);
  EXPECT_EQ(done["output"][1]["type"], "function_call");
  EXPECT_EQ(Json::parse(done["output"][1]["arguments"].get<std::string>()), (Json{{"c", "ls"}}));
  engine->scripts = {{"cut", FinishReason::length}};
  const Json cut = post("/v1/responses", {{"input", "hi"}, {"max_output_tokens", 3}})->json();
  EXPECT_EQ(cut["status"], "incomplete");
  EXPECT_EQ(cut["incomplete_details"]["reason"], "max_output_tokens");
}

TEST_F(Routes, OllamaLines) {
  engine->scripts = {{"<think>\np</think>\nHi"}};
  const auto reply = post("/api/chat", {{"model", "tiny:latest"}, {"messages", kMessages}});
  EXPECT_EQ(reply->type(), "application/x-ndjson");
  std::string content, thinking;
  const auto lines = reply->lines();
  for (const Json& line : lines) {
    content += line["message"]["content"].get<std::string>();
    if (line["message"].contains("thinking")) thinking += line["message"]["thinking"].get<std::string>();
    EXPECT_EQ(line["done"], &line == &lines.back());
  }
  EXPECT_EQ(content, "Hi");
  EXPECT_EQ(thinking, "p");
  EXPECT_EQ(lines.back()["done_reason"], "stop");
  EXPECT_GT(lines.back()["eval_count"], 0);
  const Json whole =
      post("/api/generate", {{"prompt", "x"}, {"stream", false}, {"options", {{"num_predict", 5}, {"temperature", 0}}}})
          ->json();
  EXPECT_EQ(whole["response"], "Hi");
  EXPECT_EQ(engine->last.stop.max_tokens, 5);
  EXPECT_EQ(post("/api/generate", {{"prompt", "raw"}, {"raw", true}, {"stream", false}})->status(), 200);
  EXPECT_EQ(prompt_text(), "raw");
  EXPECT_EQ(post("/api/chat", {{"messages", Json::array()}})->json()["done_reason"], "load");
  EXPECT_TRUE(post("/api/chat", {{"model", "gone"}, {"messages", kMessages}})->json()["error"].is_string());
  EXPECT_EQ(post("/api/chat", {{"messages", kMessages}, {"options", {{"num_ctx", 1000000}}}})->status(), 400);
  EXPECT_EQ(post("/api/embed", {{"input", "x"}})->status(), 501);
  EXPECT_EQ(post("/api/show", {{"model", "tiny"}})->json()["capabilities"][0], "completion");
}

TEST_F(Routes, EveryRouteIsDescribed) {
  for (const Route& route : routes) {
    EXPECT_FALSE(route.summary.empty()) << route.path;
    EXPECT_FALSE(route.rule->strangers) << route.path << " answers without a key";
    if (route.method == "POST" && route.path.find('{') == std::string::npos) {
      EXPECT_TRUE(route.request_schema.is_object()) << route.path;
    }
  }
}

// The client's name is right and the server's files are not: no 404, and nothing of where the files lie.
TEST_F(Routes, AConfiguredModelThatCannotBeLoadedIsNotUnknown) {
  const Json body = {{"model", "other"}, {"prompt", "x"}};
  EXPECT_EQ(post("/v1/completions", body)->status(), 500);
  host.other_is_loadable = true;
  host.models.back().path = "/srv/secret/other.gguf";
  for (const ErrorCode code : {ErrorCode::not_found, ErrorCode::corrupt_data, ErrorCode::invalid_argument}) {
    const auto reply = post("/v1/completions", body);
    host.end_load(Error{code, "model 'other': /srv/secret/other.gguf: expected a file, found none", {}});
    EXPECT_EQ(reply->status(), 500) << reply->body();
    EXPECT_EQ(reply->json()["error"]["type"], "server_error");
    EXPECT_EQ(reply->json()["error"]["message"], "model 'other': other.gguf: expected a file, found none");
    EXPECT_TRUE(reply->json()["error"]["code"].is_null());
  }
  const auto reply = post("/v1/completions", body);
  host.end_load(Error{ErrorCode::overloaded, "model 'other': no memory", {}});
  EXPECT_EQ(reply->status(), 503);
  EXPECT_EQ(post("/v1/completions", {{"model", "nobody"}, {"prompt", "x"}})->status(), 404);
}

}  // namespace
}  // namespace redoubt
