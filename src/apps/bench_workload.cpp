#include "apps/bench_workload.h"

#include <algorithm>
#include <numeric>

namespace redoubt {

BenchWorkload::BenchWorkload(Model& model, const BenchShape& shape, std::function<void(int64_t tokens)> on_progress)
    : model_(model),
      shape_(shape),
      on_progress_(std::move(on_progress)),
      blocks_per_sequence_(shape.blocks_per_sequence()) {
  blocks_.resize(static_cast<size_t>(shape.blocks()));
  std::iota(blocks_.begin(), blocks_.end(), 0);
  logits_.resize(static_cast<size_t>(shape.batch * model.config().vocab_size));
}

void BenchWorkload::prefill(int64_t begin, int64_t end) {
  const int64_t step = model_.limits().max_tokens;
  for (int64_t sequence = 0; sequence < shape_.batch; ++sequence) {
    for (int64_t at = begin; at < end; at += step) {
      const std::vector<int32_t> tokens = random_ids(std::min(step, end - at));
      const SequenceChunk chunk{.tokens = tokens,
                                .position = at,
                                .form = AttentionForm::prefill,
                                .blocks = table(sequence),
                                .num_logits = at + step >= end ? 1 : 0};
      model_.step({&chunk, 1},
                  std::span(logits_).first(static_cast<size_t>(chunk.num_logits * model_.config().vocab_size)));
      count(static_cast<int64_t>(tokens.size()));
    }
  }
}

void BenchWorkload::decode(int64_t position, int64_t steps) {
  for (int64_t step = 0; step < steps; ++step) {
    const std::vector<int32_t> tokens = random_ids(shape_.batch);
    std::vector<SequenceChunk> chunks;
    for (int64_t sequence = 0; sequence < shape_.batch; ++sequence) {
      chunks.push_back({.tokens = std::span(tokens).subspan(static_cast<size_t>(sequence), 1),
                        .position = position + step,
                        .form = AttentionForm::decode,
                        .blocks = table(sequence),
                        .num_logits = 1});
    }
    model_.step(chunks, logits_);
    count(shape_.batch);
  }
}

std::span<const int32_t> BenchWorkload::table(int64_t sequence) const {
  return std::span(blocks_).subspan(static_cast<size_t>(sequence * blocks_per_sequence_),
                                    static_cast<size_t>(blocks_per_sequence_));
}

std::vector<int32_t> BenchWorkload::random_ids(int64_t count) {
  std::uniform_int_distribution<int32_t> any(0, static_cast<int32_t>(model_.config().vocab_size - 1));
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = any(random_);
  return ids;
}

void BenchWorkload::count(int64_t tokens) {
  done_ += tokens;
  if (on_progress_) on_progress_(done_);
}

}  // namespace redoubt
