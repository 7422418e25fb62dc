#include "server/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "server/custom_tools.h"

namespace redoubt {
namespace {

constexpr size_t kMaxTools = 512;
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxTemplateBytes = 256 << 10;
constexpr int kMaxTopLogprobs = 20;
constexpr int64_t kMaxCallValues = JsonLimits().max_values;  // in the texts of past calls' arguments, all together

bool is_tool_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (const char c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '-' && c != '.' && c != ':' && c != '/') {
      return false;
    }
  }
  return true;
}

// A past call of a custom tool, as one of the function that stands for it.
Result<Json> parse_past_custom_call(const JsonFields& call) {
  REDOUBT_TRY(const Json* custom, call.object("custom"));
  if (custom == nullptr) return call.refuse("custom", "expected an object, found nothing");
  const JsonFields inner(*custom, call.param("custom"));
  REDOUBT_TRY(const auto name, inner.string("name"));
  if (!name) return inner.refuse("name", "expected a string, found nothing");
  REDOUBT_TRY(auto input, inner.string("input"));
  REDOUBT_TRY(const auto id, call.string("id"));
  return Json{{"id", id.value_or("")},
              {"type", "function"},
              {"function", {{"name", *name}, {"arguments", custom_arguments(std::move(input).value_or(""))}}}};
}

// Calls of a past assistant message. Arguments become an object where they are one: each template gets what it prints.
// `values_left`: what their texts may still hold, those of all messages together.
Result<Json> parse_past_calls(const Json& calls, const std::string& param, int64_t& values_left) {
  Json out = Json::array();
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", param, i);
    if (!calls[i].is_object()) return wrong_type(where, "an object", calls[i]);
    const JsonFields call(calls[i], where);
    REDOUBT_TRY(const auto type, call.string("type"));
    if (type == "custom") {
      REDOUBT_TRY(Json custom, parse_past_custom_call(call));
      out.push_back(std::move(custom));
      continue;
    }
    if (type && *type != "function") return call.refuse("type", "expected function or custom");
    REDOUBT_TRY(const Json* function, call.object("function"));
    if (function == nullptr) return call.refuse("function", "expected an object, found nothing");
    const JsonFields inner(*function, call.param("function"));
    REDOUBT_TRY(const auto name, inner.string("name"));
    if (!name) return inner.refuse("name", "expected a string, found nothing");
    Json arguments = Json::object();
    if (const Json* given = inner.find("arguments")) {
      if (given->is_object()) {
        arguments = *given;
      } else if (given->is_string()) {
        const auto& text = given->get_ref<const std::string&>();
        values_left -= count_json_values(text).outside_strings;
        if (values_left < 0)
          return inner.refuse("arguments",
                              fmt::format("the calls hold more than {} JSON values together", kMaxCallValues));
        auto parsed = parse_json(text);
        if (parsed && parsed->is_object()) {
          arguments = std::move(*parsed);
        } else if (!text.empty()) {
          arguments = text;
        }
      } else {
        return wrong_type(inner.param("arguments"), "a string or an object", *given);
      }
    }
    REDOUBT_TRY(const auto id, call.string("id"));
    out.push_back({{"id", id.value_or("")},
                   {"type", "function"},
                   {"function", {{"name", *name}, {"arguments", std::move(arguments)}}}});
  }
  return out;
}

