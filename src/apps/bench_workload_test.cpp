#include "apps/bench_workload.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace redoubt {
namespace {

// Computes nothing; notes what it was asked.
class NotingModel final : public Model {
 public:
  struct Chunk {
    std::vector<int32_t> tokens, blocks;
    int64_t position, num_logits;
    AttentionForm form;
  };

  NotingModel() { config_.vocab_size = 1000; }

  const ModelConfig& config() const override { return config_; }
  const StepLimits& limits() const override { return limits_; }
  std::string kernels_name() const override { return "none"; }
  int threads() const override { return 1; }
  int64_t cache_block_bytes() const override { return 1; }
  bool forms_agree() const override { return false; }
  Status reserve_cache(int64_t) override { return ok(); }
  int64_t num_cache_blocks() const override { return 0; }
  void read_block(int32_t, std::span<std::byte>) const override {}
  void write_block(int32_t, std::span<const std::byte>) override {}
  bool try_step(std::span<const SequenceChunk> chunks, std::span<float> logits,
                const std::function<bool(double)>&) override {
    int64_t rows = 0;
    steps.emplace_back();
    for (const SequenceChunk& c : chunks) {
      steps.back().push_back(
          {{c.tokens.begin(), c.tokens.end()}, {c.blocks.begin(), c.blocks.end()}, c.position, c.num_logits, c.form});
      rows += c.num_logits;
    }
    EXPECT_EQ(static_cast<int64_t>(logits.size()) >= rows * config_.vocab_size, true);
    return true;
  }
  bool has_mtp() const override { return false; }
  void draft(std::span<const DraftChunk>, HiddenStates, std::span<float>) override {}
  Status mtp_logits(std::span<const int32_t>, std::span<float>) override { return ok(); }
  void set_observer(StepObserver*) override {}
  uint64_t layers_done() const override { return 0; }

  std::vector<std::vector<Chunk>> steps;

 private:
  ModelConfig config_;
  StepLimits limits_{.max_tokens = 64, .max_logits = 32, .max_chunks = 32};
};

// A mixture of experts that is fed the same token by every sequence reads few experts, and seems faster than it is.
TEST(BenchWorkload, EverySequenceOfABatchDecodesTokensOfItsOwn) {
  NotingModel model;
  BenchWorkload work(model, {.prompt = 0, .gen = 20, .batch = 32, .depth = 100}, {});
  work.decode(100, 20);

  ASSERT_EQ(model.steps.size(), 20u);
  std::set<int32_t> all;
  for (size_t step = 0; step < model.steps.size(); ++step) {
    ASSERT_EQ(model.steps[step].size(), 32u);
    std::set<int32_t> tokens;
    for (const auto& chunk : model.steps[step]) {
      ASSERT_EQ(chunk.tokens.size(), 1u);
      EXPECT_EQ(chunk.form, AttentionForm::decode);
      EXPECT_EQ(chunk.position, 100 + static_cast<int64_t>(step));
      EXPECT_EQ(chunk.num_logits, 1);
      tokens.insert(chunk.tokens[0]);
      all.insert(chunk.tokens[0]);
    }
    EXPECT_GT(tokens.size(), 24u);  // 32 draws of 1000: a few may fall together
  }
  EXPECT_GT(all.size(), 400u);
}

TEST(BenchWorkload, SequencesShareNoBlockAndHaveRoomForAllTokens) {
  NotingModel model;
  const BenchShape shape{.prompt = 30, .gen = 5, .batch = 3, .depth = 17};
  BenchWorkload work(model, shape, {});
  work.decode(17, 1);

  ASSERT_EQ(model.steps.size(), 1u);
  std::set<int32_t> blocks;
  for (const auto& chunk : model.steps[0]) {
    EXPECT_GE(static_cast<int64_t>(chunk.blocks.size()) * kCacheBlockTokens, 17 + 30);
    for (const int32_t block : chunk.blocks) {
      EXPECT_TRUE(blocks.insert(block).second);
      EXPECT_LT(block, shape.blocks());
    }
  }
}

TEST(BenchWorkload, PromptsComeInFullStepsWithLogitsOfTheLastTokenAlone) {
  NotingModel model;
  int64_t seen = 0;
  BenchWorkload work(model, {.prompt = 150, .gen = 0, .batch = 2, .depth = 0}, [&](int64_t tokens) { seen = tokens; });
  work.prefill(0, 150);

  std::map<int32_t, int64_t> next;  // by the first block of the sequence
  int64_t with_logits = 0;
  for (const auto& step : model.steps) {
    ASSERT_EQ(step.size(), 1u);
    EXPECT_EQ(step[0].form, AttentionForm::prefill);
    int64_t& at = next[step[0].blocks[0]];
    EXPECT_EQ(step[0].position, at);
    at += static_cast<int64_t>(step[0].tokens.size());
    EXPECT_EQ(step[0].num_logits, at == 150 ? 1 : 0);
    with_logits += step[0].num_logits;
  }
  ASSERT_EQ(next.size(), 2u);
  for (const auto& [block, at] : next) EXPECT_EQ(at, 150) << block;
  EXPECT_EQ(model.steps.size(), 6u);  // 64 + 64 + 22, twice
  EXPECT_EQ(with_logits, 2);
  EXPECT_EQ(seen, 300);
}

}  // namespace
}  // namespace redoubt
