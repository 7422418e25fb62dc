// From a prompt's text to its ids, as far as anybody can use them: what a context has no room for is refused before it
// is worked through.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace redoubt {

// A prompt that is to be answered. Errors: context_length with `param` where its bytes are more than the context's
// tokens can hold, or its ids more than four times the context: the message then tells the least that they are. A
// prompt that is only somewhat too long is left to fit_context, which counts it.
Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer, const MarkedText& text, int64_t context_tokens,
                                           const std::string& param);

// A text that somebody wants counted or cut (tokenize, count_tokens, render). Errors: context_length.
constexpr int64_t most_counted_tokens(int64_t context_tokens) {
  constexpr int64_t kMillion = int64_t{1} << 20;
  return context_tokens > kMillion / 4 ? 4 * context_tokens : kMillion;
}
Result<std::vector<int32_t>> encode_counted(const Tokenizer& tokenizer, const MarkedText& text, int64_t context_tokens,
                                            const std::string& param);

// What a template may write where nobody can use more than `most_tokens`.
RenderLimits render_limits(const Tokenizer& tokenizer, int64_t most_tokens);

}  // namespace redoubt
