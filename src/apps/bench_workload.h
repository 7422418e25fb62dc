// What `redoubt bench` computes: `batch` sequences of equal length, random token ids that differ from sequence to
// sequence and step to step, so that a mixture of experts is sent to as many experts as real text would reach.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

#include "model/model.h"

namespace redoubt {

struct BenchShape {
  int64_t prompt = 512, gen = 64, batch = 1, depth = 0;

  int64_t longest() const { return std::max<int64_t>(depth + std::max(prompt, gen), 1); }  // tokens of one sequence
  int64_t blocks_per_sequence() const { return (longest() + kCacheBlockTokens - 1) / kCacheBlockTokens; }
  int64_t blocks() const { return batch * blocks_per_sequence(); }  // of the cache, for the model to reserve
};

class BenchWorkload {
 public:
  BenchWorkload(Model& model, const BenchShape& shape, std::function<void(int64_t tokens)> on_progress);

  // Tokens [begin, end) of every sequence as prompt, in full steps; logits of the last token alone, as a server asks.
  void prefill(int64_t begin, int64_t end);
  // `steps` tokens of every sequence from `position` on, one of each a step, all with logits.
  void decode(int64_t position, int64_t steps);

 private:
  std::span<const int32_t> table(int64_t sequence) const;
  std::vector<int32_t> random_ids(int64_t count);
  void count(int64_t tokens);

  Model& model_;
  BenchShape shape_;
  std::function<void(int64_t)> on_progress_;
  int64_t blocks_per_sequence_, done_ = 0;
  std::vector<int32_t> blocks_;
  std::vector<float> logits_;
  std::mt19937 random_{1};
};

}  // namespace redoubt
