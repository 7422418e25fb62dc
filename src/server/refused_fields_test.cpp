// A field that is understood is obeyed or refused by name, never answered 200 as if it were obeyed; the values that say
// nothing pass, since clients send them.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
const Json kMessages = Json::parse(R"([{"role":"user","content":"hi"}])");
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

TEST_F(Routes, FieldsThatAreNotObeyedAreRefusedByName) {
  struct Refusal {
    std::string path;
    Json body;
    std::string param;
  };
  const std::vector<Refusal> refusals = {
      {kChat, ask({{"verbosity", "low"}}), "verbosity"},
      {kChat, ask({{"verbosity", 1}}), "verbosity"},
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
      {kChat, ask({{"user", 5}}), "user"},
      {kChat, ask({{"store", "yes"}}), "store"},
      {kChat, ask({{"service_tier", 1}}), "service_tier"},
      {"/v1/completions", {{"prompt", "x"}, {"user", 5}}, "user"},
      {"/v1/responses", {{"input", "x"}, {"max_tool_calls", 3}}, "max_tool_calls"},
      {"/v1/responses", {{"input", "x"}, {"metadata", 3}}, "metadata"},
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
    "lora_request":null,"metadata":{"a":"b"},"user":"u","store":false,"service_tier":"auto",
    "structured_outputs":{"regex":"a","disable_any_whitespace":false,"whitespace_pattern":null,"structural_tag":null}})");
  const auto reply = post(kChat, ask(neutral));
  EXPECT_EQ(reply->status(), 200) << reply->body();
  EXPECT_EQ(
      post("/v1/responses", {{"input", "x"}, {"max_tool_calls", nullptr}, {"text", {{"verbosity", "low"}}}})->status(),
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
  EXPECT_EQ(error["param"], "response_format.json_schema.schema.uniqueItems");
  error = refused({{"guided_regex", "a(?=b)"}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "guided_regex");
  error = refused({{"guided_regex", "("}});  // wrong, whoever reads it
  EXPECT_TRUE(error["code"].is_null());
  error = refused({{"tools",
                    {{{"type", "function"},
                      {"function",
                       {{"name", "f"},
                        {"strict", true},
                        {"parameters", {{"type", "object"}, {"propertyNames", {{"maxLength", 3}}}}}}}}}}});
  EXPECT_EQ(error["code"], "unsupported");
  EXPECT_EQ(error["param"], "tools[0].propertyNames");
}

}  // namespace
}  // namespace redoubt
