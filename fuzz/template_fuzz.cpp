// Any text as a chat template, over one conversation (or the JSON after a NUL byte): it parses or not, renders or not,
// within its limits, and what it marks as its own lies inside the text.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/chat_template.h"

namespace {

const redoubt::Json& conversation() {
  static const redoubt::Json context = redoubt::Json::parse(R"({
    "messages": [{"role": "system", "content": "s é"}, {"role": "user", "content": "<|u|> 日本"},
      {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
      {"role": "tool", "content": "{}"}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "n": [1, 2.5, true, null]}}}],
    "add_generation_prompt": true, "s": "Hello, World", "n": 3, "f": 2.5, "l": [1, 2, 3], "d": {"a": 1, "b": {"x": []}}})");
  return context;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const auto parsed = redoubt::ChatTemplate::parse(input.substr(0, zero));
  if (!parsed) return 0;
  redoubt::Json own;
  if (zero != std::string_view::npos) {
    auto context = redoubt::parse_json(input.substr(zero + 1));
    if (!context) return 0;
    own = std::move(*context);
  }
  redoubt::RenderLimits limits;
  limits.max_steps = 50'000;
  limits.max_output_bytes = 1 << 18;
  limits.unix_seconds = [] { return int64_t{0}; };
  const auto rendered = parsed->render(own.is_null() ? conversation() : own, {{"bos_token", "<s>"}}, limits);
  if (!rendered) return 0;
  if (rendered->text.size() > limits.max_output_bytes) std::abort();
  size_t end = 0;
  for (const auto& range : rendered->markup) {
    if (range.begin < end || range.begin >= range.end || range.end > rendered->text.size()) std::abort();
    end = range.end;
  }
  return 0;
}
