#include "text/output_parser.h"

#include <algorithm>
#include <span>

#include "core/trimmed.h"
#include "text/output_parser_state.h"
#include "text/tokenizer.h"

namespace redoubt {

MarkIds find_marks(const Tokenizer& tokenizer) {
  MarkIds ids;
  for (size_t i = 0; i < kMarks; ++i) ids[i] = tokenizer.find(mark_text(static_cast<Mark>(i)));
  return ids;
}

struct OutputParser::State {
  AnswerParser parser;
};

OutputParser::OutputParser(const Tokenizer& tokenizer, Options options)
    : state_(std::make_unique<State>(State{AnswerParser(find_marks(tokenizer), options)})) {}
OutputParser::OutputParser(OutputParser&&) noexcept = default;
OutputParser::~OutputParser() = default;

std::vector<OutputEvent> OutputParser::push(int32_t token, std::string_view text) {
  return state_->parser.push(token, text);
}
std::vector<OutputEvent> OutputParser::finish() { return state_->parser.finish(); }
bool OutputParser::in_reasoning() const { return state_->parser.in_reasoning(); }
bool OutputParser::saw_tool_call() const { return state_->parser.saw_tool_call(); }

OutputFormat detect_output_format(std::string_view chat_template, const Tokenizer& tokenizer) {
  const auto has = [&](std::string_view what) { return chat_template.find(what) != std::string_view::npos; };
  OutputFormat format;
  format.thinks = has("<think>") || tokenizer.find("<think>").has_value();
  if (has("｜DSML｜")) {
    format.tools = has("function_calls>") ? ToolSyntax::deepseek_v32 : ToolSyntax::deepseek_v4;
  } else if (has("<｜tool▁call▁begin｜>")) {
    format.tools = has("```json") ? ToolSyntax::deepseek_v3 : ToolSyntax::deepseek_v31;
  } else if (has("<tool_call>")) {
    format.tools = ToolSyntax::hermes;
  } else if (has("\"parameters\": ") || has("<|python_tag|>")) {
    format.tools = ToolSyntax::llama_json;
  }
  return format;
}

bool prompt_opens_reasoning(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt) {
  const auto begin = tokenizer.find(mark_text(Mark::think_begin)), end = tokenizer.find(mark_text(Mark::think_end));
  if (begin) {
    const auto is_mark = [&](int32_t id) { return id == *begin || id == end; };
    const auto last = std::find_if(prompt.rbegin(), prompt.rend(), is_mark);
    return last != prompt.rend() && *last == *begin;
  }
  const size_t tail = std::min<size_t>(prompt.size(), 16);
  std::string text = tokenizer.decode(std::span(prompt).last(tail));
  text.erase(text.find_last_not_of(kBlanks) + 1);
  return text.ends_with(mark_text(Mark::think_begin));
}

}  // namespace redoubt
