// The filter tojson: Python's json.dumps, character for character, without the HTML escapes of Jinja's own filter
// (chat templates are rendered with that one replaced).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/utf8.h"
#include "text/jinja_value.h"

namespace redoubt::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, size_t max_bytes) : style_(style), max_bytes_(max_bytes) {}

  Status write(const Value& value, int depth) {
    if (depth > kMaxValueDepth) return invalid("tojson: the value is nested too deep");
    if (out.size() > max_bytes_) return invalid(fmt::format("tojson: the text is longer than {} bytes", max_bytes_));
    if (value.is_none()) {
      out += "null";
    } else if (value.is_bool()) {
      out += value.integer() ? "true" : "false";
    } else if (value.is_integer()) {
      out += to_string(value.integer());
    } else if (value.is_float()) {
      write_float(value.number());
    } else if (value.is_text()) {
      write_text(value.bytes());
    } else if (value.is_list()) {
      return write_list(value.items(), depth);
    } else if (value.is_dict()) {
      return write_dict(value.container(), depth);
    } else {
      return invalid(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
    return ok();
  }

  std::string out;

 private:
  void write_float(double value) {
    if (std::isnan(value)) {
      out += "NaN";
    } else if (std::isinf(value)) {
      out += value < 0 ? "-Infinity" : "Infinity";
    } else {
      out += python_repr(value);
    }
  }

  void write_text(std::string_view text) {
    out += '"';
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = decode_utf8(text, i);
      write_character(c.value, text.substr(i, static_cast<size_t>(c.bytes)));
      i += static_cast<size_t>(c.bytes);
    }
    out += '"';
  }

  void write_character(char32_t c, std::string_view bytes) {
    switch (c) {
      case '"':
        out += "\\\"";
        return;
      case '\\':
        out += "\\\\";
        return;
      case '\n':
        out += "\\n";
        return;
      case '\r':
        out += "\\r";
        return;
      case '\t':
        out += "\\t";
        return;
      case '\b':
        out += "\\b";
        return;
      case '\f':
        out += "\\f";
        return;
      default:
        break;
    }
    if (c >= 0x20 && (!style_.ensure_ascii || c < 0x7f)) {
      out += bytes;
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    } else {
      const uint32_t rest = static_cast<uint32_t>(c) - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
    }
  }

  void new_line(int depth) {
    out += '\n';
    for (int i = 0; i < depth && out.size() <= max_bytes_; ++i) out += style_.indent;
  }

  void separate(bool first, int depth) {
    if (!first) out += style_.item_separator;
    if (style_.pretty) new_line(depth + 1);
  }

  Status write_list(const std::vector<Value>& items, int depth) {
    if (items.empty()) return out += "[]", ok();
    out += '[';
    for (size_t i = 0; i < items.size(); ++i) {
      separate(i == 0, depth);
      REDOUBT_CHECK(write(items[i], depth + 1));
    }
    if (style_.pretty) new_line(depth);
    out += ']';
    return ok();
  }

  Status write_key(const Value& key) {
    if (key.is_text()) {
      write_text(key.bytes());
      return ok();
    }
    out += '"';
    REDOUBT_CHECK(write(key, 0));
    out += '"';
    return ok();
  }

  Status write_dict(const Container& dict, int depth) {
    if (dict.keys.empty()) return out += "{}", ok();
    std::vector<size_t> order(dict.keys.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (style_.sort_keys) {
      int64_t steps = INT64_MAX;  // keys are scalars
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return compare(dict.keys[a], dict.keys[b], steps) == -1; });
    }
    out += '{';
    for (size_t i = 0; i < order.size(); ++i) {
      separate(i == 0, depth);
      REDOUBT_CHECK(write_key(dict.keys[order[i]]));
      out += style_.key_separator;
      REDOUBT_CHECK(write(dict.values[order[i]], depth + 1));
    }
    if (style_.pretty) new_line(depth);
    out += '}';
    return ok();
  }

  const JsonStyle& style_;
  size_t max_bytes_;
};

}  // namespace

Result<std::string> to_json(const Value& value, const JsonStyle& style, size_t max_bytes) {
  JsonWriter writer(style, max_bytes);
  REDOUBT_CHECK(writer.write(value, 0));
  if (writer.out.size() > max_bytes)
    return Error{ErrorCode::context_length, fmt::format("tojson: the text is longer than {} bytes", max_bytes), {}};
  return std::move(writer.out);
}

}  // namespace redoubt::jinja
