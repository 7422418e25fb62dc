// One sequence at a time through a model, without the engine: what logits, perplexity and the like are made of.
// The cache is reserved once and used again from its start by every sequence.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "model/model.h"

namespace redoubt {

class SoloSequence {
 public:
  // Reserves the model's cache for `max_tokens`; the model must not have one yet, and outlives this.
  static Result<SoloSequence> create(Model& model, int64_t max_tokens);

  // Logits of every token of a prefill from position 0: `each(position, logits)` in order, logits [vocab_size].
  using EachRow = std::function<void(int64_t position, std::span<const float> logits)>;
  // Errors: corrupt_data if weights were found damaged.
  Status prefill(std::span<const int32_t> tokens, const EachRow& each);

 private:
  SoloSequence(Model& model, int64_t num_blocks);
  Model* model_;
  std::vector<int32_t> blocks_;
  std::vector<float> logits_;  // [limits.max_logits or fewer, vocab_size]
};

}  // namespace redoubt
