#include "server/chat_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/trimmed.h"
#include "server/prompt_ids.h"
#include "server/routes_errors.h"

namespace redoubt {
namespace {

constexpr std::string_view kThinkOpen = "<think>";

// Templates print the arguments of a past call in one of two ways: as an object, or as this text.
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

Error render_error(const Error& error, const std::string& param, const Tokenizer& tokenizer, const RenderLimits& limits,
                   int64_t most_tokens) {
  const bool exceeds_tokens =
      error.code == ErrorCode::context_length && tokenizer.most_bytes(most_tokens) <= limits.max_output_bytes;
  if (exceeds_tokens) return context_error(param, {.count = most_tokens + 1, .is_least = true}, 1, most_tokens);
  return invalid(param + ": " + error.message, param);
}

bool ends_inside_think(const std::string& text) {
  const size_t open = text.rfind(kThinkOpen);
  return open != std::string::npos && text.find("</think>", open) == std::string::npos;
}

void append_markup(MarkedText& text, std::string_view literal) {
  const size_t begin = text.text.size();
  text.text += literal;
  text.markup.push_back({begin, text.text.size()});
}

// Where `part` stands last in `text`. Linear, also where both repeat themselves: memmem is, and walks forward, so both
// are turned round.
size_t find_last(std::string_view text, std::string_view part) {
  if (text.size() < part.size()) return std::string_view::npos;
  const std::string turned(text.rbegin(), text.rend()), turned_part(part.rbegin(), part.rend());
  const void* found = memmem(turned.data(), turned.size(), turned_part.data(), turned_part.size());
  if (found == nullptr) return std::string_view::npos;
  return text.size() - part.size() - static_cast<size_t>(static_cast<const char*>(found) - turned.data());
}

// Where `content` stands last, wholly outside what the template wrote.
size_t find_last_unmarked(const MarkedText& text, std::string_view content) {
  size_t end = text.text.size();
  for (size_t i = text.markup.size() + 1; i-- > 0;) {
    const size_t begin = i == 0 ? 0 : text.markup[i - 1].end;
    const size_t at = find_last(std::string_view(text.text).substr(begin, end - begin), content);
    if (at != std::string_view::npos) return begin + at;
    if (i > 0) end = text.markup[i - 1].begin;
  }
  return std::string_view::npos;
}

// The last message stays open: what the template wrote after its text goes.
Status cut_after_final_message(MarkedText& text, const Json& message, const std::string& param) {
  std::string_view content;
  if (message["content"].is_string()) content = trimmed(message["content"].get_ref<const std::string&>());
  size_t at = content.empty() ? std::string::npos : find_last_unmarked(text, content);
  constexpr std::string_view kThinkClose = "</think>";
  if (const size_t close = content.rfind(kThinkClose); at == std::string::npos && close != std::string_view::npos) {
    content = trimmed(content.substr(close + kThinkClose.size()));  // templates leave past thinking out
    if (!content.empty()) at = find_last_unmarked(text, content);
  }
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

Result<ChatPrompt> render_chat_prompt(const LoadedModel& model, const ChatRequest& request, const ApiOptions& options,
                                      int64_t most_tokens) {
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
  if (!chat_template->reads_argument_objects()) dump_past_arguments(messages);
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
  const RenderLimits limits = render_limits(model.tokenizer, most_tokens);
  auto rendered =
      render_chat(*chat_template, context,
                  {{"bos_token", model.tokenizer.bos_text()}, {"eos_token", model.tokenizer.eos_text()}}, limits);
  if (!rendered) return render_error(rendered.error(), request.messages_param, model.tokenizer, limits, most_tokens);
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
