#include "server/responses_tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/utf8.h"
#include "server/custom_tools.h"

namespace redoubt {
namespace {

// Run by OpenAI, or by a client whose model was trained for them. A header shows no other names than these.
constexpr std::array<std::string_view, 13> kRunElsewhere = {"web_search",           "web_search_preview",
                                                            "file_search",          "code_interpreter",
                                                            "image_generation",     "computer",
                                                            "computer_use_preview", "mcp",
                                                            "local_shell",          "shell",
                                                            "apply_patch",          "namespace",
                                                            "tool_search"};

// The name of a tool that is run elsewhere; "" if `type` is none. Its releases (web_search_2025_08_26) count as it.
std::string_view run_elsewhere(std::string_view type) {
  std::string_view found;
  for (const std::string_view known : kRunElsewhere) {
    const bool is_release = type.starts_with(known) && type.substr(known.size()).starts_with("_20");
    if (type == known || is_release) found = known;
  }
  return found;
}

std::string shown(const std::string& type) { return dump_json(Json(utf8_head(type, 64))); }

Json function_of(const JsonFields& tool) {
  Json function = Json::object();
  for (const char* key : {"name", "description", "parameters", "strict"}) {
    if (const Json* value = tool.find(key)) function[key] = *value;
  }
  return {{"type", "function"}, {"function", std::move(function)}};
}

void leave_out(std::string& list, std::string_view type) {
  if (("," + list + ",").find("," + std::string(type) + ",") != std::string::npos) return;
  if (!list.empty()) list += ',';
  list += type;
}

// By name, or one that is run elsewhere, which nobody can be made to call here.
Status choose_one(ChatRequest& chat, const JsonFields& fields, const Json& choice) {
  const JsonFields object(choice, "tool_choice");
  REDOUBT_TRY(const auto type, object.string("type"));
  if (type == "allowed_tools") return object.refuse("type", "allowed_tools is not supported; send those tools alone");
  if (const std::string_view elsewhere = run_elsewhere(type.value_or("")); !elsewhere.empty())
    return fields.refuse("tool_choice", fmt::format("{} is not run by this server", elsewhere));
  REDOUBT_TRY(const auto name, object.string("name"));
  if ((type != "function" && type != "custom") || !name)
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
      const std::string_view elsewhere = run_elsewhere(*type);
      if (elsewhere.empty())
        return tool.refuse("type", fmt::format("{} is no type of tool that is known", shown(*type)));
      leave_out(out.left_out, elsewhere);
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
