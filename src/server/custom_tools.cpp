#include "server/custom_tools.h"

#include "core/utf8.h"

namespace redoubt {
namespace {

constexpr std::string_view kOpening = "{\"input\":\"";

// White space may stand before each of its marks.
bool may_be_spaced(size_t opened) { return opened < 2 || opened >= kOpening.size() - 2; }

// As a schema's pattern for the whole text: anchors at its ends say nothing more, elsewhere they are refused.
std::string whole_pattern(std::string_view regex) {
  if (regex.starts_with('^')) regex.remove_prefix(1);
  if (regex.ends_with('$')) {
    const std::string_view before = regex.substr(0, regex.size() - 1);
    const size_t last = before.find_last_not_of('\\');
    const size_t escapes = before.size() - (last == std::string_view::npos ? 0 : last + 1);
    if (escapes % 2 == 0) regex = before;
  }
  return "^(?:" + std::string(regex) + ")$";
}

// Chat completions have an object more around the grammar.
Result<std::string> read_grammar(const Json& format, const std::string& param, std::string& field) {
  const JsonFields outer(format, param);
  REDOUBT_TRY(const Json* nested, outer.object("grammar"));
  const JsonFields grammar(nested != nullptr ? *nested : format, nested != nullptr ? outer.param("grammar") : param);
  REDOUBT_TRY(const auto syntax, grammar.string("syntax"));
  REDOUBT_TRY(auto definition, grammar.string("definition"));
  field = grammar.param("definition");
  if (syntax == "lark") {
    const std::string at = grammar.param("syntax");
    return unsupported(at + ": lark is not enforced; regex is, and a format of type text binds nothing", at);
  }
  if (syntax != "regex") return grammar.refuse("syntax", "expected regex");
  if (!definition) return grammar.refuse("definition", "expected a regular expression, found nothing");
  return whole_pattern(*definition);
}

}  // namespace

Result<CustomTool> read_custom_tool(const JsonFields& tool) {
  REDOUBT_TRY(const auto name, tool.string("name"));
  REDOUBT_TRY(const auto description, tool.string("description"));
  REDOUBT_TRY(const Json* given, tool.object("format"));
  CustomTool out;
  Json input = {{"type", "string"}, {"description", "All that the tool is given, as text"}};
  if (given != nullptr) {
    const JsonFields format(*given, tool.param("format"));
    REDOUBT_TRY(const auto type, format.string("type"));
    if (type == "grammar") {
      REDOUBT_TRY(input["pattern"], read_grammar(*given, tool.param("format"), out.format_field));
    } else if (type != "text") {
      return format.refuse("type", "expected text or grammar");
    }
  }
  Json function = {{"description", description.value_or("")},
                   {"parameters",
                    {{"type", "object"},
                     {"properties", {{"input", std::move(input)}}},
                     {"required", Json::array({"input"})},
                     {"additionalProperties", false}}}};
  if (name) function["name"] = *name;
  out.name = name.value_or("");
  if (!out.format_field.empty()) function["strict"] = true;
  out.function = {{"type", "function"}, {"function", std::move(function)}};
  return out;
}

Json custom_arguments(std::string input) { return {{"input", std::move(input)}}; }

void CustomInput::end_pair(std::string& out) {
  if (first_ != 0) append_utf8(out, 0xfffd);
  first_ = 0;
}

void CustomInput::add_unit(char32_t unit, std::string& out) {
  const bool is_second = unit >= 0xdc00 && unit < 0xe000;
  if (is_second && first_ != 0) {
    append_utf8(out, 0x10000 + ((first_ - 0xd800) << 10) + (unit - 0xdc00));
    first_ = 0;
    return;
  }
  end_pair(out);
  if (unit >= 0xd800 && unit < 0xdc00)
    first_ = unit;
  else
    append_utf8(out, is_second ? 0xfffd : unit);
}

void CustomInput::read_escape(char c, std::string& out) {
  if (place_ == Place::hex) {
    const bool is_digit = c >= '0' && c <= '9';
    const char lower = static_cast<char>(c | 0x20);
    if (!is_digit && (lower < 'a' || lower > 'f')) {
      place_ = Place::text;
      add_unit(0xfffd, out);
      return read(c, out);
    }
    unit_ = unit_ * 16 + static_cast<char32_t>(is_digit ? c - '0' : lower - 'a' + 10);
    if (++hex_digits_ < 4) return;
    place_ = Place::text;
    return add_unit(unit_, out);
  }
  place_ = Place::text;
  switch (c) {
    case 'u':
      place_ = Place::hex;
      unit_ = 0;
      hex_digits_ = 0;
      return;
    case 'n':
      return add_unit('\n', out);
    case 't':
      return add_unit('\t', out);
    case 'r':
      return add_unit('\r', out);
    case 'b':
      return add_unit('\b', out);
    case 'f':
      return add_unit('\f', out);
    default:
      end_pair(out);
      out += c;
  }
}

void CustomInput::read(char c, std::string& out) {
  switch (place_) {
    case Place::opening:
      kept_ += c;
      if (c == kOpening[opened_]) {
        if (++opened_ < kOpening.size()) return;
        place_ = Place::text;
        kept_.clear();
      } else if (!may_be_spaced(opened_) || (c != ' ' && c != '\n' && c != '\t' && c != '\r')) {
        place_ = Place::other;
      }
      return;
    case Place::text:
      if (c == '\\') {
        place_ = Place::escape;
        return;
      }
      end_pair(out);
      if (c == '"')
        place_ = Place::over;
      else
        out += c;
      return;
    case Place::escape:
    case Place::hex:
      return read_escape(c, out);
    case Place::over:
      return;
    case Place::other:
      kept_ += c;
  }
}

std::string CustomInput::push(std::string_view arguments) {
  std::string out;
  for (const char c : arguments) read(c, out);
  return out;
}

std::string CustomInput::finish() {
  std::string out;
  end_pair(out);
  return place_ == Place::other ? std::move(kept_) : out;
}

std::string custom_input(std::string_view arguments) {
  CustomInput input;
  std::string text = input.push(arguments);
  return text + input.finish();
}

}  // namespace redoubt
