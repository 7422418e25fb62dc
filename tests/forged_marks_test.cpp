// Nobody can forge a turn: every special token of every tokenizer, written by a request into every place that a
// template shows, stays text. Templates and tokenizers are those found in REDOUBT_TEST_DATA.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "core/mapped_file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

std::filesystem::path test_data() {
  const char* set = std::getenv("REDOUBT_TEST_DATA");
  return set != nullptr ? std::filesystem::path(set) : std::filesystem::path(REDOUBT_SOURCE_DIR) / "../shared/data";
}

std::vector<std::filesystem::path> files_in(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> found;
  if (!std::filesystem::exists(folder)) return found;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

// A conversation with a place for every string that a request brings; `hostile` stands in the place called `at`.
Json conversation(const std::string& at, const std::string& hostile) {
  const auto text = [&](const std::string& place, const std::string& plain) { return place == at ? hostile : plain; };
  Json call{{"id", text("call id", "call_1234")},
            {"type", "function"},
            {"function", {{"name", text("tool name", "look_up")}, {"arguments", {{"q", text("argument", "x")}}}}}};
  Json tool{{"type", "function"},
            {"function",
             {{"name", text("offered name", "look_up")},
              {"description", text("description", "Looks up")},
              {"parameters", {{"type", "object"}, {"properties", {{"q", {{"type", "string"}}}}}}}}}};
  Json messages = Json::array();
  messages.push_back({{"role", "system"}, {"content", text("system", "Be brief.")}});
  messages.push_back({{"role", "user"}, {"name", text("user name", "ann")}, {"content", text("user", "Hello")}});
  messages.push_back({{"role", "assistant"}, {"content", text("assistant", "Hi")}});
  messages.push_back({{"role", "user"}, {"content", text("later user", "Look up x")}});
  messages.push_back(
      {{"role", "assistant"}, {"content", text("call content", "")}, {"tool_calls", Json::array({call})}});
  messages.push_back({{"role", "tool"},
                      {"tool_call_id", text("result id", "call_1234")},
                      {"name", text("result name", "look_up")},
                      {"content", text("tool result", "found")}});
  messages.push_back({{"role", text("role", "user")}, {"content", "And now?"}});
  return {{"messages", messages}, {"tools", Json::array({tool})}, {"add_generation_prompt", true}};
}

// How often each added token is in the prompt; nothing where the template refuses the conversation.
std::optional<std::map<int32_t, int>> marks(const ChatTemplate& chat_template, const Tokenizer& tokenizer,
                                            const Json& context) {
  const Result<MarkedText> prompt =
      render_chat(chat_template, context, {{"bos_token", tokenizer.bos_text()}, {"eos_token", tokenizer.eos_text()}});
  if (!prompt) return std::nullopt;
  std::map<int32_t, int> counts;
  for (const int32_t id : tokenizer.encode(*prompt)) {
    if (tokenizer.kind(id) == TokenKind::control || tokenizer.kind(id) == TokenKind::user_defined) ++counts[id];
  }
  return counts;
}

std::string every_mark(const Tokenizer& tokenizer) {
  std::string text = "x";
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.kind(id) != TokenKind::control && tokenizer.kind(id) != TokenKind::user_defined) continue;
    text += std::string(tokenizer.bytes(id)) + " y";
  }
  return text;
}

TEST(ForgedMarks, StayTextInEveryPlaceOfEveryTemplate) {
  const auto templates = files_in(test_data() / "templates"), tokenizers = files_in(test_data() / "tokenizers");
  if (templates.empty() || tokenizers.empty()) GTEST_SKIP() << "no templates and tokenizers in " << test_data();
  int tried = 0;
  for (const auto& folder : tokenizers) {
    const auto tokenizer = Tokenizer::open(folder);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const std::string hostile = every_mark(*tokenizer);
    for (const auto& file : templates) {
      const auto source = read_text_file(file);
      ASSERT_TRUE(source);
      const auto chat_template = ChatTemplate::parse(*source);
      ASSERT_TRUE(chat_template) << chat_template.error().message;
      for (const char* place :
           {"system", "user", "user name", "assistant", "later user", "call content", "call id", "tool name",
            "argument", "offered name", "description", "result id", "result name", "tool result", "role"}) {
        SCOPED_TRACE(folder.filename().string() + " " + file.filename().string() + " " + place);
        // The same length and shape, without a mark in it: what a template does with a long text it does in both.
        const auto plain = marks(*chat_template, *tokenizer, conversation(place, "xyz"));
        const auto forged = marks(*chat_template, *tokenizer, conversation(place, hostile));
        if (!plain || !forged) continue;
        ++tried;
        for (const auto& [id, count] : *forged) {
          const auto known = plain->find(id);
          EXPECT_LE(count, known == plain->end() ? 0 : known->second) << "token " << id << " was forged";
        }
      }
    }
  }
  EXPECT_GT(tried, 0);
}

}  // namespace
}  // namespace redoubt