Result<Json> parse_message(const Json& message, const std::string& param, int64_t& values_left) {
  if (!message.is_object()) return wrong_type(param, "an object", message);
  const JsonFields fields(message, param);
  REDOUBT_TRY(const auto role, fields.string("role"));
  if (!role) return fields.refuse("role", "expected a role, found nothing");
  static const std::set<std::string_view> kRoles = {"system", "developer", "user", "assistant", "tool"};
  if (!kRoles.contains(*role)) {
    return fields.refuse("role", "expected system, developer, user, assistant or tool");
  }
  Json out = {{"role", *role}};
  const Json* content = fields.find("content");
  if (content != nullptr) {
    REDOUBT_TRY(out["content"], join_text_parts(*content, fields.param("content")));
  } else if (*role == "assistant") {
    out["content"] = nullptr;
  } else {
    return fields.refuse("content", "expected a string or an array of parts, found nothing");
  }
  REDOUBT_TRY(const auto name, fields.string("name"));
  if (name) out["name"] = *name;
  REDOUBT_TRY(const auto call_id, fields.string("tool_call_id"));
  if (call_id) out["tool_call_id"] = *call_id;
  REDOUBT_CHECK(fields.refuse_unless_empty("audio", "only text is supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("function_call", "is not supported; use tool_calls"));
  if (*role == "assistant") {
    REDOUBT_TRY(auto reasoning, fields.string("reasoning_content"));
    if (!reasoning) {
      REDOUBT_TRY(reasoning, fields.string("reasoning"));
    }
    if (reasoning && !reasoning->empty()) out["reasoning_content"] = *reasoning;
    REDOUBT_TRY(const Json* calls, fields.array("tool_calls"));
    if (calls != nullptr && !calls->empty()) {
      REDOUBT_TRY(out["tool_calls"], parse_past_calls(*calls, fields.param("tool_calls"), values_left));
    } else if (content == nullptr && out.contains("reasoning_content")) {
      out["content"] = "";
    }
  }
  return out;
}

}  // namespace

std::string ChatRequest::schema_field(size_t tool) const {
  return tool < schema_fields.size() ? schema_fields[tool]
                                     : fmt::format("{}[{}].function.parameters", tools_param, tool);
}

Result<std::string> join_text_parts(const Json& content, const std::string& param) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) return wrong_type(param, "a string or an array of parts", content);
  std::string text;
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", param, i);
    if (content[i].is_string()) {
      text += content[i].get_ref<const std::string&>();
      continue;
    }
    if (!content[i].is_object()) return wrong_type(where, "an object", content[i]);
    const JsonFields part(content[i], where);
    REDOUBT_TRY(const auto type, part.string("type"));
    if (!type) return part.refuse("type", "expected text, found nothing");
    const std::string_view key = *type == "refusal" ? "refusal" : "text";
    if (*type != "text" && *type != "input_text" && *type != "output_text" && *type != "refusal") {
      return part.refuse("type", "only text parts are supported");
    }
    REDOUBT_TRY(const auto piece, part.string(key));
    if (!piece) return part.refuse(key, "expected a string, found nothing");
    text += *piece;
  }
  return text;
}

Result<Json> parse_chat_messages(const Json& messages, const std::string& param) {
  if (!messages.is_array()) return wrong_type(param, "an array", messages);
  if (messages.empty()) return invalid(param + ": expected at least one message, found none", param);
  Json out = Json::array();
  int64_t values_left = kMaxCallValues;
  for (size_t i = 0; i < messages.size(); ++i) {
    REDOUBT_TRY(Json message, parse_message(messages[i], fmt::format("{}[{}]", param, i), values_left));
    out.push_back(std::move(message));
  }
  return out;
}

Result<Json> parse_chat_tools(const Json& tools, const std::string& param) {
  Json out = Json::array();
  std::set<std::string> names;
  if (tools.size() > kMaxTools) {
    return invalid(fmt::format("{}: expected at most {} tools, found {}", param, kMaxTools, tools.size()), param);
  }
  for (size_t i = 0; i < tools.size(); ++i) {
    const std::string where = fmt::format("{}[{}]", param, i);
    if (!tools[i].is_object()) return wrong_type(where, "an object", tools[i]);
    const JsonFields tool(tools[i], where);
    REDOUBT_TRY(const auto type, tool.string("type"));
    if (type && *type != "function") return tool.refuse("type", "only functions are supported");
    REDOUBT_TRY(const Json* function, tool.object("function"));
    if (function == nullptr) return tool.refuse("function", "expected an object, found nothing");
    const JsonFields inner(*function, tool.param("function"));
    REDOUBT_TRY(const auto name, inner.string("name"));
    if (!name || !is_tool_name(*name)) {
      return inner.refuse("name", "expected 1 to 256 letters, digits or any of _ - . : /");
    }
    if (!names.insert(*name).second) return inner.refuse("name", "expected names that differ, found one twice");
    REDOUBT_TRY(const auto description, inner.string("description"));
    REDOUBT_TRY(const Json* parameters, inner.object("parameters"));
    REDOUBT_TRY(const auto strict, inner.boolean("strict"));
    Json definition = {{"name", *name}, {"description", description.value_or("")}};
    definition["parameters"] =
        parameters != nullptr ? *parameters : Json{{"type", "object"}, {"properties", Json::object()}};
    if (strict.value_or(false)) definition["strict"] = true;
    out.push_back({{"type", "function"}, {"function", std::move(definition)}});
  }
  return out;
}

