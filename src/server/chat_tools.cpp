#include "server/chat_tools.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/tool_grammar.h"

namespace redoubt {
namespace {

constexpr int kMaxParallelCalls = 16;

bool one_tool(const ChatRequest& request) {
  return !request.tool_name.empty() || (request.tools.size() == 1 && !request.parallel_tool_calls);
}

const Json& find_tool(const ChatRequest& request) {
  for (const Json& tool : request.tools) {
    if (tool["function"]["name"] == request.tool_name) return tool["function"];
  }
  return request.tools.front()["function"];
}

// References of a schema start at its own root: inside another schema they would point elsewhere.
bool has_reference(const Json& schema) {
  if (schema.is_object() && schema.contains("$ref")) return true;
  if (!schema.is_structured()) return false;
  for (const Json& part : schema) {
    if (has_reference(part)) return true;
  }
  return false;
}

Json arguments_schema(const Json& function) {
  Json schema = function["parameters"];
  if (schema.empty()) return Json{{"type", "object"}};
  if (!schema.contains("type")) schema["type"] = "object";
  return schema;
}

Json call_schema(const Json& function) {
  return {{"type", "object"},
          {"properties", {{"name", {{"const", function["name"]}}}, {"arguments", arguments_schema(function)}}},
          {"required", Json::array({"name", "arguments"})},
          {"additionalProperties", false}};
}

}  // namespace

ForcedCall forced_call(const ChatRequest& request) {
  return one_tool(request) ? ForcedCall{find_tool(request)["name"].get<std::string>()} : ForcedCall{};
}

Result<GrammarPtr> forced_call_grammar(const ChatRequest& request, const CompiledGrammars& grammars) {
  Json schema;
  if (one_tool(request)) {
    schema = arguments_schema(find_tool(request));
  } else {
    Json calls = Json::array();
    for (size_t i = 0; i < request.tools.size(); ++i) {
      const Json& function = request.tools[i]["function"];
      if (has_reference(function["parameters"])) {
        const std::string param = fmt::format("{}[{}]", request.tools_param, i);
        return invalid(param + ": a forced choice among several tools does not support $ref in a schema", param);
      }
      calls.push_back(call_schema(function));
    }
    Json call = calls.size() == 1 ? calls.front() : Json{{"anyOf", std::move(calls)}};
    schema = {{"type", "array"},
              {"items", std::move(call)},
              {"minItems", 1},
              {"maxItems", request.parallel_tool_calls ? kMaxParallelCalls : 1}};
  }
  auto compiled = grammars.json_schema(schema);
  if (!compiled) {
    return grammar_error(compiled.error(), request.tools_param);
  }
  return compiled;
}

bool has_strict_tool(const ChatRequest& request) {
  return std::any_of(request.tools.begin(), request.tools.end(),
                     [](const Json& tool) { return tool["function"].value("strict", false); });
}

Result<GrammarPtr> free_call_grammar(const ChatRequest& request, ToolSyntax syntax, const CompiledGrammars& grammars) {
  const GrammarSpec& content = request.generation.grammar;
  REDOUBT_TRY(const GrammarPtr any_object, grammars.json_object());
  ToolCallOptions options{.syntax = syntax, .parallel = request.parallel_tool_calls};
  REDOUBT_TRY(options.content, grammars.of(content));
  std::vector<ToolSignature> tools;
  Json source = Json::array({static_cast<int>(syntax), options.parallel, source_of(content)});
  for (size_t i = 0; i < request.tools.size(); ++i) {
    const Json& function = request.tools[i]["function"];
    tools.push_back({function["name"].get<std::string>(), any_object});
    source.push_back(tools.back().name);
    source.push_back(nullptr);
    if (!function.value("strict", false)) continue;
    source.back() = arguments_schema(function);
    auto compiled = grammars.json_schema(source.back());
    if (!compiled) {
      const std::string param = fmt::format("{}[{}]", request.tools_param, i);
      return grammar_error(std::move(compiled.error()).within("strict"), param);
    }
    tools.back().arguments = std::move(*compiled);
  }
  auto grammar = grammars.other("tools", source,
                                [&] { return grammar_with_tool_calls(options, tools, grammars.model().tokenizer); });
  if (!grammar) return grammar_error(grammar.error(), request.tools_param);
  return grammar;
}

void ForcedCallReader::push(std::string_view text, std::vector<OutputEvent>& out) {
  if (call_.name.empty()) {
    for (const char c : text) push_listed(c, out);
    return;
  }
  if (text.empty()) return;
  if (!in_call_) {
    in_call_ = true;
    index_ = 0;
    out.push_back({OutputEvent::Kind::tool_begin, call_.name, 0});
  }
  out.push_back({OutputEvent::Kind::tool_arguments, std::string(text), 0});
}

void ForcedCallReader::add_argument(char c, std::vector<OutputEvent>& out) {
  if (out.empty() || out.back().kind != OutputEvent::Kind::tool_arguments || out.back().tool_index != index_) {
    out.push_back({OutputEvent::Kind::tool_arguments, "", index_});
  }
  out.back().text.push_back(c);
}

void ForcedCallReader::push_listed(char c, std::vector<OutputEvent>& out) {
  const bool structural = !in_string_;
  if (in_string_) {
    if (escaped_)
      escaped_ = false;
    else if (c == '\\')
      escaped_ = true;
    else if (c == '"')
      in_string_ = false;
  } else if (c == '"') {
    in_string_ = true;
  }
  if (in_call_) {
    // The value of "arguments" has ended when the brace of the call's own object closes.
    if (structural && (c == '}' || c == ']')) {
      if (--depth_ < arguments_depth_) {
        in_call_ = in_value_ = false;
        out.push_back({OutputEvent::Kind::tool_end, "", index_});
        return;
      }
    }
    if (structural && (c == '{' || c == '[')) ++depth_;
    if (structural && depth_ == arguments_depth_ && (c == ' ' || c == '\n' || c == '\t' || c == '\r')) return;
    add_argument(c, out);
    return;
  }
  if (!structural || c == '"') {  // strings outside the arguments: keys, and the name
    if (structural)
      string_.clear();
    else if (in_string_ || escaped_)
      string_.push_back(c);
    else if (in_value_) {
      if (key_ == "name") {
        auto name = parse_json('"' + string_ + '"');
        out.push_back({OutputEvent::Kind::tool_begin, name ? name->get<std::string>() : string_, ++index_});
      }
      in_value_ = false;
    } else {
      key_ = string_;
    }
    return;
  }
  if (c == '{' || c == '[') ++depth_;
  if (c == '}' || c == ']') --depth_;
  if (c == ':') {
    in_value_ = true;
    if (key_ == "arguments" && index_ >= 0) {
      in_call_ = true;
      arguments_depth_ = depth_;
    }
  }
}

void ForcedCallReader::finish(std::vector<OutputEvent>& out) {
  if (in_call_) out.push_back({OutputEvent::Kind::tool_end, "", index_});
  in_call_ = false;
}

}  // namespace redoubt
