// The state of an answer's parser, apart from the tokenizer that names its marks.
//
// A mark is a token where the vocabulary has one (then the same characters typed as text are text), else its text. What
// may still become a mark, or a call that is not certain yet, is held back; what turns out to be no call is content
// again.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/dsml_reader.h"
#include "text/output_parser.h"
#include "text/tool_call_scanner.h"

namespace redoubt {

enum class Mark : uint8_t {
  think_begin,
  think_end,
  calls_begin,
  calls_end,
  call_begin,
  call_end,
  call_separator,
  hermes_begin,
  hermes_end,
  python_tag,
  dsml,  // part of the tags of DeepSeek V3.2 and V4
};
constexpr size_t kMarks = 11;
std::string_view mark_text(Mark mark);
using MarkIds = std::array<std::optional<int32_t>, kMarks>;
MarkIds find_marks(const Tokenizer& tokenizer);
// The text that a mark's token has in a grammar's vocabulary, since its own can be typed. FF is no byte of UTF-8, and
// no other token of that vocabulary has it.
std::string mark_bytes(Mark mark);

class AnswerParser {
 public:
  AnswerParser(const MarkIds& ids, const OutputParser::Options& options);

  std::vector<OutputEvent> push(int32_t token, std::string_view text);
  std::vector<OutputEvent> finish();
  bool in_reasoning() const { return place_ == Place::reasoning; }
  bool saw_tool_call() const { return calls_ > 0; }

 private:
  enum class Place : uint8_t {
    start,  // nothing came yet
    reasoning,
    content,
    answer_start,  // llama_json: an object here is a call
    between,       // DeepSeek: after calls_begin or a call
    header,        // DeepSeek: after call_begin, up to the arguments' brace
    arguments,     // DeepSeek: inside the arguments
    after,         // behind a call: its closing mark, a fence, white space
    object,        // Hermes, Llama: inside the call's object, or before its brace
    dsml,          // DeepSeek V3.2 and V4: inside a block of calls
  };

  bool step(bool final);  // moves on in held_; false if it needs more
  bool step_start(bool final);
  bool step_text(OutputEvent::Kind kind, std::initializer_list<Mark> marks, bool final);
  bool step_answer_start(bool final);
  bool step_between(bool final);
  bool step_header(bool final);
  bool step_arguments(bool final);
  bool step_after(bool final);
  bool step_object(bool final);
  bool step_before_dsml(bool final);
  bool step_dsml(bool final);
  bool accepts(Mark mark) const;  // whether the mark means something here
  void take(Mark mark);

  // The first of the marks that are spelled in held_: where, and which. Without one: how much is certainly not of a
  // mark.
  struct Found {
    size_t position = 0;
    std::optional<Mark> mark;
  };
  Found find(std::initializer_list<Mark> marks, bool final) const;
  bool begins_with(Mark mark, bool final, bool& undecided) const;

  bool open_call();  // the header is whole: true if it names a function
  void begin_call(std::string name);
  void end_call(Place next);
  void give_back();  // what was held as a call is content
  void enter_content();
  void emit(OutputEvent::Kind kind, std::string_view text);
  // What stands for ｜DSML｜ in held_: the text itself, or, where it is a token, a byte that no text has.
  std::string_view dsml_mark() const;

  MarkIds ids_;
  OutputParser::Options options_;
  Place place_ = Place::start;
  std::string held_;    // text that came and is not decided
  std::string raw_;     // all that a call has taken and not yet shown, marks included
  std::string header_;  // of a DeepSeek call
  std::optional<std::string> before_separator_;
  JsonNesting nesting_;
  CallObject object_{false};
  std::optional<DsmlReader> dsml_;
  int calls_before_ = 0;  // the block that dsml_ reads
  bool in_call_ = false;  // tool_begin is out, tool_end is not
  bool object_begun_ = false;
  bool trim_newline_ = false;
  int calls_ = 0;
  std::vector<OutputEvent> events_;
};

}  // namespace redoubt
