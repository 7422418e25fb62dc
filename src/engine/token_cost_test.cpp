#include "engine/token_cost.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

ModelConfig qwen2_1_5b() {
  ModelConfig c;
  c.architecture = Architecture::dense;
  c.hidden_size = 1536;
  c.intermediate_size = 8960;
  c.num_hidden_layers = 28;
  c.num_attention_heads = 12;
  c.num_key_value_heads = 2;
  c.head_dim = 128;
  return c;
}

ModelConfig r1() {
  ModelConfig c;
  c.architecture = Architecture::deepseek;
  c.hidden_size = 7168;
  c.intermediate_size = 18432;
  c.num_hidden_layers = 61;
  c.num_attention_heads = c.num_key_value_heads = 128;
  c.q_lora_rank = 1536;
  c.kv_lora_rank = 512;
  c.qk_nope_head_dim = c.v_head_dim = 128;
  c.qk_rope_head_dim = 64;
  c.n_routed_experts = 256;
  c.n_shared_experts = 1;
  c.num_experts_per_tok = 8;
  c.moe_intermediate_size = 2048;
  c.first_k_dense_replace = 3;
  c.moe_layer_freq = 1;
  return c;
}

TEST(TokenCost, AttentionWeighsAsMuchAsTheWeightsAtTheDoublingDepth) {
  // 28 layers of 46.8 million weights, and 12 heads of 256 products a key.
  EXPECT_NEAR(TokenCost(qwen2_1_5b()).doubling_depth(), 46.8e6 / (1.5 * 12 * 256), 10);
  // 35.6 billion weights a token without embedding and head, and 128 heads of 1088 products a key in 61 layers.
  EXPECT_NEAR(TokenCost(r1()).doubling_depth(), 35.6e9 / (1.5 * 128 * 1088 * 61), 10);
}

TEST(TokenCost, GrowsWithDepthAndIsNothingElse) {
  const TokenCost cost(qwen2_1_5b());
  const auto depth = static_cast<int64_t>(cost.doubling_depth());
  EXPECT_NEAR(cost.of(0, 1), 1, 1e-3);
  EXPECT_NEAR(cost.of(depth, 1), 2, 1e-3);
  EXPECT_NEAR(cost.of(3 * depth, 10), 40, 0.1);
  EXPECT_NEAR(cost.of(0, 300) + cost.of(300, 200), cost.of(0, 500), 1e-6);
  EXPECT_EQ(TokenCost().of(100000, 7), 7);
  EXPECT_EQ(TokenCost(ModelConfig()).of(100000, 7), 7);
}

TEST(TokenCost, TellsHowManyTokensACostIsGoodFor) {
  for (const TokenCost& cost : {TokenCost(), TokenCost(qwen2_1_5b()), TokenCost(r1())}) {
    for (const int64_t begin : {0, 1, 1000, 100000}) {
      EXPECT_EQ(cost.tokens_within(0, begin), 0);
      for (const double most : {0.5, 1.0, 25.0, 512.0}) {
        const int64_t tokens = cost.tokens_within(most, begin);
        EXPECT_LE(cost.of(begin, tokens), most + 1e-6);
        EXPECT_GT(cost.of(begin, tokens + 1), most - 1e-6);
      }
    }
  }
}

}  // namespace
}  // namespace redoubt
