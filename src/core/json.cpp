#include "core/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

namespace redoubt {
namespace {

// Builds the document and refuses, on the way, what the library would accept silently. A key is appended, not inserted:
// inserting looks at all keys before it, which is hours for a body of some ten megabytes.
class LimitedReader : public nlohmann::json_sax<Json> {
 public:
  LimitedReader(Json& root, const JsonLimits& limits) : root_(root), limits_(limits) {}

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override { return add(value) != nullptr; }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return fail("not JSON"); }
  bool start_object(size_t) override { return enter(Json::object()); }
  bool start_array(size_t) override { return enter(Json::array()); }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool end_object() override {
    const bool is_good = has_no_key_twice(open_.back()->get_ref<const Json::object_t&>());
    open_.pop_back();
    return is_good;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return fail(fmt::format("not JSON at byte {}", position));
  }

  std::string failure = "not JSON";

 private:
  bool enter(Json&& empty) {
    if (open_.size() == static_cast<size_t>(limits_.max_depth))
      return fail(fmt::format("JSON nested deeper than {}", limits_.max_depth));
    Json* added = add(std::move(empty));
    if (added != nullptr) open_.push_back(added);
    return added != nullptr;
  }

  // Where it stands: valid until the next one is added beside it, and that comes after its own end.
  template <class Value>
  Json* add(Value&& value) {
    if (++values_ > limits_.max_values) {
      fail(fmt::format("JSON of more than {} values", limits_.max_values));
      return nullptr;
    }
    if (open_.empty()) {
      root_ = std::forward<Value>(value);
      return &root_;
    }
    Json& into = *open_.back();
    if (into.is_array()) return &into.get_ref<Json::array_t&>().emplace_back(std::forward<Value>(value));
    Json::object_t::Container& entries = into.get_ref<Json::object_t&>();
    return &entries.emplace_back(std::move(key_), std::forward<Value>(value)).second;
  }

  bool has_no_key_twice(const Json::object_t& object) {
    std::vector<std::string_view> keys;
    keys.reserve(object.size());
    for (const auto& entry : object) keys.push_back(entry.first);
    std::ranges::sort(keys);
    const auto twice = std::ranges::adjacent_find(keys);
    return twice == keys.end() || fail(fmt::format("duplicate key '{}'", twice->substr(0, 64)));
  }

  bool fail(std::string why) {
    failure = std::move(why);
    return false;
  }

  Json& root_;
  const JsonLimits& limits_;
  std::vector<Json*> open_;  // arrays and objects that have not ended, from the outermost on
  std::string key_;          // of the value that comes
  size_t values_ = 0;
};

// Of a string whose text begins at `begin`: where its quote stands, or the end of all. An odd number of backslashes
// before a quote makes it a character.
size_t end_of_string(std::string_view text, size_t begin) {
  for (size_t from = begin;;) {
    const size_t quote = text.find('"', from);  // at the speed of memory: prompts have few
    if (quote == std::string_view::npos) return text.size();
    size_t escapes = quote;
    while (escapes > from && text[escapes - 1] == '\\') --escapes;
    if ((quote - escapes) % 2 == 0) return quote;
    from = quote + 1;
  }
}

// The character at `i` of a string's text as it was before it was escaped, with `i` moved behind it; beyond ASCII any.
char unescaped(std::string_view text, size_t& i) {
  if (text[i] != '\\' || i + 1 == text.size()) return text[i++];
  const char escape = text[i + 1];
  i += 2;
  if (escape != 'u') return escape == '"' || escape == '\\' ? escape : ' ';
  unsigned code = 0;
  const size_t digits = std::min<size_t>(4, text.size() - i);
  std::from_chars(text.data() + i, text.data() + i + digits, code, 16);
  i += digits;
  return code < 0x80 ? static_cast<char>(code) : ' ';
}

// Of the JSON that a string holds, what stands in its own strings left out.
int64_t values_in_string(std::string_view text) {
  int64_t values = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = unescaped(text, i);
    if (c == '"') in_string = !in_string;
    if (c == '\\' && in_string && i < text.size()) unescaped(text, i);
    if (!in_string && (c == ',' || c == '[' || c == '{')) ++values;
  }
  return values;
}

}  // namespace

Result<Json> parse_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return invalid(fmt::format("JSON of {} bytes: expected at most {}", text.size(), limits.max_bytes));
  }
  Json root;
  LimitedReader reader(root, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &reader)) return invalid(reader.failure);
  return root;
}

JsonValues count_json_values(std::string_view text, std::span<const std::string_view> keys_of_json) {
  JsonValues found{.outside_strings = 1};  // each value but the first comes after a comma or begins what holds it
  std::string_view last;                   // string
  bool after_colon = false;
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '"': {
        const std::string_view string = text.substr(i + 1, end_of_string(text, i + 1) - i - 1);
        const bool may_be_json = after_colon && (last.find('\\') != std::string_view::npos ||
                                                 std::ranges::find(keys_of_json, last) != keys_of_json.end());
        if (may_be_json) found.inside_strings += values_in_string(string);
        last = string;
        after_colon = false;
        i += string.size() + 1;
        break;
      }
      case ':':
        after_colon = true;
        break;
      case ',':
      case '[':
      case '{':
        ++found.outside_strings;
        after_colon = false;
        break;
      default:
        break;
    }
  }
  return found;
}

std::string dump_json(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace redoubt
