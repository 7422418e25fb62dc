#include "engine/token_cost.h"

#include <cmath>

namespace redoubt {

namespace {

constexpr double kAttentionProduct = 1.5;

// Of one layer, without its experts or MLP.
double attention_weights(const ModelConfig& c) {
  const auto hidden = static_cast<double>(c.hidden_size), heads = static_cast<double>(c.num_attention_heads);
  if (c.architecture == Architecture::dense) {
    const auto head = static_cast<double>(c.head_dim), kv_heads = static_cast<double>(c.num_key_value_heads);
    return 2 * hidden * head * (heads + kv_heads);
  }
  const auto latent = static_cast<double>(c.kv_lora_rank), rope = static_cast<double>(c.qk_rope_head_dim),
             value = static_cast<double>(c.v_head_dim), nope = static_cast<double>(c.qk_nope_head_dim),
             q_latent = static_cast<double>(c.q_lora_rank);
  const double q = heads * static_cast<double>(c.qk_head_dim());
  return (q_latent > 0 ? q_latent * (hidden + q) : hidden * q) + hidden * (latent + rope) +
         heads * latent * (nope + value) + heads * value * hidden;
}

double mlp_weights(const ModelConfig& c, int64_t layer) {
  const double width = c.is_moe_layer(layer) ? static_cast<double>(c.moe_intermediate_size) *
                                                   static_cast<double>(c.num_experts_per_tok + c.n_shared_experts)
                                             : static_cast<double>(c.intermediate_size);
  return 3 * static_cast<double>(c.hidden_size) * width;
}

}  // namespace

TokenCost::TokenCost(const ModelConfig& c) {
  double weights = 0;
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) weights += attention_weights(c) + mlp_weights(c, layer);
  const int64_t of_head =
      c.architecture == Architecture::dense ? 2 * c.head_dim : 2 * c.kv_lora_rank + c.qk_rope_head_dim;
  const auto key = static_cast<double>(of_head * c.num_attention_heads * c.num_hidden_layers);
  if (weights > 0) per_key_ = kAttentionProduct * key / weights;
}

int64_t TokenCost::tokens_within(double cost, int64_t begin) const {
  if (cost <= 0) return 0;
  // n (1 + p (begin + n / 2)) = cost, solved so that a small p loses nothing.
  const double one = 1 + per_key_ * static_cast<double>(begin);
  return static_cast<int64_t>(2 * cost / (one + std::sqrt(one * one + 2 * per_key_ * cost)));
}

}  // namespace redoubt
