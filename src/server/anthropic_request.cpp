#include "server/anthropic_request.h"

#include <fmt/format.h>

#include "core/trimmed.h"

namespace redoubt {
namespace {

constexpr std::string_view kBillingHeader = "x-anthropic-billing-header";

Result<std::string> block_type(const JsonFields& block) {
  REDOUBT_TRY(auto type, block.string("type"));
  if (!type) return block.refuse("type", "expected a block's type, found nothing");
  return std::move(*type);
}

Result<std::string> parse_system(const JsonFields& fields) {
  const Json* system = fields.find("system");
  if (system == nullptr) return std::string();
  if (system->is_string()) return system->get<std::string>();
  if (!system->is_array()) return wrong_type("system", "a string or an array of blocks", *system);
  std::string text;
  for (size_t i = 0; i < system->size(); ++i) {
    REDOUBT_TRY(const std::string block, join_text_parts(Json::array({(*system)[i]}), fmt::format("system[{}]", i)));
    if (block.starts_with(kBillingHeader)) continue;
    if (!text.empty() && !block.empty()) text += "\n\n";
    text += block;
  }
  return text;
}

// The text of a tool's result: a string, or blocks of text (also blocks that hold lists again).
Result<std::string> result_text(const JsonFields& block) {
  const Json* content = block.find("content");
  if (content == nullptr) return std::string();
  return join_text_parts(*content, block.param("content"));
}

// A user's blocks: results of tools become messages of their own, ahead of the text.
Status add_user_blocks(Json& messages, const Json& blocks, const std::string& param) {
  std::string text;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", param, i);
    if (!blocks[i].is_object()) return wrong_type(where, "an object", blocks[i]);
    const JsonFields block(blocks[i], where);
    REDOUBT_TRY(const std::string type, block_type(block));
    if (type == "tool_result") {
      REDOUBT_TRY(const auto id, block.string("tool_use_id"));
      REDOUBT_TRY(std::string result, result_text(block));
      messages.push_back({{"role", "tool"}, {"tool_call_id", id.value_or("")}, {"content", std::move(result)}});
    } else if (type == "text") {
      REDOUBT_TRY(const auto piece, block.string("text"));
      if (!piece) return block.refuse("text", "expected a string, found nothing");
      if (!text.empty()) text += "\n\n";
      text += *piece;
    } else {
      return block.refuse_word("type", "text or tool_result", type);
    }
  }
  if (!text.empty()) messages.push_back({{"role", "user"}, {"content", std::move(text)}});
  return ok();
}

Result<Json> assistant_message(const Json& blocks, const std::string& param) {
  std::string text, thinking;
  Json calls = Json::array();
  for (size_t i = 0; i < blocks.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", param, i);
    if (!blocks[i].is_object()) return wrong_type(where, "an object", blocks[i]);
    const JsonFields block(blocks[i], where);
    REDOUBT_TRY(const std::string type, block_type(block));
    if (type == "text") {
      REDOUBT_TRY(const auto piece, block.string("text"));
      text += piece.value_or("");
    } else if (type == "thinking") {
      REDOUBT_TRY(const auto piece, block.string("thinking"));
      thinking += piece.value_or("");
    } else if (type == "tool_use") {
      REDOUBT_TRY(const auto id, block.string("id"));
      REDOUBT_TRY(const auto name, block.string("name"));
      if (!name) return block.refuse("name", "expected a tool's name, found nothing");
      REDOUBT_TRY(const Json* input, block.object("input"));
      calls.push_back({{"id", id.value_or("")},
                       {"type", "function"},
                       {"function", {{"name", *name}, {"arguments", input != nullptr ? *input : Json::object()}}}});
    } else if (type != "redacted_thinking") {
      return block.refuse_word("type", "text, thinking or tool_use", type);
    }
  }
  Json message = {{"role", "assistant"}};
  if (text.empty() && !calls.empty())
    message["content"] = nullptr;
  else
    message["content"] = std::move(text);
  if (!thinking.empty()) message["reasoning_content"] = std::move(thinking);
  if (!calls.empty()) message["tool_calls"] = std::move(calls);
  return message;
}

Status parse_messages(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* messages, fields.array("messages"));
  if (messages == nullptr || messages->empty()) return fields.refuse("messages", "expected at least one message");
  for (size_t i = 0; i < messages->size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    if (!(*messages)[i].is_object()) return wrong_type(where, "an object", (*messages)[i]);
    const JsonFields message((*messages)[i], where);
    REDOUBT_TRY(const auto role, message.string("role"));
    if (role != "user" && role != "assistant" && role != "system") {
      return message.refuse("role", "expected user or assistant");
    }
    const Json* content = message.find("content");
    if (content == nullptr) return message.refuse("content", "expected a string or blocks, found nothing");
    if (content->is_string()) {
      out.messages.push_back({{"role", *role}, {"content", *content}});
    } else if (!content->is_array()) {
      return wrong_type(message.param("content"), "a string or an array of blocks", *content);
    } else if (role == "assistant") {
      REDOUBT_TRY(Json parsed, assistant_message(*content, message.param("content")));
      out.messages.push_back(std::move(parsed));
    } else if (role == "system") {
      REDOUBT_TRY(std::string text, join_text_parts(*content, message.param("content")));
      out.messages.push_back({{"role", "system"}, {"content", std::move(text)}});
    } else {
      REDOUBT_CHECK(add_user_blocks(out.messages, *content, message.param("content")));
    }
  }
  if (out.messages.empty()) return fields.refuse("messages", "expected a message that is not empty");
  return ok();
}

