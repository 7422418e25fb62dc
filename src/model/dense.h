// Grouped-query attention and a dense MLP: Qwen2 (with q, k, v biases) and Llama.
// x += W_O attn(norm(x)); x += down(silu(gate n) * up n), n = norm(x). Source: arXiv:2407.10671, arXiv:2407.21783.
#pragma once

#include "model/step.h"
#include "model/weights.h"

namespace redoubt {

class Dense final : public Layers {
 public:
  static Result<std::unique_ptr<Layers>> load(const ModelConfig& config, WeightLoader& loader);

  int64_t cache_width() const override { return 2 * cfg_.num_key_value_heads * cfg_.head_dim; }
  int64_t num_cache_layers() const override { return cfg_.num_hidden_layers; }
  int64_t rope_dim() const override { return cfg_.head_dim; }
  const RopeTable& rope() const override { return rope_; }
  int64_t arena_floats(const StepLimits& limits, int threads) const override;
  void forward(Step& step, int64_t layer, const CacheLayer& cache, Tensor x) const override;

 private:
  struct Layer {
    const float *input_norm, *post_attention_norm;
    Weight q, k, v, o;
    MlpWeights mlp;
  };
  explicit Dense(const ModelConfig& config)
      : cfg_(config), rope_(RopeTable::make(config.rope, config.rope_style, config.head_dim)) {}
  Tensor attention(Step& step, const Layer& w, const CacheLayer& cache, Tensor h) const;

  ModelConfig cfg_;
  RopeTable rope_;
  std::vector<Layer> layers_;
};

}  // namespace redoubt
