// A model for tests whose logits betray every mistake of the engine: they are a hash of all tokens, positions and forms
// read back from the cache blocks, so a wrong table, a stale or overwritten block, a wrong position, a prompt that was
// not computed or a token in the wrong form changes them. It also asserts the limits of a step.
// With a habit it repeats itself, so that look-up drafts come true now and then: most of a row then follows from the
// last two tokens alone, and the rest still from everything.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/counter_random.h"
#include "model/model.h"

namespace redoubt::test {

class FakeModel final : public Model {
 public:
  struct Shape {
    int64_t vocab_size = 300;
    int64_t max_position_embeddings = 256;
    StepLimits limits{.max_tokens = 64, .max_logits = 16, .max_chunks = 16};
    float habit = 0;  // what the token that the last two lead to gains, of a range of 12
  };
  explicit FakeModel(const Shape& shape) : limits_(shape.limits), habit_(shape.habit) {
    config_.vocab_size = shape.vocab_size;
    config_.max_position_embeddings = shape.max_position_embeddings;
  }

  const ModelConfig& config() const override { return config_; }
  const StepLimits& limits() const override { return limits_; }
  std::string kernels_name() const override { return "fake"; }
  int threads() const override { return 1; }
  int64_t cache_block_bytes() const override { return 1024; }
  Status reserve_cache(int64_t num_blocks) override {
    slots_.assign(static_cast<size_t>(num_blocks * kCacheBlockTokens), Slot{});
    return ok();
  }
  int64_t num_cache_blocks() const override { return static_cast<int64_t>(slots_.size()) / kCacheBlockTokens; }
  uint64_t layers_done() const override { return layers_done_; }
  bool has_mtp() const override { return false; }
  Status mtp_logits(std::span<const int32_t>, std::span<float>) override { return unsupported("no MTP module"); }
  void set_observer(StepObserver*) override {}

  void step(std::span<const SequenceChunk> chunks, std::span<float> logits) override {
    if (on_step) on_step(chunks);
    int64_t tokens = 0, rows = 0;
    for (const SequenceChunk& chunk : chunks) {
      tokens += static_cast<int64_t>(chunk.tokens.size());
      rows += chunk.num_logits;
      REDOUBT_ASSERT(!chunk.tokens.empty() && chunk.num_logits <= static_cast<int64_t>(chunk.tokens.size()));
      write(chunk);
    }
    REDOUBT_ASSERT(tokens <= limits_.max_tokens && rows <= limits_.max_logits);
    REDOUBT_ASSERT(static_cast<int64_t>(chunks.size()) <= limits_.max_chunks);
    REDOUBT_ASSERT(static_cast<int64_t>(logits.size()) == rows * config_.vocab_size);
    const auto vocab = static_cast<size_t>(config_.vocab_size);
    size_t row = 0;
    for (const SequenceChunk& chunk : chunks) {
      const auto size = static_cast<int64_t>(chunk.tokens.size());
      for (int64_t i = size - chunk.num_logits; i < size; ++i)
        fill(logits.subspan(row++ * vocab, vocab), hash_through(chunk, chunk.position + i),
             habitual(chunk, chunk.position + i));
    }
    layers_done_ += 2;
  }

  std::function<void(std::span<const SequenceChunk>)> on_step;  // called first, on the engine thread

 private:
  struct Slot {
    int32_t token = -1;
    int64_t position = -1;
    AttentionForm form = AttentionForm::prefill;
  };

  Slot& slot(const SequenceChunk& chunk, int64_t position) {
    const auto table_index = static_cast<size_t>(position / kCacheBlockTokens);
    REDOUBT_ASSERT(table_index < chunk.blocks.size());
    const int64_t block = chunk.blocks[table_index];
    REDOUBT_ASSERT(block >= 0 && block < num_cache_blocks());
    return slots_[static_cast<size_t>(block * kCacheBlockTokens + position % kCacheBlockTokens)];
  }
  void write(const SequenceChunk& chunk) {
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      const int64_t position = chunk.position + static_cast<int64_t>(i);
      slot(chunk, position) = {chunk.tokens[i], position, chunk.form};
    }
  }
  uint64_t hash_through(const SequenceChunk& chunk, int64_t last) {
    uint64_t hash = 1;
    for (int64_t position = 0; position <= last; ++position) {
      const Slot& at = slot(chunk, position);
      hash = mix_bits(hash ^ static_cast<uint64_t>(at.token) ^ static_cast<uint64_t>(at.position) << 32 ^
                      static_cast<uint64_t>(at.form) << 62);
    }
    return hash;
  }
  // The token that usually follows the last two: one of a few, so that the text soon comes around again.
  size_t habitual(const SequenceChunk& chunk, int64_t last) {
    uint64_t hash = static_cast<uint64_t>(slot(chunk, last).token);
    if (last > 0) hash ^= static_cast<uint64_t>(slot(chunk, last - 1).token) << 32;
    return 97 + mix_bits(hash) % 8;
  }
  void fill(std::span<float> row, uint64_t hash, size_t habitual) const {  // -6 .. 6
    for (size_t i = 0; i < row.size(); ++i)
      row[i] = static_cast<float>(mix_bits(hash + i) >> 40) * (12.0f / 16777216.0f) - 6.0f;
    if (habitual < row.size()) row[habitual] += habit_;
  }

  ModelConfig config_;
  StepLimits limits_;
  float habit_;
  std::vector<Slot> slots_;  // [num_blocks, kCacheBlockTokens]
  std::atomic<uint64_t> layers_done_{0};
};

}  // namespace redoubt::test
