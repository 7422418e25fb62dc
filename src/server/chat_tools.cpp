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

// References of a schema start at its own root, which lies at `place` of another schema: they point there afterwards.
void move_references(Json& schema, const std::string& place) {
  if (schema.is_array()) {
    for (Json& part : schema) move_references(part, place);
  }
  if (!schema.is_object()) return;
  for (const auto& [keyword, value] : schema.items()) {
    if (keyword == "$ref" && value.is_string()) {
      std::string reference = value.get<std::string>();
      if (reference.starts_with('#')) value = "#" + place + reference.substr(1);
    } else if (keyword == "properties" || keyword == "patternProperties" || keyword == "$defs" ||
               keyword == "definitions") {
      if (!value.is_object()) continue;
      for (const auto& [name, part] : value.items()) move_references(part, place);  // any name, "$ref" and "enum" too
    } else if (keyword != "const" && keyword != "enum" && keyword != "default" && keyword != "examples") {
      move_references(value, place);
    }
  }
}

Json arguments_schema(const Json& function) {
  Json schema = function["parameters"];
  if (schema.empty()) return Json{{"type", "object"}};
  if (!schema.contains("type")) schema["type"] = "object";
  return schema;
}

// `place`: where it will stand in a schema.
Json call_schema(const Json& function, const std::string& place) {
  Json arguments = arguments_schema(function);
  move_references(arguments, place + "/properties/arguments");
  return {{"type", "object"},
          {"properties", {{"name", {{"const", function["name"]}}}, {"arguments", std::move(arguments)}}},
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
    const bool is_list = request.tools.size() > 1;
    for (size_t i = 0; i < request.tools.size(); ++i) {
      calls.push_back(
          call_schema(request.tools[i]["function"], is_list ? fmt::format("/items/anyOf/{}", i) : "/items"));
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
