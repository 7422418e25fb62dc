// Jinja's filters on single values; those on sequences are in jinja_sequence_filters.
#include "text/jinja_filters.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/utf8.h"

namespace redoubt::jinja {
namespace {

OriginText text_of(Evaluator& ev, const Value& value) { return ev.to_text(value); }

Value use_default(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "default", arguments, {"default_value", "boolean"});
  const bool replaced = input.is_undefined() || (bound.flag(1, false) && !is_true(input));
  return !replaced ? input : bound[0] ? *bound[0] : ev.data("");
}

Value trim(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "trim", arguments, {"chars"});
  return ev.text(strip(text_of(ev, input), Side::both, bound.text(0)));
}

Value replace_filter(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "replace", arguments, {"old", "new", "count"});
  if (!bound[0] || !bound[1]) return ev.fail("replace: expected an old and a new text");
  const OriginText text = text_of(ev, input), new_part = text_of(ev, *bound[1]);
  const OriginText old_part = text_of(ev, *bound[0]);
  // Counts before it makes: many short matches with a long replacement would outgrow every limit.
  size_t matches = old_part.empty() ? text.size() + 1 : 0;
  for (size_t at = text.bytes().find(old_part.bytes()); !old_part.empty() && at != std::string::npos;
       at = text.bytes().find(old_part.bytes(), at + old_part.size())) {
    ++matches;
  }
  if (!ev.charge(matches / 4 + text.size() / 64)) return {};
  if (new_part.size() > 0 && matches > ev.limits().max_output_bytes / new_part.size()) return ev.fail_too_long();
  return ev.text(replace(text, old_part.bytes(), new_part, bound.integer(2, -1)));
}

Value indent(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "indent", arguments, {"width", "first", "blank"});
  OriginText margin;
  if (bound[0] && bound[0]->is_text()) {
    margin = bound[0]->text();
  } else {
    margin = OriginText::data(std::string(static_cast<size_t>(std::clamp<int64_t>(bound.integer(0, 4), 0, 1024)), ' '));
  }
  const OriginText text = text_of(ev, input);
  OriginText out;
  for (size_t begin = 0; begin <= text.size() && !ev.stopped();) {
    const size_t newline = text.bytes().find('\n', begin);
    const size_t end = newline == std::string::npos ? text.size() : newline;
    if (begin == 0 ? bound.flag(1, false) : (end > begin || bound.flag(2, false))) out.append(margin);
    out.append(text, begin, newline == std::string::npos ? end : end + 1);
    ev.charge(1);
    if (out.size() > ev.limits().max_output_bytes) return ev.fail_too_long();
    if (newline == std::string::npos) break;
    begin = end + 1;
  }
  return ev.text(std::move(out));
}

Value to_integer(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "int", arguments, {"default", "base"});
  const Value fallback = bound[0] ? *bound[0] : Value(0);
  if (input.is_float())
    return std::fabs(input.number()) < 1e37 ? Value(static_cast<Integer>(input.number())) : fallback;
  if (input.is_number()) return Value(input.integer());
  if (!input.is_text()) return fallback;
  std::string digits = strip(input.text(), Side::both).bytes();
  std::erase(digits, '_');
  const int64_t base = bound.integer(1, 10);
  bool negative = false;
  size_t i = 0;
  if (i < digits.size() && (digits[i] == '-' || digits[i] == '+')) negative = digits[i++] == '-';
  if (base == 16 && digits.compare(i, 2, "0x") == 0) i += 2;
  Integer value = 0;
  size_t used = 0;
  for (; i < digits.size(); ++i, ++used) {
    const char c = digits[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10 : 99;
    if (digit >= base) break;
    if (__builtin_mul_overflow(value, Integer{base}, &value) || __builtin_add_overflow(value, Integer{digit}, &value))
      return fallback;
  }
  if (used > 0 && i == digits.size()) return Value(negative ? -value : value);
  double number = 0;  // int("1.9") goes through float
  const char* end = digits.data() + digits.size();
  if (base == 10 && !digits.empty() && std::from_chars(digits.data(), end, number).ptr == end &&
      std::fabs(number) < 1e37) {
    return Value(static_cast<Integer>(number));
  }
  return fallback;
}

