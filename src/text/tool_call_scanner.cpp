#include "text/tool_call_scanner.h"

#include <utility>

#include "core/json.h"

namespace redoubt {
namespace {

bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// The text that a JSON string with these quotes stands for; false if it is none.
bool unquote(const std::string& quoted, std::string& text) {
  const auto parsed = parse_json(quoted);
  if (!parsed || !parsed->is_string()) return false;
  text = parsed->get<std::string>();
  return true;
}

}  // namespace

JsonNesting::State JsonNesting::push(char c) {
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
    }
    return State::inside;
  }
  if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    open_ += c == '{' ? '}' : ']';
  } else if (c == '}' || c == ']') {
    if (open_.empty() || open_.back() != c) return State::broken;
    open_.pop_back();
    if (open_.empty()) return State::complete;
  }
  return State::inside;
}

bool CallObject::end_key() {
  std::string name;
  if (!unquote(key_, name)) return false;
  is_arguments_ = name == "arguments" || name == "parameters";
  key_ = name;
  if (name == "name") return !has_name_;
  if (is_arguments_) return !has_arguments_;
  return !strict_ || name == "type" || name == "id";
}

bool CallObject::begin_value(char c) {
  value_.clear();
  escaped_ = false;
  if (is_arguments_) {
    has_arguments_ = true;
    if (c != '{' && c != '"') return false;  // arguments are an object, or a string that holds one
  }
  if (key_ == "name" && c != '"') return false;
  if (c == '"') {
    part_ = Part::text_value;
    value_ += c;
  } else if (c == '{' || c == '[') {
    part_ = Part::nested_value;
    nesting_ = JsonNesting();
    nesting_.push(c);
    if (is_arguments_) arguments_ += c;
  } else {
    part_ = Part::bare_value;
  }
  return true;
}

bool CallObject::end_text_value() {
  std::string text;
  if (!unquote(value_, text)) return false;
  if (key_ == "name") {
    if (text.empty()) return false;
    name_ = text;
    has_name_ = true;
  } else if (is_arguments_) {
    const size_t first = text.find_first_not_of(" \n\r\t");
    if (first == std::string::npos || text[first] != '{') return false;
    arguments_ += text;
  }
  part_ = Part::comma_or_end;
  return true;
}

CallObject::State CallObject::end_member(char c) {
  if (c == ',') {
    part_ = Part::key;
    return State::open;
  }
  return c == '}' && has_name_ && (has_arguments_ || !strict_) ? State::complete : State::broken;
}

CallObject::State CallObject::push(char c) {
  const auto going = [](bool good) { return good ? State::open : State::broken; };
  switch (part_) {
    case Part::brace:
      part_ = Part::key_or_end;
      return going(c == '{');
    case Part::key_or_end:
    case Part::key:
      if (is_blank(c)) return State::open;
      part_ = Part::in_key;
      key_ = "\"";
      escaped_ = false;
      return going(c == '"');
    case Part::in_key:
      key_ += c;
      if (key_.size() > 256) return State::broken;
      if (!escaped_ && c == '"') {
        part_ = Part::colon;
        return going(end_key());
      }
      escaped_ = !escaped_ && c == '\\';
      return State::open;
    case Part::colon:
      if (is_blank(c)) return State::open;
      part_ = Part::value;
      return going(c == ':');
    case Part::value:
      return is_blank(c) ? State::open : going(begin_value(c));
    case Part::text_value:
      value_ += c;
      if (!escaped_ && c == '"') return going(end_text_value());
      escaped_ = !escaped_ && c == '\\';
      return State::open;
    case Part::nested_value: {
      const JsonNesting::State state = nesting_.push(c);
      if (is_arguments_ && state != JsonNesting::State::broken) arguments_ += c;
      if (state == JsonNesting::State::complete) part_ = Part::comma_or_end;
      return going(state != JsonNesting::State::broken);
    }
    case Part::bare_value:
      if (c == ',' || c == '}') return end_member(c);
      if (is_blank(c)) part_ = Part::comma_or_end;
      return going(c != '"' && c != '{' && c != '[' && c != ':' && c != ']');
    case Part::comma_or_end:
      return is_blank(c) ? State::open : end_member(c);
  }
  return State::broken;
}

std::string CallObject::take_arguments() {
  if (!has_name_) return {};
  return std::exchange(arguments_, {});
}

}  // namespace redoubt
