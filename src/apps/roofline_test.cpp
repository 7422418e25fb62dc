#include "apps/roofline.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "formats/synth.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

constexpr Ceilings kMachine{.read_bandwidth_bytes_per_s = 1e9, .int8_ops_per_s = 4e9, .bf16_flops_per_s = 2e9};

// 32 wide, 2 layers, 2 heads and 1 key head of 16, MLP 64, vocabulary 100.
constexpr char kDense[] = R"({"model_type":"llama","hidden_size":32,"num_hidden_layers":2,"num_attention_heads":2,
  "num_key_value_heads":1,"head_dim":16,"intermediate_size":64,"vocab_size":100,"max_position_embeddings":128,
  "rms_norm_eps":1e-6,"rope_theta":10000,"tie_word_embeddings":false})";
constexpr double kLayerWeights = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32, kNorms = 5 * 32;
constexpr double kKeyFlops = 2 * 2 * (16 + 16) * 2;  // multiply-adds x heads x (key and value) x layers

TEST(Roofline, CountsTheWeightsOfADenseModel) {
  test::TemporaryFolder folder;
  std::ofstream(folder / "config.json") << kDense;
  ASSERT_TRUE(synthesize(folder / "config.json", folder / "a.gguf", {.type = DType::q8_0}));
  ASSERT_TRUE(synthesize(folder / "config.json", folder / "b", {.type = DType::bf16}));
  const auto integers = Checkpoint::open(folder / "a.gguf"), floats = Checkpoint::open(folder / "b");
  ASSERT_TRUE(integers && floats);

  const WeightTraffic a = weight_traffic(*integers), b = weight_traffic(*floats);
  EXPECT_EQ(a.always.integers, 2 * kLayerWeights);
  EXPECT_EQ(a.head.integers, 100 * 32);  // and the embedding is not read whole
  EXPECT_EQ(a.head.bytes, 100 * 34);     // Q8_0: 34 bytes for 32 weights
  EXPECT_EQ(b.always.integers, 0);
  EXPECT_EQ(b.always.floats, 2 * kLayerWeights + kNorms);
  EXPECT_EQ(b.head.floats, 100 * 32);

  // One sequence: reading bounds. Many: the products do.
  const ModelConfig& config = integers->config();
  const LeastTime one = least_time(decode_work(config, a, {.depth = 0, .tokens = 1, .batch = 1}, 0), kMachine);
  EXPECT_STREQ(one.bound(), "memory");
  EXPECT_DOUBLE_EQ(one.seconds(), ((2 * kLayerWeights + 3200) * 34 / 32 + kNorms * 4) / 1e9);
  const LeastTime many = least_time(decode_work(config, a, {.depth = 0, .tokens = 1, .batch = 64}, 0), kMachine);
  EXPECT_STREQ(many.bound(), "arithmetic");
  EXPECT_DOUBLE_EQ(many.seconds(), 64 * 2 * (2 * kLayerWeights + 3200) / 4e9 + 64 * (2 * kNorms + kKeyFlops) / 2e9);
  // The same in bf16 counts against the other peak; of a prompt the last token alone has logits.
  const LeastTime plain = least_time(prefill_work(config, b, {.depth = 0, .tokens = 64, .batch = 1}, 512), kMachine);
  EXPECT_DOUBLE_EQ(plain.seconds(), (64 * 2 * (2 * kLayerWeights + kNorms) + 2 * 3200 + 64 * 65 / 2 * kKeyFlops) / 2e9);
}

TEST(Roofline, AttentionAndCacheGrowWithDepth) {
  ModelConfig dense;
  dense.architecture = Architecture::dense;
  dense.num_hidden_layers = 2;
  dense.num_attention_heads = 4;
  dense.head_dim = 8;
  const Work near = decode_work(dense, {}, {.depth = 0, .tokens = 1, .batch = 1}, 10);
  const Work far = decode_work(dense, {}, {.depth = 99, .tokens = 1, .batch = 3}, 10);
  EXPECT_EQ(near.bf16_flops, 2 * 2 * 4 * 16);
  EXPECT_EQ(far.bf16_flops, 300 * near.bf16_flops);
  EXPECT_EQ(near.bytes, 10);
  EXPECT_EQ(far.bytes, 3000);

  ModelConfig mla = dense;
  mla.architecture = Architecture::deepseek;
  mla.kv_lora_rank = 512;
  mla.qk_rope_head_dim = 64;
  mla.qk_nope_head_dim = mla.v_head_dim = 128;
  EXPECT_EQ(decode_work(mla, {}, {.depth = 0, .tokens = 1, .batch = 1}, 0).bf16_flops, 2 * 2 * 4 * (2 * 512 + 64));
  EXPECT_EQ(prefill_work(mla, {}, {.depth = 0, .tokens = 2, .batch = 1}, 512).bf16_flops, 3 * 2 * 2 * 4 * (192 + 128));
}

TEST(Roofline, AStepReadsTheExpertsThatItsTokensHit) {
  WeightTraffic traffic;
  traffic.always.bytes = 100;
  traffic.experts.bytes = 1000;
  traffic.expert_share = 0.25;
  EXPECT_EQ(traffic.bytes_per_token(), 350);
  EXPECT_EQ(traffic.bytes_per_step(1), 350);
  EXPECT_EQ(traffic.bytes_per_step(2), 100 + (1 - 0.75 * 0.75) * 1000);
  EXPECT_NEAR(traffic.bytes_per_step(200), 1100, 1e-6);
  traffic.always = {};
  const Work two_steps = prefill_work({}, traffic, {.depth = 0, .tokens = 1024, .batch = 1}, 512);
  EXPECT_NEAR(two_steps.bytes, 2000, 1e-6);  // the weights pass once a step
}

TEST(Roofline, IsUnknownWithoutTheCeilingItNeeds) {
  EXPECT_EQ(least_time({.bytes = 1, .int8_ops = 1}, {.read_bandwidth_bytes_per_s = 1}).seconds(), 0);
  EXPECT_EQ(least_time({.bytes = 1}, {.read_bandwidth_bytes_per_s = 1}).seconds(), 1);
}

}  // namespace
}  // namespace redoubt