Value to_float(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "float", arguments, {"default"});
  if (input.is_number()) return Value(input.number());
  if (input.is_text()) {
    const std::string digits = strip(input.text(), Side::both).bytes();
    double number = 0;
    const char* begin = digits.data() + (!digits.empty() && digits[0] == '+' ? 1 : 0);
    if (begin != digits.data() + digits.size() &&
        std::from_chars(begin, digits.data() + digits.size(), number).ptr == digits.data() + digits.size()) {
      return Value(number);
    }
  }
  return bound[0] ? *bound[0] : Value(0.0);
}

Value round_filter(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "round", arguments, {"precision", "method"});
  if (input.is_undefined()) return ev.attribute(input, "");
  if (!input.is_number()) return ev.fail(fmt::format("type {} doesn't define __round__ method", type_name(input)));
  const int64_t precision = std::clamp<int64_t>(bound.integer(0, 0), -300, 300);
  const std::string* method = bound.text(1);
  const double value = input.number();
  if (method && *method != "common") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    return Value((*method == "ceil" ? std::ceil(value * scale) : std::floor(value * scale)) / scale);
  }
  if (input.is_integer() && precision >= 0) return Value(input.integer());
  if (precision < 0) {
    const double scale = std::pow(10.0, static_cast<double>(-precision));
    const double rounded = std::nearbyint(value / scale) * scale;
    return input.is_float() ? Value(rounded) : Value(static_cast<Integer>(rounded));
  }
  // Rounds the decimal digits of the exact value, half to even, as Python does.
  const std::string digits = fmt::format("{:.{}f}", value, precision);
  double rounded = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), rounded);
  return Value(rounded);
}

Value absolute(Evaluator& ev, const Value& input, Arguments&) {
  if (input.is_undefined()) return ev.attribute(input, "");
  if (!input.is_number()) return ev.fail(fmt::format("bad operand type for abs(): '{}'", type_name(input)));
  if (input.is_float()) return Value(std::fabs(input.number()));
  return input.integer() < 0 ? ev.arithmetic(Op::sub, Value(0), input) : Value(input.integer());
}

Value escape(Evaluator& ev, const Value& input, Arguments&) {
  const OriginText text = text_of(ev, input);
  OriginText out;
  for (size_t i = 0; i < text.size();) {
    const char c = text.bytes()[i];
    const std::string_view entity = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '"'  ? "&#34;"
                                    : c == '\'' ? "&#39;"
                                                : "";
    if (entity.empty()) {
      const size_t next = std::min(text.bytes().find_first_of("&<>\"'", i + 1), text.size());
      out.append(text, i, next);
      i = next;
    } else {
      out.append_like(entity, text, i++);
    }
  }
  ev.charge(out.size() / 16);
  return ev.text(std::move(out));
}

Value tojson(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  // Jinja's own filter has indent as its first argument; a number there can mean nothing else.
  const bool indent_first = bound[0] && !bound[1] && bound[0]->is_integer();
  const Value* indent = indent_first ? bound[0] : bound[1];
  style.ensure_ascii = !indent_first && bound.flag(0, false);
  style.sort_keys = bound.flag(3, false);
  if (indent && !indent->is_none() && !indent->is_undefined()) {
    style.pretty = true;
    style.item_separator = ",";
    if (indent->is_text()) {
      style.indent = indent->bytes();
    } else if (indent->is_integer() || indent->is_bool()) {
      style.indent = std::string(static_cast<size_t>(std::clamp<Integer>(indent->integer(), 0, 64)), ' ');
    } else {
      return ev.fail("tojson: expected an integer or a string as indent");
    }
  }
  if (bound[2] && bound[2]->is_list() && bound[2]->items().size() == 2 && bound[2]->items()[0].is_text() &&
      bound[2]->items()[1].is_text()) {
    style.item_separator = bound[2]->items()[0].bytes();
    style.key_separator = bound[2]->items()[1].bytes();
  }
  auto written = to_json(input, style, ev.limits().max_output_bytes);
  if (!written) return ev.fail(std::move(written).error());
  ev.charge(written->size() / 16);
  return ev.data(std::move(*written));
}

Value from_json_filter(Evaluator& ev, const Value& input, Arguments&) {
  if (!input.is_text()) return ev.fail(fmt::format("from_json: the JSON object must be str, not {}", type_name(input)));
  ev.charge(input.text().size() / 8);
  auto parsed = parse_json(input.bytes());
  if (!parsed) return ev.fail(std::move(parsed).error().within("from_json"));
  return ev.from_json(*parsed);
}

