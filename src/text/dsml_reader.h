// Reads, as it comes, the markup in which DeepSeek V3.2 and V4 write tool calls, and makes JSON arguments of it.
//
//   <｜DSML｜invoke name="NAME">
//   <｜DSML｜parameter name="KEY" string="true">any text</｜DSML｜parameter>
//   <｜DSML｜parameter name="KEY" string="false">any JSON</｜DSML｜parameter>
//   </｜DSML｜invoke>
//
// in a block <｜DSML｜function_calls> (V3.2) or <｜DSML｜tool_calls> (V4). What is said to be JSON and is none becomes
// a string; an object or list is passed on while it comes, as it is.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/output_parser.h"
#include "text/tool_call_scanner.h"

namespace redoubt {

class DsmlReader {
 public:
  // `mark`: what stands for ｜DSML｜ in the text that is read.
  explicit DsmlReader(std::string_view mark);

  // What begins a block of calls, the blank lines before it included.
  std::array<std::string, 4> beginnings() const;

  enum class State : uint8_t { open, ended, broken };
  // Reads behind a beginning, and takes what it has read from `text`; `final`: no more of a value will come (a tag that
  // was cut stays in `text`). Broken: what is left is no markup of this kind, and a call that was begun has ended.
  State read(std::string& text, bool final);
  struct Step {
    OutputEvent::Kind kind;  // of a call
    std::string text;
  };
  std::vector<Step> take_steps();

 private:
  enum class Place : uint8_t { block, call, text, json };
  enum class Tag : uint8_t { none, undecided, found };

  Tag take_tag(std::string& text, std::string_view tag) const;
  bool read_block(std::string& text, State& state);
  bool read_call(std::string& text, State& state);
  bool read_text(std::string& text, bool final);
  bool read_json(std::string& text, bool final);
  bool begin_parameter(std::string_view header);
  void end_value();
  void say(std::string_view arguments);

  std::string mark_, close_;
  Place place_ = Place::block;
  bool first_ = true;     // parameter of this call
  bool quoted_ = false;   // the string's opening quote is out
  std::string value_;     // JSON that is kept until it is whole
  bool passing_ = false;  // an object or list, passed on
  std::vector<Step> steps_;
};

}  // namespace redoubt