// A last message of the assistant is the beginning of the answer (a prefill), unless the request says otherwise. An
// empty one begins nothing.
void take_prefill(ChatRequest& out, const JsonFields& fields) {
  const Json& last = out.messages.back();
  if (fields.find("messages")->back()["role"] != "assistant" || last.contains("tool_calls")) return;
  const bool is_empty = last["content"] == "" && !last.contains("reasoning_content");
  if (is_empty && out.messages.size() > 1 && fields.find("continue_final_message") == nullptr)
    out.messages.erase(out.messages.size() - 1);
  else
    out.continue_final_message = true;
}

// The answer goes on within a text: it no longer thinks before it, and what it adds is no whole structure.
Status check_prefill(const ChatRequest& out, const JsonFields& fields) {
  if (!out.continue_final_message) return ok();
  const Json& last = out.messages.back();
  const std::string where = fmt::format("messages[{}].content", fields.find("messages")->size() - 1);
  const std::string text = last["content"].is_string() ? last["content"].get<std::string>() : "";
  if (text.empty()) return invalid(where + ": expected a text to go on from, found none", where);
  if (kBlanks.find(text.back()) != std::string_view::npos)
    return invalid(where + ": a last message of the assistant cannot end with white space", where);
  constexpr std::string_view kBeside = "is not possible where the last message is the assistant's, to go on from";
  REDOUBT_TRY(const Json* thinking, fields.object("thinking"));
  const bool wants_thinking = thinking != nullptr && thinking->value("type", Json()) == "enabled";
  if (wants_thinking && !last.contains("reasoning_content")) return fields.refuse("thinking", kBeside);
  const GrammarSpec& structure = out.generation.grammar;
  if (structure.param.starts_with("output_"))
    return invalid(fmt::format("{}: {}", structure.param, kBeside), structure.param);
  return ok();
}

Status parse_tools(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* tools, fields.array("tools"));
  Json functions = Json::array();
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    if (!(*tools)[i].is_object()) return wrong_type(where, "an object", (*tools)[i]);
    const JsonFields tool((*tools)[i], where);
    REDOUBT_TRY(const auto type, tool.string("type"));
    if (type && *type != "custom") return tool.refuse("type", "only tools of the client (custom) are supported");
    REDOUBT_TRY(const auto name, tool.string("name"));
    REDOUBT_TRY(const auto description, tool.string("description"));
    REDOUBT_TRY(const Json* schema, tool.object("input_schema"));
    Json function = {{"name", name.value_or("")}, {"description", description.value_or("")}};
    if (schema != nullptr) function["parameters"] = *schema;
    REDOUBT_TRY(const auto strict, tool.boolean("strict"));
    if (strict.value_or(false)) function["strict"] = true;
    functions.push_back({{"type", "function"}, {"function", std::move(function)}});
    out.schema_fields.push_back(tool.param("input_schema"));
  }
  REDOUBT_CHECK(take_functions(out, functions));
  REDOUBT_TRY(const Json* choice, fields.object("tool_choice"));
  if (choice == nullptr) return ok();
  const JsonFields inner(*choice, "tool_choice");
  REDOUBT_TRY(const auto type, inner.string("type"));
  REDOUBT_TRY(const auto serial, inner.boolean("disable_parallel_tool_use"));
  out.parallel_tool_calls = !serial.value_or(false);
  if (type == "none")
    out.tool_choice = ToolChoice::none;
  else if (type == "any" || type == "tool")
    out.tool_choice = ToolChoice::required;
  else if (type != "auto")
    return inner.refuse("type", "expected auto, any, tool or none");
  if (type == "tool") {
    REDOUBT_TRY(const auto name, inner.string("name"));
    out.tool_name = name.value_or("");
    bool known = false;
    for (const Json& tool : out.tools) known = known || tool["function"]["name"] == out.tool_name;
    if (!known) return inner.refuse("name", "expected the name of one of the tools");
  }
  if (out.tool_choice == ToolChoice::required && out.tools.empty()) {
    return fields.refuse("tool_choice", "expected tools to choose from, found none");
  }
  return ok();
}

