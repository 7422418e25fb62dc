#include "server/chat_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <regex>

namespace redoubt {
namespace {

constexpr std::string_view kThinkOpen = "<think>";

// Templates print the arguments of a past call in one of two ways: as a text, or as an object through tojson or items.
bool wants_argument_objects(const std::string& source) {
  static const std::regex kObject(R"((arguments('\]|"\])?|args)\s*(\|\s*(tojson|items)|\.items\(\)))");
  return std::regex_search(source, kObject);
}

void dump_past_arguments(Json& messages) {
  for (Json& message : messages) {
    if (!message.contains("tool_calls")) continue;
    for (Json& call : message["tool_calls"]) {
      Json& arguments = call["function"]["arguments"];
      if (!arguments.is_string()) arguments = dump_json(arguments);
    }
  }
}

std::string call_format(ToolSyntax syntax) {
  switch (syntax) {
    case ToolSyntax::deepseek_v3:
      return "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```"
             "<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    case ToolSyntax::deepseek_v31:
      return "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>"
             "<｜tool▁calls▁end｜>";
    case ToolSyntax::deepseek_v32:
    case ToolSyntax::deepseek_v4: {
      const std::string block = syntax == ToolSyntax::deepseek_v32 ? "function_calls" : "tool_calls";
      return "<｜DSML｜" + block +
             ">\n<｜DSML｜invoke name=\"NAME\">\n<｜DSML｜parameter name=\"KEY\" string=\"true|false\">VALUE"
             "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜" +
             block +
             ">\nwith one parameter tag for each argument; string is \"false\" where VALUE is JSON and no string";
    }
    case ToolSyntax::llama_json:
      return R"({"name": "NAME", "parameters": ARGUMENTS})";
    default:
      return "<tool_call>\n{\"name\": \"NAME\", \"arguments\": ARGUMENTS}\n</tool_call>";
  }
}

// For templates that print calls and results, but not what may be called (the official DeepSeek ones).
std::string tools_text(const Json& tools, ToolSyntax syntax) {
  std::string text = "You can call these functions. Each line describes one, with the JSON schema of its arguments:\n";
  for (const Json& tool : tools) text += dump_json(tool["function"]) + "\n";
  text += "To call a function, write exactly this, with its name for NAME and a JSON object for ARGUMENTS:\n";
  return text + call_format(syntax);
}

void add_system_text(Json& messages, const std::string& text) {
  Json& first = messages.front();
  if (first["role"] == "system" && first["content"].is_string()) {
    const auto& old = first["content"].get_ref<const std::string&>();
    first["content"] = old.empty() ? text : old + "\n\n" + text;
    return;
  }
  messages.insert(messages.begin(), Json{{"role", "system"}, {"content", text}});
}

// A template that never looks at tool_calls or the role "tool" would drop them: say them in words.
void spell_tool_turns(Json& messages) {
  for (Json& message : messages) {
    if (message["role"] == "tool") {
      const std::string content = message["content"].is_string() ? message["content"].get<std::string>() : "";
      message = {{"role", "user"}, {"content", "<tool_response>\n" + content + "\n</tool_response>"}};
    } else if (message.contains("tool_calls")) {
      std::string text = message["content"].is_string() ? message["content"].get<std::string>() : "";
      for (const Json& call : message["tool_calls"]) {
        const Json& function = call["function"];
        const Json& arguments = function["arguments"];
        text +=
            (text.empty() ? "" : "\n") +
            fmt::format("<tool_call>\n{{\"name\": {}, \"arguments\": {}}}\n</tool_call>", dump_json(function["name"]),
                        arguments.is_string() ? arguments.get<std::string>() : dump_json(arguments));
      }
      message.erase("tool_calls");
      message["content"] = text;
    }
  }
}

void set_thinking(Json& context, const ChatRequest& request) {
  for (const auto& [key, value] : request.template_kwargs.items()) context[key] = value;
  if (request.reasoning_effort || request.thinking_budget) {
    const bool think = request.reasoning_effort != "none" && request.thinking_budget != 0;
    for (const char* key : {"thinking", "enable_thinking"}) {
      if (!context.contains(key)) context[key] = think;
    }
    if (request.reasoning_effort && think && !context.contains("reasoning_effort")) {
      context["reasoning_effort"] = *request.reasoning_effort;
    }
  }
}