namespace {

// An error of parse_chat_tools(…, "tools") where the request has those fields in other places.
Error flat_tool_error(Error error, const std::vector<std::string>& schema_fields) {
  for (size_t i = 0; i < schema_fields.size(); ++i) {
    const std::string head = fmt::format("tools[{}].function.", i);
    if (!error.param.starts_with(head)) continue;
    const std::string key = error.param.substr(head.size()), &schema = schema_fields[i];
    const std::string field = key == "parameters" ? schema : schema.substr(0, schema.rfind('.') + 1) + key;
    if (error.message.starts_with(error.param)) error.message.replace(0, error.param.size(), field);
    error.param = field;
    break;
  }
  return error;
}

}  // namespace

Status take_functions(ChatRequest& out, const Json& functions) {
  auto parsed = parse_chat_tools(functions, "tools");
  if (!parsed) return flat_tool_error(std::move(parsed.error()), out.schema_fields);
  out.tools = std::move(*parsed);
  return ok();
}

namespace {

bool is_custom(const Json& tool) { return tool.is_object() && tool.value("type", Json()) == "custom"; }

// Of /v1/chat/completions: functions, and custom tools, each as the function that stands for it.
Status parse_tools(ChatRequest& out, const Json& tools) {
  for (size_t i = 0; i < tools.size(); ++i) {
    if (!tools[i].is_object()) return wrong_type(fmt::format("tools[{}]", i), "an object", tools[i]);
    const JsonFields tool(tools[i], fmt::format("tools[{}]", i));
    REDOUBT_TRY(const auto type, tool.string("type"));
    if (type && type != "function" && type != "custom") return tool.refuse_word("type", "function or custom", *type);
  }
  if (std::none_of(tools.begin(), tools.end(), is_custom)) {
    REDOUBT_TRY(out.tools, parse_chat_tools(tools, "tools"));
    return ok();
  }
  Json functions = tools;
  std::vector<std::pair<size_t, std::string>> formats;  // where the text of a tool is bound
  for (size_t i = 0; i < tools.size(); ++i) {
    out.schema_fields.push_back(fmt::format("tools[{}].{}.parameters", i, is_custom(tools[i]) ? "custom" : "function"));
    if (!is_custom(tools[i])) continue;
    const JsonFields tool(tools[i], fmt::format("tools[{}]", i));
    REDOUBT_TRY(const Json* given, tool.object("custom"));
    if (given == nullptr) return tool.refuse("custom", "expected an object, found nothing");
    const JsonFields inner(*given, tool.param("custom"));
    REDOUBT_TRY(CustomTool custom, read_custom_tool(inner));
    out.custom_tools.insert(std::move(custom.name));
    functions[i] = std::move(custom.function);
    if (!custom.format_field.empty()) formats.emplace_back(i, std::move(custom.format_field));
  }
  REDOUBT_CHECK(take_functions(out, functions));
  for (auto& [tool, field] : formats) out.schema_fields[tool] = std::move(field);
  return ok();
}

}  // namespace