// A format as `output_config.format` has it, and the older `output_format`.
Status parse_format(ChatRequest& out, const JsonFields& fields, std::string_view key) {
  REDOUBT_TRY(const Json* format, fields.object(key));
  if (format == nullptr) return ok();
  const JsonFields shape(*format, fields.param(key));
  REDOUBT_TRY(const auto type, shape.string("type"));
  REDOUBT_TRY(const Json* schema, shape.object("schema"));
  if (type != "json_schema" || schema == nullptr) return shape.refuse("type", "expected json_schema and a schema");
  return set_grammar(out.generation,
                     {.kind = GrammarSpec::Kind::json_schema, .schema = *schema, .param = shape.param("schema")});
}

Status parse_thinking(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* thinking, fields.object("thinking"));
  if (thinking != nullptr) {
    const JsonFields inner(*thinking, "thinking");
    REDOUBT_TRY(const auto type, inner.string("type"));
    REDOUBT_TRY(const auto budget, inner.integer("budget_tokens", 0));
    if (type == "enabled")
      out.thinking_budget = budget.value_or(-1);
    else if (type == "disabled")
      out.thinking_budget = 0;
    else if (type != "adaptive")
      return inner.refuse("type", "expected enabled, disabled or adaptive");
  }
  REDOUBT_TRY(const Json* config, fields.object("output_config"));
  if (config == nullptr) return ok();
  const JsonFields inner(*config, "output_config");
  REDOUBT_TRY(const auto effort, inner.string("effort"));
  if (effort) {
    REDOUBT_CHECK(effort_budget(*effort, inner.param("effort")));
    if (!out.thinking_budget) out.reasoning_effort = effort;
  }
  return parse_format(out, inner, "format");
}

}  // namespace

Result<ChatRequest> parse_anthropic_request(const Json& body, MaxTokensField max_tokens_field) {
  const JsonFields fields(body);
  ChatRequest out;
  REDOUBT_TRY(const auto model, fields.string("model"));
  out.model = model.value_or("");
  REDOUBT_TRY(out.generation, parse_generation_fields(fields));
  if (out.generation.n != 1) return fields.refuse("n", "expected 1");
  REDOUBT_TRY(const auto max_tokens, fields.integer("max_tokens", 1));
  if (!max_tokens && max_tokens_field == MaxTokensField::required) {
    return fields.refuse("max_tokens", "expected an integer, found nothing");
  }
  out.generation.max_tokens = max_tokens;
  out.cap_max_tokens = true;
  REDOUBT_TRY(std::vector<std::string> stops, parse_stop(fields, "stop_sequences"));
  if (!stops.empty() && !out.generation.stop.strings.empty()) {
    return fields.refuse("stop", "cannot be given beside stop_sequences");
  }
  if (!stops.empty()) out.generation.stop.strings = std::move(stops);
  REDOUBT_TRY(std::string system, parse_system(fields));
  if (!system.empty()) out.messages.push_back({{"role", "system"}, {"content", std::move(system)}});
  REDOUBT_CHECK(parse_messages(out, fields));
  take_prefill(out, fields);
  REDOUBT_CHECK(parse_tools(out, fields));
  REDOUBT_CHECK(parse_reasoning_fields(out, fields));
  REDOUBT_CHECK(parse_thinking(out, fields));
  REDOUBT_CHECK(parse_template_fields(out, fields));
  REDOUBT_CHECK(parse_format(out, fields, "output_format"));
  REDOUBT_CHECK(check_prefill(out, fields));
  REDOUBT_CHECK(refuse_structures_of_others(fields, {"format", "text"}));
  REDOUBT_CHECK(fields.refuse_unless_empty("mcp_servers", "is not supported"));
  REDOUBT_TRY(const auto stream, fields.boolean("stream"));
  out.stream = stream.value_or(false);
  return out;
}

}  // namespace redoubt
