// A model for tests whose logits betray every mistake of the engine: they are a hash of all tokens, positions and forms
// read back from the cache blocks, so a wrong table, a stale or overwritten block, a wrong position, a prompt that was
// not computed or a token in the wrong form changes them. It also asserts the limits of a step.
// With a habit it repeats itself, so that look-up drafts come true now and then: most of a row then follows from the
// last two tokens alone, and the rest still from everything. Its module for drafts goes on from the same hash, so it is
// right but for every third row, where it is wrong on purpose.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
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
    bool has_mtp = false;
    bool forms_agree = false;
    float habit = 0;             // what the token that the last two lead to gains, of a range of 12
    int64_t layers = 2;          // a step may be given up between them
    int64_t doubling_depth = 0;  // a token there costs twice what the first does (TokenCost); 0: all cost the same
  };
  explicit FakeModel(const Shape& shape)
      : limits_(shape.limits),
        has_mtp_(shape.has_mtp),
        forms_agree_(shape.forms_agree),
        habit_(shape.habit),
        layers_(shape.layers) {
    config_.vocab_size = shape.vocab_size;
    config_.max_position_embeddings = shape.max_position_embeddings;
    if (shape.doubling_depth == 0) return;
    config_.num_hidden_layers = config_.num_attention_heads = config_.num_key_value_heads = 1;
    config_.hidden_size = config_.head_dim = 1;
    config_.intermediate_size = shape.doubling_depth;
  }

  const ModelConfig& config() const override { return config_; }
  const StepLimits& limits() const override { return limits_; }
  std::string kernels_name() const override { return "fake"; }
  int threads() const override { return 1; }
  int64_t cache_block_bytes() const override { return 1024; }
  bool forms_agree() const override { return forms_agree_; }
  Status reserve_cache(int64_t num_blocks) override {
    slots_.assign(static_cast<size_t>(num_blocks * kCacheBlockTokens), Slot{});
    module_positions_.assign(slots_.size(), -1);
    return ok();
  }
  void read_block(int32_t block, std::span<std::byte> bytes) const override {
    REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == cache_block_bytes());
    const auto at = static_cast<size_t>(block * kCacheBlockTokens);
    std::memcpy(bytes.data(), &slots_[at], kCacheBlockTokens * sizeof(Slot));
    std::memcpy(bytes.data() + 512, &module_positions_[at], kCacheBlockTokens * sizeof(int64_t));
  }
  void write_block(int32_t block, std::span<const std::byte> bytes) override {
    REDOUBT_ASSERT(static_cast<int64_t>(bytes.size()) == cache_block_bytes());
    const auto at = static_cast<size_t>(block * kCacheBlockTokens);
    std::memcpy(&slots_[at], bytes.data(), kCacheBlockTokens * sizeof(Slot));
    std::memcpy(&module_positions_[at], bytes.data() + 512, kCacheBlockTokens * sizeof(int64_t));
  }
  int64_t num_cache_blocks() const override { return static_cast<int64_t>(slots_.size()) / kCacheBlockTokens; }
  uint64_t layers_done() const override { return layers_done_; }
  bool has_mtp() const override { return has_mtp_; }
  std::atomic<bool> is_damaged{false};  // from the next step on
  Status damage() const override { return is_damaged ? Status(corrupt("a chunk does not have its hash")) : ok(); }
  Status mtp_logits(std::span<const int32_t>, std::span<float>) override { return unsupported("no MTP module"); }
  void set_observer(StepObserver*) override {}

  bool try_step(std::span<const SequenceChunk> chunks, std::span<float> logits,
                const std::function<bool(double share_done)>& gives_up) override {
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
    for (int64_t layer = 1; layer <= layers_; ++layer) {
      if (on_layer) on_layer(chunks);
      ++layers_done_;
      // What was written stays, as that of a real model's first layers does.
      if (gives_up && gives_up(static_cast<double>(layer) / static_cast<double>(layers_))) return false;
    }
    keep_hidden(chunks);
    const auto vocab = static_cast<size_t>(config_.vocab_size);
    size_t row = 0;
    for (const SequenceChunk& chunk : chunks) {
      const auto size = static_cast<int64_t>(chunk.tokens.size());
      for (int64_t i = size - chunk.num_logits; i < size; ++i)
        fill(logits.subspan(row++ * vocab, vocab), hash_through(chunk, chunk.position + i),
             habitual(chunk, chunk.position + i));
    }
    return true;
  }

  void draft(std::span<const DraftChunk> chunks, HiddenStates from, std::span<float> logits) override {
    REDOUBT_ASSERT(has_mtp_);
    const std::vector<Hidden>& before = from == HiddenStates::of_step ? step_hidden_ : draft_hidden_;
    std::vector<Hidden> after;
    const auto vocab = static_cast<size_t>(config_.vocab_size);
    for (const DraftChunk& chunk : chunks) {
      const auto size = static_cast<int64_t>(chunk.next_tokens.size());
      REDOUBT_ASSERT(size > 0 && chunk.num_logits <= size);
      for (int64_t i = 0; i < size; ++i) {
        const int64_t position = chunk.position + i;
        const Hidden& hidden = before[static_cast<size_t>(chunk.hidden_row + i)];
        REDOUBT_ASSERT(hidden.position == position);
        module_positions_[slot_index(chunk.blocks, position)] = position;
        if (i < size - chunk.num_logits) continue;
        for (int64_t p = 0; p <= position; ++p) REDOUBT_ASSERT(module_positions_[slot_index(chunk.blocks, p)] == p);
        const int32_t next = chunk.next_tokens[static_cast<size_t>(i)];
        after.push_back({extended(hidden.hash, {next, position + 1, AttentionForm::decode}), next, position + 1});
        fill(logits.subspan((after.size() - 1) * vocab, vocab),
             after.back().hash % 3 == 0 ? ~after.back().hash : after.back().hash, habitual(next, hidden.token));
      }
    }
    REDOUBT_ASSERT(logits.size() == after.size() * vocab);
    draft_hidden_ = std::move(after);
  }

  // On the engine thread: called first, and in each layer.
  std::function<void(std::span<const SequenceChunk>)> on_step, on_layer;

 private:
  struct Slot {
    int32_t token = -1;
    int64_t position = -1;
    AttentionForm form = AttentionForm::prefill;
  };

  struct Hidden {  // of the position: what the module goes on from
    uint64_t hash = 0;
    int32_t token = -1;
    int64_t position = -1;
  };

  size_t slot_index(std::span<const int32_t> blocks, int64_t position) const {
    const auto table_index = static_cast<size_t>(position / kCacheBlockTokens);
    REDOUBT_ASSERT(table_index < blocks.size());
    const int64_t block = blocks[table_index];
    REDOUBT_ASSERT(block >= 0 && block < num_cache_blocks());
    return static_cast<size_t>(block * kCacheBlockTokens + position % kCacheBlockTokens);
  }
  Slot& slot(const SequenceChunk& chunk, int64_t position) { return slots_[slot_index(chunk.blocks, position)]; }
  void keep_hidden(std::span<const SequenceChunk> chunks) {
    if (!has_mtp_) return;
    step_hidden_.clear();
    for (const SequenceChunk& chunk : chunks) {
      for (size_t i = 0; i < chunk.tokens.size(); ++i) {
        const int64_t position = chunk.position + static_cast<int64_t>(i);
        step_hidden_.push_back({hash_through(chunk, position), chunk.tokens[i], position});
      }
    }
  }
  void write(const SequenceChunk& chunk) {
    for (size_t i = 0; i < chunk.tokens.size(); ++i) {
      const int64_t position = chunk.position + static_cast<int64_t>(i);
      slot(chunk, position) = {chunk.tokens[i], position, forms_agree_ ? AttentionForm::decode : chunk.form};
    }
  }
  uint64_t hash_through(const SequenceChunk& chunk, int64_t last) {
    uint64_t hash = 1;
    for (int64_t position = 0; position <= last; ++position) hash = extended(hash, slot(chunk, position));
    return hash;
  }
  static uint64_t extended(uint64_t hash, const Slot& at) {
    return mix_bits(hash ^ static_cast<uint64_t>(at.token) ^ static_cast<uint64_t>(at.position) << 32 ^
                    static_cast<uint64_t>(at.form) << 62);
  }
  // The token that usually follows the last two: one of a few, so that the text soon comes around again.
  size_t habitual(const SequenceChunk& chunk, int64_t last) {
    return habitual(slot(chunk, last).token, last > 0 ? slot(chunk, last - 1).token : 0);
  }
  static size_t habitual(int32_t last, int32_t before) {
    return 97 + mix_bits(static_cast<uint64_t>(last) ^ static_cast<uint64_t>(before) << 32) % 8;
  }
  void fill(std::span<float> row, uint64_t hash, size_t habitual) const {  // -6 .. 6
    for (size_t i = 0; i < row.size(); ++i)
      row[i] = static_cast<float>(mix_bits(hash + i) >> 40) * (12.0f / 16777216.0f) - 6.0f;
    if (habitual < row.size()) row[habitual] += habit_;
  }

  ModelConfig config_;
  StepLimits limits_;
  bool has_mtp_;
  bool forms_agree_;
  float habit_;
  int64_t layers_;
  std::vector<Slot> slots_;                // [num_blocks, kCacheBlockTokens]
  std::vector<int64_t> module_positions_;  // [num_blocks, kCacheBlockTokens], -1: the module never computed it
  std::vector<Hidden> step_hidden_, draft_hidden_;
  std::atomic<uint64_t> layers_done_{0};
};

}  // namespace redoubt::test
