// What a request may cost the server before the engine has seen it: templates and texts that are made to be slow.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

TEST_F(Routes, ATemplateFullOfSpacesIsReadToItsEnd) {
  const std::string spaces(200'000, ' ');
  const auto reply = post(kChat, ask({{"chat_template", "{# args" + spaces + "#}x"}}));
  EXPECT_EQ(reply->status(), 200) << reply->body();
  EXPECT_EQ(prompt_text(), "x");
}

// The template writes the message's text itself, a few hundred thousand times, after the message.
TEST_F(Routes, AContinuedMessageIsFoundAmongManyMarks) {
  const std::string source =
      "{{ messages[-1].content }}{% for i in range(3) %}{% for j in range(100000) %}a{{ messages[0].content }}"
      "{% endfor %}{% endfor %}";
  const Json messages = {{{"role", "user"}, {"content", "b"}}, {{"role", "assistant"}, {"content", "a"}}};
  const auto reply = post(kChat, {{"messages", messages}, {"chat_template", source}, {"continue_final_message", true}});
  EXPECT_EQ(reply->status(), 200) << reply->body();
  EXPECT_EQ(prompt_text(), "a");
}

Json spaces_to_answer(const std::string& path, const std::string& text) {
  if (path == "/v1/completions" || path == "/api/generate") return {{"prompt", text}, {"max_tokens", 1}, {"raw", true}};
  if (path == "/v1/responses") return {{"input", text}};
  return {{"messages", {{{"role", "user"}, {"content", text}}}}, {"max_tokens", 1}};
}

// Refused by its bytes, or once there are several contexts' worth of ids, and said to be "at least" as long as that.
TEST_F(Routes, APromptFarBeyondTheContextIsRefusedBeforeItIsCutIntoTokens) {
  for (const size_t bytes : {size_t{30'000}, size_t{60'000}, size_t{3'000'000}}) {
    const std::string text(bytes, ' ');
    for (const char* path : {"/v1/completions", kChat, "/v1/responses", "/v1/messages", "/api/chat", "/api/generate"}) {
      SCOPED_TRACE(path);
      const auto reply = post(path, spaces_to_answer(path, text));
      EXPECT_EQ(reply->status(), 400) << reply->body();
      const bool is_anthropics = std::string_view(path) == "/v1/messages";
      EXPECT_NE(reply->body().find(is_anthropics ? "prompt is too long: at least " : "a prompt of at least "),
                std::string::npos)
          << reply->body();
      EXPECT_NE(reply->body().find(is_anthropics ? " tokens > 4096 maximum"
                                                 : "this model's maximum context length is 4096 tokens"),
                std::string::npos)
          << reply->body();
      EXPECT_TRUE(engine->generations.empty());
      if (std::string_view(path).starts_with("/api") || std::string_view(path) == "/v1/messages") continue;
      const Json error = reply->json()["error"];
      EXPECT_EQ(error["code"], "context_length_exceeded");
      EXPECT_GE(error["n_prompt_tokens"], bytes == 60'000 ? 60'000 / 13 : 4 * 4096);  // the longest token has 13 bytes
      EXPECT_LE(error["n_prompt_tokens"], bytes);
      EXPECT_EQ(error["n_ctx"], 4096);
    }
  }
  // Somewhat too long: counted to the last token.
  const Json error = post("/v1/completions", {{"prompt", std::string(10'000, ' ')}})->json()["error"];
  EXPECT_EQ(error["n_prompt_tokens"], 10'000);
  EXPECT_EQ(error["code"], "context_length_exceeded");
}

TEST_F(Routes, ACountEndsSomewhere) {
  const std::string longer((1 << 20) + 1, 'x');
  const Json messages = {{{"role", "user"}, {"content", longer}}};
  for (const auto& [path, body] :
       std::vector<std::pair<std::string, Json>>{{"/tokenize", {{"prompt", longer}}},
                                                 {"/tokenize", {{"content", longer}}},
                                                 {"/tokenize", {{"messages", messages}}},
                                                 {"/v1/messages/count_tokens", {{"messages", messages}}}}) {
    const auto reply = post(path, body);
    EXPECT_EQ(reply->status(), 400) << path;
    EXPECT_NE(reply->body().find("at most 1048576 tokens"), std::string::npos) << reply->body();
  }
  EXPECT_EQ(post("/tokenize", {{"prompt", std::string(100'000, 'x')}})->json()["count"], 100'000);
}

// A few bytes of template that write many: 16 MiB is what a template may write for a context as small as this.
TEST_F(Routes, ATemplateWritesNoMoreThanAContextHolds) {
  for (const char* source : {"{{ 'a'|center(30000000) }}", "{{ 'a' * 30000000 }}",
                             "{% for i in range(3000) %}{{ 'a'|center(10000) }}{% endfor %}"}) {
    const auto reply = post(kChat, ask({{"chat_template", source}}));
    EXPECT_EQ(reply->status(), 400) << source;
    const Json error = reply->json()["error"];
    EXPECT_EQ(error["code"], "context_length_exceeded") << source << reply->body();
    EXPECT_EQ(error["n_ctx"], 4096);
  }
}

}  // namespace
}  // namespace redoubt
