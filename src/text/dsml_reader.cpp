#include "text/dsml_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/json.h"
#include "core/trimmed.h"

namespace redoubt {
namespace {

using Kind = OutputEvent::Kind;

constexpr size_t kMaxHeaderBytes = 1024;  // of a tag with its attributes

// Of a string's inside. Byte by byte, so that it does not matter how a text is cut.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<uint8_t>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  return out;
}

// The longest end of `text` that may be the beginning of `tag`.
size_t begun(std::string_view text, std::string_view tag) {
  for (size_t length = std::min(tag.size() - 1, text.size()); length > 0; --length)
    if (text.substr(text.size() - length) == tag.substr(0, length)) return length;
  return 0;
}

void drop_blanks(std::string& text) { text.erase(0, std::min(text.find_first_not_of(kBlanks), text.size())); }

}  // namespace

DsmlReader::DsmlReader(std::string_view mark) : mark_(mark), close_("</" + mark_ + "parameter>") {}

std::array<std::string, 4> DsmlReader::beginnings() const {
  const std::string v32 = "<" + mark_ + "function_calls>", v4 = "<" + mark_ + "tool_calls>";
  return {"\n\n" + v32, "\n\n" + v4, v32, v4};
}

std::vector<DsmlReader::Step> DsmlReader::take_steps() { return std::exchange(steps_, {}); }

void DsmlReader::say(std::string_view arguments) {
  if (!steps_.empty() && steps_.back().kind == Kind::tool_arguments)
    steps_.back().text += arguments;
  else if (!arguments.empty())
    steps_.push_back({Kind::tool_arguments, std::string(arguments)});
}

DsmlReader::Tag DsmlReader::take_tag(std::string& text, std::string_view tag) const {
  if (text.starts_with(tag)) {
    text.erase(0, tag.size());
    return Tag::found;
  }
  return tag.starts_with(text) ? Tag::undecided : Tag::none;
}

DsmlReader::State DsmlReader::read(std::string& text, bool final) {
  State state = State::open;
  for (bool more = true; more && state == State::open;) {
    if (text.empty()) break;
    switch (place_) {
      case Place::block:
        more = read_block(text, state);
        break;
      case Place::call:
        more = read_call(text, state);
        break;
      case Place::text:
        more = read_text(text, final);
        break;
      case Place::json:
        more = read_json(text, final);
        break;
    }
  }
  return state;
}

bool DsmlReader::read_block(std::string& text, State& state) {
  drop_blanks(text);
  if (text.empty()) return false;
  bool undecided = false;
  for (const char* name : {"function_calls>", "tool_calls>"}) {
    const Tag tag = take_tag(text, "</" + mark_ + name);
    undecided = undecided || tag == Tag::undecided;
    if (tag != Tag::found) continue;
    state = State::ended;
    return true;
  }
  const std::string invoke = "<" + mark_ + "invoke name=\"";
  if (text.starts_with(invoke)) {
    const size_t end = text.find("\">", invoke.size());
    if (end == std::string::npos && text.size() < kMaxHeaderBytes + 2) return false;
    const std::string name = end >= kMaxHeaderBytes ? "" : text.substr(invoke.size(), end - invoke.size());
    if (!name.empty() && name.find_first_of("\"<>\n") == std::string::npos) {
      text.erase(0, end + 2);
      steps_.push_back({Kind::tool_begin, name});
      say("{");
      place_ = Place::call;
      first_ = true;
      return true;
    }
  } else if (undecided || invoke.starts_with(text)) {
    return false;
  }
  state = State::broken;
  return true;
}

bool DsmlReader::read_call(std::string& text, State& state) {
  drop_blanks(text);
  if (text.empty()) return false;
  const Tag end = take_tag(text, "</" + mark_ + "invoke>");
  if (end == Tag::found) {
    say("}");
    steps_.push_back({Kind::tool_end, ""});
    place_ = Place::block;
    return true;
  }
  const std::string parameter = "<" + mark_ + "parameter ";
  if (text.starts_with(parameter)) {
    const size_t close = text.find("\">", parameter.size());
    if (close == std::string::npos && text.size() < kMaxHeaderBytes + 2) return false;
    if (close < kMaxHeaderBytes &&
        begin_parameter(std::string_view(text).substr(parameter.size(), close + 1 - parameter.size()))) {
      text.erase(0, close + 2);
      return true;
    }
  } else if (end == Tag::undecided || parameter.starts_with(text)) {
    return false;
  }
  // What stands here is no parameter: the call has what it has.
  say("}");
  steps_.push_back({Kind::tool_end, ""});
  place_ = Place::block;
  state = State::broken;
  return true;
}

// name="KEY" string="true"
bool DsmlReader::begin_parameter(std::string_view header) {
  constexpr std::string_view kName = "name=\"", kTrue = " string=\"true\"", kFalse = " string=\"false\"";
  if (!header.starts_with(kName)) return false;
  header.remove_prefix(kName.size());
  const size_t end = header.find('"');
  const std::string_view key = header.substr(0, end), rest = header.substr(end + 1);
  const bool is_text = rest == kTrue;
  if (key.empty() || (!is_text && rest != kFalse && !rest.empty())) return false;
  say((first_ ? "\"" : ", \"") + escaped(key) + "\": ");
  first_ = false;
  quoted_ = passing_ = false;
  value_.clear();
  place_ = is_text ? Place::text : Place::json;
  return true;
}

bool DsmlReader::read_text(std::string& text, bool final) {
  if (!quoted_) say("\"");
  quoted_ = true;
  const size_t end = text.find(close_);
  if (end != std::string::npos) {
    say(escaped(std::string_view(text).substr(0, end)) + "\"");
    text.erase(0, end + close_.size());
    place_ = Place::call;
    return true;
  }
  const size_t sure = text.size() - (final ? 0 : begun(text, close_));
  say(escaped(std::string_view(text).substr(0, sure)));
  text.erase(0, sure);
  return false;
}

bool DsmlReader::read_json(std::string& text, bool final) {
  const size_t end = text.find(close_);
  const size_t sure = end != std::string::npos ? end : text.size() - (final ? 0 : begun(text, close_));
  value_ += text.substr(0, sure);
  text.erase(0, sure + (end != std::string::npos ? close_.size() : 0));
  const size_t first = value_.find_first_not_of(kBlanks);
  if (first != std::string::npos && (value_[first] == '{' || value_[first] == '[')) passing_ = true;
  if (passing_) {
    say(value_);
    value_.clear();
  }
  if (end == std::string::npos) return false;
  if (!passing_) end_value();
  place_ = Place::call;
  return true;
}

void DsmlReader::end_value() {
  const auto parsed = parse_json(value_);
  say(parsed ? dump_json(*parsed) : "\"" + escaped(value_) + "\"");
}

}  // namespace redoubt