Status parse_tool_choice(ChatRequest& out, const JsonFields& fields) {
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr) return ok();
  if (choice->is_string()) {
    const auto& text = choice->get_ref<const std::string&>();
    if (text == "none")
      out.tool_choice = ToolChoice::none;
    else if (text == "required")
      out.tool_choice = ToolChoice::required;
    else if (text != "auto")
      return fields.refuse("tool_choice", "expected none, auto, required or a function");
  } else if (choice->is_object()) {
    const JsonFields object(*choice, "tool_choice");
    REDOUBT_TRY(const auto type, object.string("type"));
    if (type == "allowed_tools") return object.refuse("type", "allowed_tools is not supported; send those tools alone");
    const std::string kind = type.value_or("function");
    REDOUBT_TRY(const Json* named, kind == "custom" ? object.object("custom") : object.object("function"));
    if ((kind != "function" && kind != "custom") || named == nullptr) {
      return fields.refuse("tool_choice", "expected none, auto, required or a function");
    }
    const JsonFields inner(*named, object.param(kind));
    REDOUBT_TRY(const auto name, inner.string("name"));
    if (!name || name->empty()) return inner.refuse("name", "expected a function's name");
    if (out.custom_tools.contains(*name) != (kind == "custom"))
      return fields.refuse("tool_choice", "expected the name of one of the tools");
    out.tool_choice = ToolChoice::required;
    out.tool_name = *name;
  } else {
    return wrong_type("tool_choice", "a string or an object", *choice);
  }
  if (out.tool_choice == ToolChoice::required && out.tools.empty()) {
    return fields.refuse("tool_choice", "expected tools to choose from, found none");
  }
  if (!out.tool_name.empty()) {
    for (const Json& tool : out.tools) {
      if (tool["function"]["name"] == out.tool_name) return ok();
    }
    return fields.refuse("tool_choice", "expected the name of one of the tools");
  }
  return ok();
}

Result<std::optional<int64_t>> effort_budget(const std::string& effort, const std::string& param) {
  // R1's answers seldom think for more than 8,000 tokens except on competition problems: "high" leaves it free.
  static const std::array<std::pair<std::string_view, std::optional<int64_t>>, 7> kBudgets = {{{"none", 0},
                                                                                               {"minimal", 256},
                                                                                               {"low", 1024},
                                                                                               {"medium", 8192},
                                                                                               {"high", std::nullopt},
                                                                                               {"xhigh", std::nullopt},
                                                                                               {"max", std::nullopt}}};
  for (const auto& [name, budget] : kBudgets) {
    if (effort == name) return budget;
  }
  return invalid(param + ": expected none, minimal, low, medium, high, xhigh or max", param);
}

// Whether the answer may think, as the protocols' switches say it: `thinking` (DeepSeek), `enable_thinking` (Qwen),
// `reasoning.enabled` (OpenRouter). nullopt: none of them is there. One that says no is enough.
Result<std::optional<bool>> thinking_switch(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(std::optional<bool> wanted, fields.boolean("enable_thinking"));
  const auto say = [&wanted](std::optional<bool> more) {
    if (more) wanted = wanted.value_or(true) && *more;
  };
  REDOUBT_TRY(const Json* reasoning, fields.object("reasoning"));
  if (reasoning != nullptr) {
    const JsonFields inner(*reasoning, fields.param("reasoning"));
    REDOUBT_TRY(const auto exclude, inner.boolean("exclude"));
    if (exclude.value_or(false)) return inner.refuse("exclude", "the reasoning cannot be left out");
    REDOUBT_TRY(const auto effort, inner.string("effort"));
    if (!out.reasoning_effort) out.reasoning_effort = effort;
    REDOUBT_TRY(out.thinking_budget, inner.integer("max_tokens", -1));
    REDOUBT_TRY(const auto enabled, inner.boolean("enabled"));
    say(enabled);
  }
  REDOUBT_TRY(const Json* thinking, fields.object("thinking"));
  if (thinking != nullptr) {
    const JsonFields inner(*thinking, fields.param("thinking"));
    REDOUBT_TRY(const auto type, inner.string("type"));
    if (type && type != "enabled" && type != "disabled" && type != "adaptive") {
      return inner.refuse("type", "expected enabled, disabled or adaptive");
    }
    if (type && type != "adaptive") say(type == "enabled");
    REDOUBT_TRY(const auto budget, inner.integer("budget_tokens", 0));
    if (budget) out.thinking_budget = budget;
  }
  return wanted;
}