Value format_filter(Evaluator& ev, const Value& input, Arguments& arguments) {
  if (!arguments.keywords.empty()) {
    std::vector<std::pair<Value, Value>> entries;
    for (auto& [name, value] : arguments.keywords) entries.emplace_back(ev.data(name), value);
    return format_percent(ev, text_of(ev, input), ev.dict(std::move(entries)));
  }
  return format_percent(ev, text_of(ev, input), ev.tuple(arguments.positional));
}

Value center(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "center", arguments, {"width"});
  const OriginText text = text_of(ev, input);
  const int64_t width = bound.integer(0, 80), size = static_cast<int64_t>(count_characters(text.bytes()));
  const int64_t missing = width > size ? width - size : 0;
  if (missing > static_cast<int64_t>(ev.limits().max_output_bytes)) return ev.fail_too_long();
  const int64_t left = missing / 2 + (missing & width & 1);
  if (!ev.charge(static_cast<size_t>(missing) / 16)) return {};
  OriginText out = OriginText::data(std::string(static_cast<size_t>(left), ' '));
  out.append(text);
  out.append_data(std::string(static_cast<size_t>(missing - left), ' '));
  return ev.text(std::move(out));
}

Value truncate(Evaluator& ev, const Value& input, Arguments& arguments) {
  const Bound bound(ev, "truncate", arguments, {"length", "killwords", "end", "leeway"});
  const OriginText text = text_of(ev, input),
                   end = bound[2] && bound[2]->is_text() ? bound[2]->text() : OriginText::markup("...");
  const std::vector<size_t> offsets = character_offsets(text.bytes());
  const auto size = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t length = bound.integer(0, 255), kept = length - static_cast<int64_t>(count_characters(end.bytes()));
  if (kept < 0) return ev.fail("truncate: expected length of at least that of the end text");
  if (size <= length + bound.integer(3, 5)) return ev.text(text);
  size_t cut = offsets[static_cast<size_t>(std::min(kept, size))];
  if (!bound.flag(1, false)) {
    const size_t space = text.bytes().substr(0, cut).rfind(' ');
    if (space != std::string::npos) cut = space;
  }
  OriginText out = text.slice(0, cut);
  out.append(end);
  return ev.text(std::move(out));
}

Value wordcount(Evaluator& ev, const Value& input, Arguments&) {
  const OriginText text = text_of(ev, input);
  size_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text.bytes(), i);
    const bool is_word = is_alpha(c.value) || (c.value >= '0' && c.value <= '9') || c.value == '_';
    words += is_word && !inside ? 1 : 0;
    inside = is_word;
    i += static_cast<size_t>(c.bytes);
  }
  return Value(words);
}

Value urlencode(Evaluator& ev, const Value& input, Arguments&) {
  std::string out;
  const OriginText text = text_of(ev, input);
  for (const char c : text.bytes()) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return ev.data(std::move(out));
}

}  // namespace

const FilterTable& value_filters() {
  static const FilterTable table{
      {"default", use_default},
      {"d", use_default},
      {"trim", trim},
      {"replace", replace_filter},
      {"indent", indent},
      {"int", to_integer},
      {"float", to_float},
      {"round", round_filter},
      {"abs", absolute},
      {"escape", escape},
      {"e", escape},
      {"forceescape", escape},
      {"tojson", tojson},
      {"from_json", from_json_filter},
      {"fromjson", from_json_filter},
      {"format", format_filter},
      {"center", center},
      {"truncate", truncate},
      {"wordcount", wordcount},
      {"urlencode", urlencode},
      {"string", [](Evaluator& ev, const Value& v, Arguments&) { return v.is_text() ? v : ev.text(text_of(ev, v)); }},
      {"safe", [](Evaluator& ev, const Value& v, Arguments&) { return v.is_text() ? v : ev.text(text_of(ev, v)); }},
      {"upper", [](Evaluator& ev, const Value& v, Arguments&) { return ev.text(upper(text_of(ev, v))); }},
      {"lower", [](Evaluator& ev, const Value& v, Arguments&) { return ev.text(lower(text_of(ev, v))); }},
      {"capitalize", [](Evaluator& ev, const Value& v, Arguments&) { return ev.text(capitalize(text_of(ev, v))); }},
      {"title", [](Evaluator& ev, const Value& v, Arguments&) { return ev.text(title_filter(text_of(ev, v))); }},
  };
  return table;
}