Error no_template() { return invalid("messages: the model has no chat template; use /v1/completions", "messages"); }

bool ends_inside_think(const std::string& text) {
  const size_t open = text.rfind(kThinkOpen);
  return open != std::string::npos && text.find("</think>", open) == std::string::npos;
}

void append_markup(MarkedText& text, std::string_view literal) {
  const size_t begin = text.text.size();
  text.text += literal;
  text.markup.push_back({begin, text.text.size()});
}

// The last message stays open: what the template wrote after its text goes.
Status cut_after_final_message(MarkedText& text, const Json& message, const std::string& param) {
  std::string content = message["content"].is_string() ? message["content"].get<std::string>() : "";
  const size_t end = content.find_last_not_of(" \t\r\n");
  content.resize(end == std::string::npos ? 0 : end + 1);
  const auto in_markup = [&](size_t at) {
    for (const auto& range : text.markup) {
      if (at < range.end && range.begin < at + content.size()) return true;
    }
    return false;
  };
  size_t at = content.empty() ? std::string::npos : text.text.rfind(content);
  while (at != std::string::npos && in_markup(at)) at = at == 0 ? std::string::npos : text.text.rfind(content, at - 1);
  if (at == std::string::npos) {
    return invalid(param + ": the template does not print the last message, so it cannot be continued", param);
  }
  const size_t cut = at + content.size();
  text.text.resize(cut);
  while (!text.markup.empty() && text.markup.back().begin >= cut) text.markup.pop_back();
  if (!text.markup.empty()) text.markup.back().end = std::min(text.markup.back().end, cut);
  return ok();
}

}  // namespace

Result<std::shared_ptr<LoadedModel>> acquire_chat_model(ServerContext& context, const HttpRequest& http,
                                                        const ChatRequest& request) {
  REDOUBT_TRY(std::shared_ptr<LoadedModel> model, acquire_model(context, http, request.model));
  if (request.chat_template == nullptr) return model;
  if (Status may = permit_model(context, http, model->name, "set_chat_template"); !may) {
    may.error().param = "chat_template";
    return may.error();
  }
  return model;
}

Result<ChatPrompt> render_chat_prompt(const LoadedModel& model, const ChatRequest& request, const ApiOptions& options) {
  const ChatTemplate* chat_template = request.chat_template.get();
  if (chat_template == nullptr && model.chat_template) chat_template = &*model.chat_template;
  if (chat_template == nullptr) return no_template();
  const std::string& source = chat_template->source();
  const auto source_has = [&](std::string_view word) { return source.find(word) != std::string::npos; };
  ChatPrompt out;
  Json messages = request.messages;
  if (!source_has("developer")) {
    for (Json& message : messages) {
      if (message["role"] == "developer") message["role"] = "system";
    }
  }
  const bool offers_tools = !request.tools.empty() && request.tool_choice != ToolChoice::none;
  const bool renders_tools = source_has("tools");
  if (!source_has("tool_call")) spell_tool_turns(messages);
  if (!wants_argument_objects(source)) dump_past_arguments(messages);
  if (offers_tools) {
    // A model that was taught no syntax is taught the commonest one in words.
    out.tools = options.tool_syntax.value_or(model.output_format.tools);
    if (out.tools == ToolSyntax::none) out.tools = ToolSyntax::hermes;
    if (!renders_tools) add_system_text(messages, tools_text(request.tools, out.tools));
  }

  Json context = Json::object();
  set_thinking(context, request);
  context["messages"] = std::move(messages);
  if (offers_tools && renders_tools) context["tools"] = request.tools;
  context["add_generation_prompt"] = request.add_generation_prompt;
  auto rendered = render_chat(*chat_template, context,
                              {{"bos_token", model.tokenizer.bos_text()}, {"eos_token", model.tokenizer.eos_text()}});
  if (!rendered) return invalid(request.messages_param + ": " + rendered.error().message, request.messages_param);
  out.text = std::move(*rendered);
  if (request.continue_final_message) {
    REDOUBT_CHECK(cut_after_final_message(out.text, request.messages.back(), request.messages_param));
  } else if (options.force_think && request.add_generation_prompt && model.output_format.thinks &&
             !ends_inside_think(out.text.text)) {
    append_markup(out.text, "<think>\n");
  }
  return out;
}

}  // namespace redoubt
