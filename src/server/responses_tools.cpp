#include "server/responses_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "server/custom_tools.h"

namespace redoubt {
namespace {

constexpr size_t kMostShown = 32;             // names in the header
constexpr std::string_view kOther = "other";  // stands for those that are no plain names, and for all beyond

// What a header shows of a type that is left out: its name, to which its releases (web_search_2025_08_26) count.
std::string_view shown(std::string_view type) {
  constexpr size_t kLongest = 64;
  const auto is_plain = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; };
  if (type.empty() || type.size() > kLongest || !std::all_of(type.begin(), type.end(), is_plain)) return kOther;
  return type.substr(0, type.find("_20"));
}

Json function_of(const JsonFields& tool) {
  Json function = Json::object();
  for (const char* key : {"name", "description", "parameters", "strict"}) {
    if (const Json* value = tool.find(key)) function[key] = *value;
  }
  return {{"type", "function"}, {"function", std::move(function)}};
}

void leave_out(std::string& list, std::string_view type) {
  const auto is_there = [&](std::string_view name) {
    return ("," + list + ",").find("," + std::string(name) + ",") != std::string::npos;
  };
  if (is_there(type)) return;
  if (std::ranges::count(list, ',') + 1 >= static_cast<int64_t>(kMostShown)) type = kOther;
  if (is_there(type)) return;
  if (!list.empty()) list += ',';
  list += type;
}

// By name; or one that is left out, which nobody can be made to call here.
Status choose_one(ChatRequest& chat, const JsonFields& fields, const Json& choice) {
  const JsonFields object(choice, "tool_choice");
  REDOUBT_TRY(const auto type, object.string("type"));
  if (type == "allowed_tools") return object.refuse("type", "allowed_tools is not supported; send those tools alone");
  REDOUBT_TRY(const auto name, object.string("name"));
  const bool is_callable = type == "function" || type == "custom";
  if (const std::string_view other = type ? shown(*type) : kOther; !is_callable && other != kOther)
    return fields.refuse("tool_choice", fmt::format("{} is not run by this server", other));
  if (!is_callable || !name)
    return fields.refuse("tool_choice", "expected none, auto, required, a function or a custom tool");
  chat.tool_choice = ToolChoice::required;
  chat.tool_name = *name;
  for (const Json& tool : chat.tools) {
    const bool is_custom = chat.custom_tools.contains(*name);
    if (tool["function"]["name"] == *name && is_custom == (type == "custom")) return ok();
  }
  return fields.refuse("tool_choice", "expected the name of one of the tools");
}

Status parse_choice(ChatRequest& chat, const JsonFields& fields, const std::string& left_out) {
  const Json* choice = fields.find("tool_choice");
  if (choice == nullptr || *choice == "auto") return ok();
  if (choice->is_object()) return choose_one(chat, fields, *choice);
  if (*choice == "none") {
    chat.tool_choice = ToolChoice::none;
    return ok();
  }
  if (*choice != "required")
    return fields.refuse("tool_choice", "expected none, auto, required, a function or a custom tool");
  chat.tool_choice = ToolChoice::required;
  if (!chat.tools.empty()) return ok();
  if (left_out.empty()) return fields.refuse("tool_choice", "expected tools to choose from, found none");
  return fields.refuse(
      "tool_choice",
      fmt::format("expected tools to choose from, found only such as this server does not run ({})", left_out));
}

}  // namespace

Result<ResponsesTools> parse_responses_tools(ChatRequest& chat, const JsonFields& fields) {
  REDOUBT_TRY(const Json* tools, fields.array("tools"));
  ResponsesTools out;
  Json functions = Json::array();
  std::vector<std::pair<size_t, std::string>> formats;  // where the text of functions[first] is bound
  for (size_t i = 0; tools != nullptr && i < tools->size(); ++i) {
    const std::string where = fmt::format("tools[{}]", i);
    const Json& written = (*tools)[i];
    if (!written.is_object()) return wrong_type(where, "an object", written);
    const JsonFields tool(written, where);
    REDOUBT_TRY(const auto type, tool.string("type"));
    if (!type) return tool.refuse("type", "expected function, custom or another type of tool, found nothing");
    if (type == "custom") {
      REDOUBT_TRY(CustomTool custom, read_custom_tool(tool));
      if (!custom.format_field.empty()) formats.emplace_back(functions.size(), std::move(custom.format_field));
      functions.push_back(std::move(custom.function));
      chat.custom_tools.insert(std::move(custom.name));
    } else if (type == "function") {
      functions.push_back(function_of(tool));
    } else {
      leave_out(out.left_out, shown(*type));
      continue;
    }
    chat.schema_fields.push_back(tool.param("parameters"));
    out.echo.push_back(written);
  }
  REDOUBT_CHECK(take_functions(chat, functions));
  for (auto& [tool, field] : formats) chat.schema_fields[tool] = std::move(field);
  REDOUBT_CHECK(parse_choice(chat, fields, out.left_out));
  return out;
}

}  // namespace redoubt
