// Any text as a model's answer, in each format, with marks as tokens or as text: however it is cut, the events are
// equal.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/output_parser_state.h"

namespace {

using redoubt::AnswerParser;
using redoubt::kMarks;
using redoubt::Mark;
using redoubt::OutputEvent;

std::string parse(const redoubt::MarkIds& ids, const redoubt::OutputParser::Options& options, std::string_view text,
                  size_t piece) {
  AnswerParser parser(ids, options);
  std::string all;
  OutputEvent::Kind last = OutputEvent::Kind::tool_end;
  int open = 0;
  const auto take = [&](const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      if (event.kind == OutputEvent::Kind::tool_begin) ++open;
      if (event.kind == OutputEvent::Kind::tool_end) --open;
      if (open < 0 || open > 1 || (event.kind == OutputEvent::Kind::tool_arguments && open != 1)) std::abort();
      if (event.kind != last || event.kind == OutputEvent::Kind::tool_begin)
        all += static_cast<char>('0' + static_cast<int>(event.kind));
      all += event.text;
      last = event.kind;
    }
  };
  std::string plain;
  const auto flush = [&] {
    for (size_t i = 0; i < plain.size(); i += piece) take(parser.push(0, std::string_view(plain).substr(i, piece)));
    plain.clear();
  };
  for (size_t i = 0; i < text.size();) {
    size_t mark = 0;
    for (; mark < kMarks; ++mark) {
      const std::string_view literal = redoubt::mark_text(static_cast<Mark>(mark));
      if (ids[mark] && text.substr(i, literal.size()) == literal) break;
    }
    if (mark == kMarks) {
      plain += text[i++];
      continue;
    }
    flush();
    const std::string_view literal = redoubt::mark_text(static_cast<Mark>(mark));
    take(parser.push(*ids[mark], literal));
    i += literal.size();
  }
  flush();
  take(parser.finish());
  if (open != 0) std::abort();
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) return 0;
  redoubt::OutputParser::Options options;
  options.format.tools = static_cast<redoubt::ToolSyntax>(data[0] % 7);
  options.format.thinks = data[0] & 8;
  options.starts_in_reasoning = data[0] & 16;
  options.parse_tools = !(data[0] & 32);
  redoubt::MarkIds ids;
  for (size_t i = 0; i < kMarks; ++i) {
    if (data[0] & 64 || (data[0] & 128 && i < 2)) ids[i] = static_cast<int32_t>(i) + 1;
  }
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::string whole = parse(ids, options, text, size);
  if (parse(ids, options, text, 1) != whole || parse(ids, options, text, 2 + data[1] % 16) != whole) std::abort();
  return 0;
}
