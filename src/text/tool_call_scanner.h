// Reads, character by character, the JSON in which models write tool calls.
//
// JsonNesting finds where one JSON value ends. CallObject reads {"name": ..., "arguments"|"parameters": ...} and hands
// the arguments on while they come, exactly as the model wrote them (a JSON string that holds JSON is unwrapped).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace redoubt {

// Where a value that begins with { or [ ends. Only brackets and strings matter.
class JsonNesting {
 public:
  enum class State : uint8_t { inside, complete, broken };
  State push(char c);
  bool in_string() const { return in_string_; }

 private:
  std::string open_;  // the closing brackets that are due
  bool in_string_ = false, escaped_ = false;
};

class CallObject {
 public:
  enum class State : uint8_t { open, complete, broken };
  // strict: other members than those of a call break it, and a call needs arguments (where an object may be an answer).
  explicit CallObject(bool strict) : strict_(strict) {}

  State push(char c);  // from the opening brace on
  bool in_string() const {
    return part_ == Part::in_key || part_ == Part::text_value || (part_ == Part::nested_value && nesting_.in_string());
  }
  bool has_name() const { return has_name_; }
  const std::string& name() const { return name_; }
  bool has_arguments() const { return has_arguments_; }
  std::string take_arguments();  // what came since the last time; nothing before the name is known

 private:
  enum class Part : uint8_t {
    brace,
    key_or_end,
    key,
    in_key,
    colon,
    value,
    text_value,
    nested_value,
    bare_value,
    comma_or_end
  };
  bool begin_value(char c);
  bool end_text_value();
  bool end_key();
  State end_member(char c);

  bool strict_;
  Part part_ = Part::brace;
  bool escaped_ = false;
  bool is_arguments_ = false;  // the value being read
  bool has_name_ = false, has_arguments_ = false;
  std::string key_, value_, name_, arguments_;
  JsonNesting nesting_;
};

}  // namespace redoubt
