#include "server/chat_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "text/tool_grammar.h"

namespace redoubt {
namespace {

constexpr int kMaxParallelCalls = 16;
constexpr size_t kMaxToolsCost = 3 * kMaxGrammarCost;  // of all schemas that bind one request's calls

bool one_tool(const ChatRequest& request) {
  return !request.tool_name.empty() || (request.tools.size() == 1 && !request.parallel_tool_calls);
}

size_t forced_tool(const ChatRequest& request) {
  for (size_t i = 0; i < request.tools.size(); ++i) {
    if (request.tools[i]["function"]["name"] == request.tool_name) return i;
  }
  return 0;
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
  if (schema.empty()) return Json{{"type", "object"}, {"properties", Json::object()}};  // it takes none
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

// What is wrong with the arguments' schema of the request's i-th tool.
Error schema_error(const Error& error, const ChatRequest& request, size_t i) {
  const std::string name = request.tools[i]["function"]["name"].get<std::string>();
  const std::string of = fmt::format(" (tool '{}')", name);
  if (!request.custom_tools.contains(name)) return grammar_error(error, request.schema_field(i), of);
  Error of_format = error;  // the client wrote no schema
  of_format.param.clear();
  return grammar_error(of_format, request.schema_field(i), of);
}

// What is wrong with a list of calls: a place in it is a place in one of the tools' schemas.
Error calls_error(Error error, const ChatRequest& request) {
  std::string_view place = error.param;
  const auto skip = [&place](std::string_view head) {
    const bool is_there = place.starts_with(head);
    if (is_there) place.remove_prefix(head.size());
    return is_there;
  };
  size_t tool = 0;
  if (skip("/items") && skip("/anyOf/")) {
    const auto [end, failed] = std::from_chars(place.data(), place.data() + place.size(), tool);
    place.remove_prefix(static_cast<size_t>(end - place.data()));
  }
  if (!skip("/properties/arguments") || tool >= request.tools.size()) return grammar_error(error, request.tools_param);
  error.param = std::string(place);
  return schema_error(error, request, tool);
}

}  // namespace

ForcedCall forced_call(const ChatRequest& request) {
  if (!one_tool(request)) return {};
  return {request.tools[forced_tool(request)]["function"]["name"].get<std::string>()};
}

Result<GrammarPtr> forced_call_grammar(const ChatRequest& request, const CompiledGrammars& grammars) {
  if (one_tool(request)) {
    const size_t tool = forced_tool(request);
    auto compiled = grammars.json_schema(arguments_schema(request.tools[tool]["function"]));
    if (!compiled) return schema_error(compiled.error(), request, tool);
    return compiled;
  }
  Json calls = Json::array();
  const bool is_list = request.tools.size() > 1;
  for (size_t i = 0; i < request.tools.size(); ++i) {
    calls.push_back(call_schema(request.tools[i]["function"], is_list ? fmt::format("/items/anyOf/{}", i) : "/items"));
  }
  Json call = calls.size() == 1 ? calls.front() : Json{{"anyOf", std::move(calls)}};
  auto compiled = grammars.json_schema({{"type", "array"},
                                        {"items", std::move(call)},
                                        {"minItems", 1},
                                        {"maxItems", request.parallel_tool_calls ? kMaxParallelCalls : 1}});
  if (!compiled) return calls_error(std::move(compiled.error()), request);
  return compiled;
}

bool binds_calls(const ChatRequest& request, ToolSyntax syntax) {
  if (!request.custom_tools.empty() && can_bind_calls(syntax)) return true;
  return std::any_of(request.tools.begin(), request.tools.end(),
                     [](const Json& tool) { return tool["function"].value("strict", false); });
}

Result<GrammarPtr> free_call_grammar(const ChatRequest& request, ToolSyntax syntax, const CompiledGrammars& grammars) {
  const GrammarSpec& content = request.generation.grammar;
  REDOUBT_TRY(const GrammarPtr any_object, grammars.json_object());
  ToolCallOptions options{.syntax = syntax, .parallel = request.parallel_tool_calls};
  REDOUBT_TRY(options.content, grammars.of(content));
  std::vector<ToolSignature> tools;
  size_t cost = options.content != nullptr ? options.content->cost() : 0;
  Json source = Json::array({static_cast<int>(syntax), options.parallel, source_of(content)});
  for (size_t i = 0; i < request.tools.size(); ++i) {
    const Json& function = request.tools[i]["function"];
    tools.push_back({function["name"].get<std::string>(), any_object});
    source.push_back(tools.back().name);
    source.push_back(nullptr);
    if (!function.value("strict", false) && !request.custom_tools.contains(tools.back().name)) continue;
    source.back() = arguments_schema(function);
    auto compiled = grammars.json_schema(source.back());
    if (!compiled) return schema_error(compiled.error(), request, i);
    cost += (*compiled)->cost();
    if (cost > kMaxToolsCost)
      return schema_error(invalid("tools: too large together with the schemas before it"), request, i);
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
