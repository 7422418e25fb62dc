#include "server/responses_request.h"

#include <fmt/format.h>

#include "server/custom_tools.h"
#include "server/responses_tools.h"

namespace redoubt {
namespace {

Json& open_assistant(Json& messages) {
  if (messages.empty() || messages.back()["role"] != "assistant") {
    messages.push_back({{"role", "assistant"}, {"content", nullptr}});
  }
  return messages.back();
}

// The thinking of an item: its content, or the summary where it has none.
Result<std::string> reasoning_text(const JsonFields& item) {
  std::string text;
  for (const char* key : {"content", "summary"}) {
    REDOUBT_TRY(const Json* parts, item.array(key));
    for (size_t i = 0; parts != nullptr && i < parts->size(); ++i) {
      if (!(*parts)[i].is_object()) return wrong_type(item.param(key), "an array of objects", (*parts)[i]);
      const JsonFields part((*parts)[i], item.param(key));
      REDOUBT_TRY(const auto piece, part.string("text"));
      text += piece.value_or("");
    }
    if (!text.empty()) break;
  }
  return text;
}

Status add_call(Json& messages, const JsonFields& item, bool is_custom) {
  REDOUBT_TRY(const auto name, item.string("name"));
  REDOUBT_TRY(const auto call_id, item.string("call_id"));
  REDOUBT_TRY(auto written, item.string(is_custom ? "input" : "arguments"));
  if (!name) return item.refuse("name", "expected a tool's name, found nothing");
  Json arguments = is_custom ? custom_arguments(std::move(written).value_or("")) : Json(written.value_or("{}"));
  Json& message = open_assistant(messages);
  message["tool_calls"].push_back({{"id", call_id.value_or("")},
                                   {"type", "function"},
                                   {"function", {{"name", *name}, {"arguments", std::move(arguments)}}}});
  return ok();
}

Status add_output(Json& messages, const JsonFields& item) {
  REDOUBT_TRY(const auto call_id, item.string("call_id"));
  const Json* output = item.find("output");
  if (output == nullptr) return item.refuse("output", "expected a string or parts, found nothing");
  REDOUBT_TRY(std::string text, join_text_parts(*output, item.param("output")));
  messages.push_back({{"role", "tool"}, {"tool_call_id", call_id.value_or("")}, {"content", std::move(text)}});
  return ok();
}

Status add_message(Json& messages, const JsonFields& item) {
  REDOUBT_TRY(const auto role, item.string("role"));
  const Json* content = item.find("content");
  if (!role) return item.refuse("role", "expected a role, found nothing");
  if (role != "system" && role != "developer" && role != "user" && role != "assistant" && role != "tool")
    return item.refuse("role", "expected system, developer, user or assistant");
  if (content == nullptr) return item.refuse("content", "expected a string or parts, found nothing");
  REDOUBT_TRY(std::string text, join_text_parts(*content, item.param("content")));
  if (role == "assistant" && !messages.empty() && messages.back()["role"] == "assistant" &&
      messages.back()["content"].is_null() && !messages.back().contains("tool_calls")) {
    messages.back()["content"] = std::move(text);  // goes with the thinking before it
    return ok();
  }
  messages.push_back({{"role", *role}, {"content", std::move(text)}});
  return ok();
}

Status add_item(Json& messages, const Json& value, const std::string& param) {
  if (!value.is_object()) return wrong_type(param, "an object", value);
  const JsonFields item(value, param);
  REDOUBT_TRY(const auto given, item.string("type"));
  const std::string type = given.value_or("message");
  if (type == "message") return add_message(messages, item);
  if (type == "function_call" || type == "custom_tool_call")
    return add_call(messages, item, type == "custom_tool_call");
  if (type == "function_call_output" || type == "custom_tool_call_output") return add_output(messages, item);
  if (type == "reasoning") {
    REDOUBT_TRY(std::string text, reasoning_text(item));
    if (!text.empty()) {
      messages.push_back({{"role", "assistant"}, {"content", nullptr}, {"reasoning_content", std::move(text)}});
    }
    return ok();
  }
  return item.refuse("type", "expected message, reasoning, function_call, custom_tool_call or the output of one");
}

Status parse_input(ChatRequest& chat, const JsonFields& fields) {
  const Json* input = fields.find("input");
  if (input == nullptr) return fields.refuse("input", "expected a string or items, found nothing");
  Json messages = Json::array();
  REDOUBT_TRY(const auto instructions, fields.string("instructions"));
  if (instructions && !instructions->empty()) messages.push_back({{"role", "system"}, {"content", *instructions}});
  if (input->is_string()) {
    messages.push_back({{"role", "user"}, {"content", *input}});
  } else if (!input->is_array()) {
    return wrong_type("input", "a string or an array of items", *input);
  } else {
    for (size_t i = 0; i < input->size(); ++i) {
      REDOUBT_CHECK(add_item(messages, (*input)[i], fmt::format("input[{}]", i)));
    }
  }
  if (messages.empty()) return fields.refuse("input", "expected at least one item, found none");
  REDOUBT_TRY(chat.messages, parse_chat_messages(messages, "input"));
  return ok();
}

Status parse_text_format(ChatRequest& chat, const JsonFields& fields) {
  REDOUBT_TRY(const Json* text, fields.object("text"));
  if (text == nullptr) return ok();
  const JsonFields inner(*text, "text");
  REDOUBT_CHECK(check_verbosity(inner));
  REDOUBT_TRY(const Json* format, inner.object("format"));
  if (format == nullptr) return ok();
  const JsonFields shape(*format, "text.format");
  REDOUBT_TRY(const auto type, shape.string("type"));
  if (type == "text") return ok();
  if (type == "json_object") {
    return set_grammar(chat.generation, {.kind = GrammarSpec::Kind::json_object, .param = "text.format"});
  }
  if (type != "json_schema") return shape.refuse("type", "expected text, json_object or json_schema");
  REDOUBT_TRY(const Json* schema, shape.object("schema"));
  if (schema == nullptr) return shape.refuse("schema", "expected a JSON schema, found nothing");
  return set_grammar(chat.generation,
                     {.kind = GrammarSpec::Kind::json_schema, .schema = *schema, .param = "text.format.schema"});
}

Status refuse_state(const JsonFields& fields) {
  REDOUBT_TRY(const auto previous, fields.string("previous_response_id"));
  if (previous) {
    return Error{ErrorCode::not_found,
                 "previous_response_id: no response is kept; send the whole conversation in input",
                 "previous_response_id"};
  }
  if (fields.find("conversation") != nullptr) {
    return Error{ErrorCode::not_found, "conversation: no conversation is kept; send all of it in input",
                 "conversation"};
  }
  REDOUBT_CHECK(fields.refuse_unless_empty("background", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("max_tool_calls", "is not supported; use parallel_tool_calls"));
  REDOUBT_CHECK(fields.refuse_unless_empty("prompt", "stored prompts are not supported"));
  REDOUBT_TRY(const auto truncation, fields.string("truncation"));
  if (truncation && *truncation != "disabled") return fields.refuse("truncation", "the input is never cut");
  return ok();
}

Status parse_include(ChatRequest& chat, const JsonFields& fields) {
  REDOUBT_TRY(const Json* include, fields.array("include"));
  for (size_t i = 0; include != nullptr && i < include->size(); ++i) {
    if (!(*include)[i].is_string()) return wrong_type("include", "an array of strings", (*include)[i]);
    if ((*include)[i] == "message.output_text.logprobs") chat.logprobs = true;
  }
  REDOUBT_TRY(const auto top, fields.integer("top_logprobs", 0, 20));
  chat.top_logprobs = static_cast<int>(top.value_or(0));
  if (chat.top_logprobs > 0) chat.logprobs = true;
  return ok();
}

std::string echo_of(const JsonFields& fields, const ChatRequest& chat, Json tools) {
  const auto value_or = [&](const char* key, Json fallback) {
    const Json* value = fields.find(key);
    return value != nullptr ? *value : std::move(fallback);
  };
  const Json echo = {{"instructions", value_or("instructions", nullptr)},
                     {"max_output_tokens", value_or("max_output_tokens", nullptr)},
                     {"max_tool_calls", nullptr},
                     {"parallel_tool_calls", chat.parallel_tool_calls},
                     {"previous_response_id", nullptr},
                     {"reasoning", value_or("reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
                     {"service_tier", "default"},
                     {"store", false},
                     {"temperature", value_or("temperature", nullptr)},
                     {"text", value_or("text", {{"format", {{"type", "text"}}}})},
                     {"tool_choice", value_or("tool_choice", "auto")},
                     {"tools", std::move(tools)},
                     {"top_logprobs", chat.top_logprobs},
                     {"top_p", value_or("top_p", nullptr)},
                     {"truncation", "disabled"},
                     {"user", value_or("user", nullptr)},
                     {"metadata", value_or("metadata", Json::object())}};
  const std::string text = dump_json(echo);
  return text.substr(1, text.size() - 2);
}

}  // namespace

Result<ResponsesRequest> parse_responses_request(const Json& body) {
  const JsonFields fields(body);
  ResponsesRequest out;
  ChatRequest& chat = out.chat;
  chat.messages_param = "input";
  REDOUBT_TRY(const auto model, fields.string("model"));
  chat.model = model.value_or("");
  REDOUBT_CHECK(refuse_state(fields));
  REDOUBT_CHECK(parse_input(chat, fields));
  REDOUBT_TRY(chat.generation, parse_generation_fields(fields));
  REDOUBT_CHECK(refuse_structures_of_others(fields, {"format", "output_format", "output_config"}));
  if (chat.generation.n != 1) return fields.refuse("n", "expected 1");
  REDOUBT_TRY(chat.generation.max_tokens, fields.integer("max_output_tokens", 1));
  chat.generation.max_tokens_field = "max_output_tokens";
  REDOUBT_TRY(ResponsesTools tools, parse_responses_tools(chat, fields));
  out.tools_left_out = std::move(tools.left_out);
  REDOUBT_CHECK(parse_text_format(chat, fields));
  REDOUBT_CHECK(parse_include(chat, fields));
  REDOUBT_TRY(const auto parallel, fields.boolean("parallel_tool_calls"));
  chat.parallel_tool_calls = parallel.value_or(true);
  REDOUBT_TRY(const Json* reasoning, fields.object("reasoning"));
  if (reasoning != nullptr) {
    const JsonFields inner(*reasoning, "reasoning");
    REDOUBT_TRY(chat.reasoning_effort, inner.string("effort"));
    if (chat.reasoning_effort) REDOUBT_CHECK(effort_budget(*chat.reasoning_effort, "reasoning.effort"));
  }
  REDOUBT_CHECK(parse_reasoning_fields(chat, fields));
  REDOUBT_CHECK(parse_template_fields(chat, fields));
  REDOUBT_TRY(const auto stream, fields.boolean("stream"));
  chat.stream = stream.value_or(false);
  out.echo = echo_of(fields, chat, std::move(tools.echo));
  return out;
}

}  // namespace redoubt