Status check_verbosity(const JsonFields& fields) {
  REDOUBT_TRY(const auto verbosity, fields.string("verbosity"));
  if (!verbosity || *verbosity == "low" || *verbosity == "medium" || *verbosity == "high") return ok();
  return fields.refuse("verbosity", "expected low, medium or high");
}

Status parse_reasoning_fields(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(out.reasoning_effort, fields.string("reasoning_effort"));
  REDOUBT_TRY(const auto wanted, thinking_switch(out, fields));
  if (out.reasoning_effort) REDOUBT_CHECK(effort_budget(*out.reasoning_effort, fields.param("reasoning_effort")));
  REDOUBT_TRY(const auto budget, fields.integer("thinking_token_budget", -1));
  if (budget) out.thinking_budget = budget;
  REDOUBT_TRY(const auto llama_budget, fields.integer("reasoning_budget", -1));
  if (llama_budget && !budget) out.thinking_budget = llama_budget;
  if (wanted == false) {
    out.reasoning_effort = "none";
    out.thinking_budget = 0;
  } else if (wanted && !out.reasoning_effort && !out.thinking_budget) {
    out.thinking_budget = -1;
  }
  REDOUBT_TRY(const auto separate, fields.boolean("separate_reasoning"));
  out.separate_reasoning = separate.value_or(true);
  REDOUBT_TRY(const auto include, fields.boolean("include_reasoning"));
  if (include && !*include) return fields.refuse("include_reasoning", "the reasoning cannot be left out");
  return ok();
}

namespace {

// DeepSeek's completion of a prefix: the last message says of itself that the answer goes on from it.
Result<bool> last_is_prefix(const ChatRequest& chat, const JsonFields& fields) {
  REDOUBT_TRY(const Json* messages, fields.array("messages"));
  if (messages == nullptr || messages->empty() || !messages->back().is_object()) return false;
  const size_t last = messages->size() - 1;
  const JsonFields message(messages->back(), fmt::format("{}[{}]", chat.messages_param, last));
  REDOUBT_TRY(const auto prefix, message.boolean("prefix"));
  if (prefix.value_or(false) && chat.messages.back()["role"] != "assistant")
    return message.refuse("prefix", "only the assistant's message can be gone on from");
  return prefix.value_or(false);
}

}  // namespace

