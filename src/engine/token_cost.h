// What a token costs by its depth, in tokens at depth 0: attention meets every key before it, and at the doubling depth
// costs as much as all weights.
#pragma once

#include <cstdint>

#include "formats/model_config.h"

namespace redoubt {

class TokenCost {
 public:
  TokenCost() = default;  // depth costs nothing
  // Multiply-adds of a token with the weights against those with one key; one in attention takes about one and a half
  // times as long (bfloat16 has half the rate of int8, and comes nearer to it).
  explicit TokenCost(const ModelConfig& config);

  double doubling_depth() const { return 1 / per_key_; }
  // Of tokens begin .. begin + count - 1 of a sequence.
  double of(int64_t begin, int64_t count) const {
    const auto n = static_cast<double>(count);
    return n * (1 + per_key_ * (static_cast<double>(begin) + n / 2));
  }
  // How many tokens from `begin` on cost at most so much.
  int64_t tokens_within(double cost, int64_t begin) const;

 private:
  double per_key_ = 0;
};

}  // namespace redoubt
