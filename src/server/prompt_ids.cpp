#include "server/prompt_ids.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/routes_errors.h"

namespace redoubt {

Result<std::vector<int32_t>> encode_prompt(const Tokenizer& tokenizer, const MarkedText& text, int64_t context_tokens,
                                           const std::string& param) {
  const auto too_long = [&](int64_t least) {
    return context_error(param, {.count = least, .is_least = true}, 1, context_tokens);
  };
  if (const int64_t fewest = tokenizer.fewest_tokens(text.text); fewest >= context_tokens) return too_long(fewest);
  const int64_t most = 4 * context_tokens;
  auto ids = tokenizer.encode_within(text, most);
  if (!ids) return too_long(most + 1);
  return std::move(*ids);
}

Result<std::vector<int32_t>> encode_counted(const Tokenizer& tokenizer, const MarkedText& text, int64_t context_tokens,
                                            const std::string& param) {
  const int64_t most = most_counted_tokens(context_tokens);
  auto ids = tokenizer.encode_within(text, most);
  if (ids) return std::move(*ids);
  return Error{ErrorCode::context_length,
               fmt::format("{}: expected a text of at most {} tokens, found a longer one", param, most), param};
}

RenderLimits render_limits(const Tokenizer& tokenizer, int64_t most_tokens) {
  // A template may make a text that is longer than what it writes in the end, so that small contexts leave it room.
  constexpr size_t kLeastBytes = size_t{16} << 20;
  RenderLimits limits;
  limits.max_output_bytes = std::clamp(tokenizer.most_bytes(most_tokens), kLeastBytes, limits.max_output_bytes);
  return limits;
}

}  // namespace redoubt