Status parse_template_fields(ChatRequest& out, const JsonFields& fields) {
  REDOUBT_TRY(const Json* kwargs, fields.object("chat_template_kwargs"));
  if (kwargs != nullptr) {
    constexpr size_t kMostKwargs = 64;
    if (kwargs->size() > kMostKwargs) {
      return invalid(fmt::format("chat_template_kwargs: at most {} names, found {}", kMostKwargs, kwargs->size()),
                     "chat_template_kwargs");
    }
    out.template_kwargs = *kwargs;
    for (const std::string_view reserved : {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"}) {
      if (kwargs->contains(reserved)) {
        return invalid(fmt::format("chat_template_kwargs.{}: is set by the request's own fields", reserved),
                       fmt::format("chat_template_kwargs.{}", reserved));
      }
    }
    const JsonFields inner(*kwargs, "chat_template_kwargs");
    REDOUBT_CHECK(inner.boolean("thinking"));
    REDOUBT_CHECK(inner.boolean("enable_thinking"));
  }
  REDOUBT_TRY(const auto source, fields.string("chat_template"));
  if (source && !source->empty()) {
    if (source->size() > kMaxTemplateBytes) return fields.refuse("chat_template", "expected at most 256 KB");
    auto parsed = ChatTemplate::parse(*source);
    if (!parsed) return fields.refuse("chat_template", parsed.error().message);
    out.chat_template = std::make_shared<const ChatTemplate>(std::move(*parsed));
  }
  REDOUBT_CHECK(fields.refuse_unless_empty("documents", "is not supported"));
  REDOUBT_TRY(const auto add, fields.boolean("add_generation_prompt"));
  REDOUBT_TRY(const auto go_on, fields.boolean("continue_final_message"));
  REDOUBT_TRY(const bool is_prefix, last_is_prefix(out, fields));
  if (is_prefix && !go_on.value_or(true))
    return fields.refuse("continue_final_message", "the last message says that it is a prefix");
  out.continue_final_message = is_prefix || go_on.value_or(out.continue_final_message && !add.value_or(false));
  out.add_generation_prompt = add.value_or(!out.continue_final_message);
  if (out.continue_final_message && out.add_generation_prompt) {
    return fields.refuse("add_generation_prompt", "cannot be true together with continue_final_message");
  }
  if (out.continue_final_message && out.messages.back()["role"] != "assistant") {
    return fields.refuse("continue_final_message", "expected the last message to be the assistant's");
  }
  return ok();
}

Result<ChatRequest> parse_chat_request(const Json& body) {
  const JsonFields fields(body);
  ChatRequest out;
  REDOUBT_TRY(const auto model, fields.string("model"));
  out.model = model.value_or("");
  const Json* messages = fields.find("messages");
  if (messages == nullptr) return fields.refuse("messages", "expected an array of messages, found nothing");
  REDOUBT_TRY(out.messages, parse_chat_messages(*messages, "messages"));
  REDOUBT_TRY(const Json* tools, fields.array("tools"));
  if (tools != nullptr) REDOUBT_CHECK(parse_tools(out, *tools));
  REDOUBT_CHECK(parse_tool_choice(out, fields));
  REDOUBT_TRY(const auto parallel, fields.boolean("parallel_tool_calls"));
  out.parallel_tool_calls = parallel.value_or(true);
  REDOUBT_CHECK(fields.refuse_unless_empty("functions", "is not supported; use tools"));
  REDOUBT_CHECK(fields.refuse_unless_empty("function_call", "is not supported; use tool_choice"));
  REDOUBT_CHECK(fields.refuse_unless_empty("audio", "only text is supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("prediction", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("echo", "is not supported; use /v1/completions"));
  REDOUBT_CHECK(check_verbosity(fields));
  REDOUBT_CHECK(fields.refuse_unless_empty("web_search_options", "is not supported"));
  if (const Json* modalities = fields.find("modalities"); modalities && *modalities != Json::array({"text"})) {
    return fields.refuse("modalities", "only text is supported");
  }

  REDOUBT_CHECK(parse_reasoning_fields(out, fields));
  REDOUBT_CHECK(parse_template_fields(out, fields));
  REDOUBT_TRY(out.generation, parse_generation_fields(fields));
  REDOUBT_CHECK(refuse_structures_of_others(fields, {"format", "output_format", "output_config", "text"}));
  REDOUBT_TRY(const auto max_tokens, fields.integer("max_tokens", 1));
  REDOUBT_TRY(const auto max_completion, fields.integer("max_completion_tokens", 1));
  out.generation.max_tokens = max_completion ? max_completion : max_tokens;
  if (max_completion) out.generation.max_tokens_field = "max_completion_tokens";

  REDOUBT_TRY(const auto logprobs, fields.boolean("logprobs"));
  REDOUBT_TRY(const auto top, fields.integer("top_logprobs", 0, kMaxTopLogprobs));
  out.logprobs = logprobs.value_or(false);
  out.top_logprobs = static_cast<int>(top.value_or(0));
  if (out.top_logprobs > 0 && !out.logprobs) return fields.refuse("top_logprobs", "expected logprobs to be true");

  REDOUBT_TRY(const StreamFields streaming, parse_stream_fields(fields));
  out.stream = streaming.stream;
  out.include_usage = streaming.include_usage;
  out.continuous_usage = streaming.continuous_usage;
  return out;
}

}  // namespace redoubt