Value Evaluator::filter(const std::string& name, const Value& input, Arguments& arguments) {
  for (const FilterTable* table : {&value_filters(), &sequence_filters()}) {
    const auto found = table->find(name);
    if (found == table->end()) continue;
    if (input.is_text() && !charge(input.text().size() / 64)) return {};
    return found->second(*this, input, arguments);
  }
  return fail(fmt::format("No filter named '{}'.", name.substr(0, 64)));
}

// %s %r %d %i %f %x and %%, with flags, width and precision; %(name)s where values is a dict.
Value format_percent(Evaluator& ev, const OriginText& format, const Value& values) {
  OriginText out;
  size_t next_value = 0;
  const std::vector<Value> single{values};
  const std::vector<Value>& items = values.is_tuple() ? values.items() : single;
  for (size_t i = 0; i < format.size() && !ev.stopped();) {
    if (format.bytes()[i] != '%') {
      const size_t next = std::min(format.bytes().find('%', i), format.size());
      out.append(format, i, next);
      i = next;
      continue;
    }
    if (++i < format.size() && format.bytes()[i] == '%') {
      out.append(format, i, i + 1);
      ++i;
      continue;
    }
    const Value* value = nullptr;
    if (i < format.size() && format.bytes()[i] == '(') {
      const size_t close = format.bytes().find(')', i);
      if (close == std::string::npos || !values.is_dict()) return ev.fail("format requires a mapping");
      value = values.container().find(std::string_view(format.bytes()).substr(i + 1, close - i - 1));
      if (!value) return ev.fail("format: a key is absent");
      i = close + 1;
    }
    const size_t spec_begin = i;
    i = std::min(format.bytes().find_first_not_of("-+ #0123456789.", i), format.size());
    if (i == format.size()) return ev.fail("incomplete format");
    std::string spec = format.bytes().substr(spec_begin, i - spec_begin);
    const char kind = format.bytes()[i++];
    if (!value) {
      if (next_value >= items.size()) return ev.fail("not enough arguments for format string");
      value = &items[next_value++];
    }
    if (spec.size() > 8 || std::count_if(spec.begin(), spec.end(), [](char c) { return c >= '0' && c <= '9'; }) > 4)
      return ev.fail("format: the width is too large");
    if (kind == 's' || kind == 'r') {
      std::string bytes;
      if (kind == 'r' || !value->is_text())
        append_repr(bytes, *value, ev.limits().max_output_bytes, kind == 'r' ? 1 : 0);
      OriginText part = kind == 's' && value->is_text() ? value->text() : OriginText::data(std::move(bytes));
      const bool left = spec.starts_with('-');
      const size_t width = std::strtoul(spec.c_str() + (left ? 1 : 0), nullptr, 10),
                   size = count_characters(part.bytes());
      const std::string padding(width > size ? width - size : 0, ' ');
      if (!left) out.append_data(padding);
      out.append(part);
      if (left) out.append_data(padding);
    } else if (std::string_view("dixXfFeEgG").find(kind) != std::string_view::npos) {
      if (!value->is_number())
        return ev.fail(fmt::format("%{} format: a real number is required, not {}", kind, type_name(*value)));
      const bool whole = kind == 'd' || kind == 'i' || kind == 'x' || kind == 'X';
      char buffer[512];
      if (whole) {
        const auto number = value->is_float() ? static_cast<long long>(std::clamp(value->number(), -9e18, 9e18))
                                              : static_cast<long long>(value->integer());
        std::snprintf(buffer, sizeof buffer, ("%" + spec + "ll" + kind).c_str(), number);
      } else {
        std::snprintf(buffer, sizeof buffer, ("%" + spec + kind).c_str(), value->number());
      }
      out.append_data(buffer);
    } else {
      return ev.fail("unsupported format character");
    }
    ev.charge(1);
    if (out.size() > ev.limits().max_output_bytes) return ev.fail_too_long();
  }
  if (next_value < items.size() && !values.is_dict() && values.is_tuple())
    return ev.fail("not all arguments converted during string formatting");
  if (next_value == 0 && !values.is_tuple() && !values.is_dict())
    return ev.fail("not all arguments converted during string formatting");
  return ev.text(std::move(out));
}

}  // namespace redoubt::jinja
