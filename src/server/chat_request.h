// A chat, whatever protocol it came by: OpenAI's body is parsed here; Anthropic, Responses and Ollama translate theirs
// into the same form.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/generation_fields.h"
#include "server/json_fields.h"
#include "text/chat_template.h"

namespace redoubt {

enum class ToolChoice : uint8_t { automatic, none, required };

struct ChatRequest {
  std::string model;              // "" for the default
  Json messages = Json::array();  // {"role","content",…} with content a string or null, as templates read them
  Json tools = Json::array();     // {"type":"function","function":{"name","description","parameters"}}
  ToolChoice tool_choice = ToolChoice::automatic;
  std::string tool_name;                          // with required: this one and no other
  std::string tool_choice_param = "tool_choice";  // field names of the protocol, for errors
  std::string messages_param = "messages";
  std::string tools_param = "tools";
  std::vector<std::string> schema_fields;  // where each tool's schema stands, where that is not OpenAI's chat's place
  std::string schema_field(size_t tool) const;
  std::set<std::string> custom_tools;  // names of those that take a text (custom_tools.h)
  bool parallel_tool_calls = true;

  std::optional<std::string> reasoning_effort;  // none, minimal, low, medium, high, …
  std::optional<int64_t> thinking_budget;       // tokens; -1: no limit
  Json template_kwargs = Json::object();
  std::shared_ptr<const ChatTemplate> chat_template;  // the request's own; null: the model's
  bool add_generation_prompt = true;
  bool continue_final_message = false;
  bool separate_reasoning = true;  // false: the thinking stays in the content, tags and all

  GenerationFields generation;
  bool cap_max_tokens = false;  // a limit beyond the context is cut to it (Anthropic, Ollama), else refused
  int64_t context_limit = 0;    // Ollama's num_ctx; 0: the engine's
  bool logprobs = false;
  int top_logprobs = 0;
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
};

// Errors: invalid_argument with `param`.
Result<ChatRequest> parse_chat_request(const Json& body);

// The messages alone (render and tokenize take them too), normalised: parts joined, roles and calls checked.
Result<Json> parse_chat_messages(const Json& messages, const std::string& param);
Result<Json> parse_chat_tools(const Json& tools, const std::string& param);
// The functions that stand for a request's tools, which have other fields: out.schema_fields tells where their schemas
// stand, and errors name those.
Status take_functions(ChatRequest& out, const Json& functions);
Status parse_tool_choice(ChatRequest& out, const JsonFields& fields);  // after the tools
// A string, or an array of text parts. Images, audio and files are refused by name.
Result<std::string> join_text_parts(const Json& content, const std::string& param);
// A wish for longer or shorter answers, which no model here was taught: it has no effect (docs/protocols.md).
Status check_verbosity(const JsonFields& fields);
Status parse_reasoning_fields(ChatRequest& out, const JsonFields& fields);
// `out.continue_final_message` says what the protocol does where the request does not say it.
Status parse_template_fields(ChatRequest& out, const JsonFields& fields);

// Tokens of thinking that an effort allows: nullopt for no limit. Errors: unknown effort.
Result<std::optional<int64_t>> effort_budget(const std::string& effort, const std::string& param);

}  // namespace redoubt
