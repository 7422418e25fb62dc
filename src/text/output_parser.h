// An answer as its tokens come: thinking, content, tool calls.
//
// Works on tokens (a `</think>` typed by the model as ordinary characters is text; the token is the mark), except where
// a vocabulary has no token for a mark (distills spell tool marks in ordinary text): there on text, holding back what
// may still become a mark. One newline after each tag is trimmed. If `</think>` never comes, all is reasoning.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "core/result.h"

namespace redoubt {

class Tokenizer;

enum class ToolSyntax : uint8_t {
  none,
  deepseek_v3,   // V3, R1: calls_begin, call_begin, type, sep, name, fenced JSON
  deepseek_v31,  // V3.1: call_begin NAME sep ARGS
  hermes,        // <tool_call>{"name":…,"arguments":…}</tool_call>
  llama_json,    // {"name":…,"parameters":…} as the whole answer
  deepseek_v32,  // V3.2: a block <｜DSML｜function_calls> of invoke and parameter tags
  deepseek_v4,   // V4: the same in <｜DSML｜tool_calls>; either is read where one of them is expected
};

// What the template shows: which marks it writes for tool calls, and whether it knows <think>.
struct OutputFormat {
  ToolSyntax tools = ToolSyntax::none;
  bool thinks = false;  // the model's vocabulary or template has <think>
};
OutputFormat detect_output_format(std::string_view chat_template, const Tokenizer& tokenizer);

struct OutputEvent {
  enum class Kind : uint8_t {
    reasoning,       // text
    content,         // text
    tool_begin,      // a call starts: `text` is its name, tool_index counts from 0
    tool_arguments,  // text: a fragment; all fragments of a call concatenated are its JSON arguments
    tool_end,
  };
  Kind kind = Kind::content;
  std::string text;
  int tool_index = 0;
};

class OutputParser {
 public:
  struct Options {
    OutputFormat format;
    bool starts_in_reasoning = false;  // the prompt ended inside <think>
    bool parse_tools = false;          // the request offered tools (and tool_choice is not "none")
  };
  OutputParser(const Tokenizer& tokenizer, Options options);
  OutputParser(OutputParser&&) noexcept;
  ~OutputParser();

  // One generated token with the text that the stream decoder released for it (may be "").
  std::vector<OutputEvent> push(int32_t token, std::string_view text);
  std::vector<OutputEvent> finish();  // releases what was held back; an unclosed call is ended
  bool in_reasoning() const;
  bool saw_tool_call() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Whether a prompt that ends with these ids leaves the model inside <think>.
bool prompt_opens_reasoning(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt);

}  // namespace redoubt
