#include "apps/solo_sequence.h"

#include <algorithm>
#include <numeric>

namespace redoubt {

SoloSequence::SoloSequence(Model& model, int64_t num_blocks)
    : model_(&model), blocks_(static_cast<size_t>(num_blocks)) {
  std::iota(blocks_.begin(), blocks_.end(), 0);
}

Result<SoloSequence> SoloSequence::create(Model& model, int64_t max_tokens) {
  const int64_t num_blocks = std::max<int64_t>((max_tokens + kCacheBlockTokens - 1) / kCacheBlockTokens, 1);
  REDOUBT_CHECK(model.reserve_cache(num_blocks));
  return SoloSequence(model, num_blocks);
}

Status SoloSequence::prefill(std::span<const int32_t> tokens, const EachRow& each) {
  const auto vocab = static_cast<size_t>(model_->config().vocab_size);
  const auto chunk_tokens = static_cast<size_t>(std::min(model_->limits().max_tokens, model_->limits().max_logits));
  logits_.resize(std::min(chunk_tokens, tokens.size()) * vocab);
  for (size_t begin = 0; begin < tokens.size(); begin += chunk_tokens) {
    const auto part = tokens.subspan(begin, std::min(chunk_tokens, tokens.size() - begin));
    const SequenceChunk chunk{.tokens = part,
                              .position = static_cast<int64_t>(begin),
                              .form = AttentionForm::prefill,
                              .blocks = blocks_,
                              .num_logits = static_cast<int64_t>(part.size())};
    model_->step({&chunk, 1}, std::span(logits_).first(part.size() * vocab));
    REDOUBT_CHECK(model_->damage());
    for (size_t row = 0; row < part.size(); ++row) {
      each(static_cast<int64_t>(begin + row), std::span<const float>(logits_).subspan(row * vocab, vocab));
    }
  }
  return ok();
}

}  // namespace redoubt
