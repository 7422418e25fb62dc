// DeepSeek V2, V3 and R1: multi-head latent attention and a mixture of experts.
// Source: DeepSeek-V3 report (arXiv:2412.19437) §2.1, eq. 1-16; absorption: DeepSeek-V2 report (arXiv:2405.04434)
// §2.1.2. Differs from the equations as the released models do: RMSNorm on both latents, YaRN in rope and softmax
// scale, and V2-Lite has no query latent. Shapes: T tokens, H heads, C = kv_lora_rank, N = qk_nope_head_dim, R =
// qk_rope_head_dim, V = v_head_dim.
#pragma once

#include "model/step.h"
#include "model/weights.h"
#include "ops/experts.h"

namespace redoubt {

class DeepSeek final : public Layers {
 public:
  // Loads num_hidden_layers layers, and the MTP module's as one more if `with_mtp`.
  static Result<std::unique_ptr<Layers>> load(const ModelConfig& config, WeightLoader& loader, bool with_mtp);

  int64_t cache_width() const override { return cfg_.kv_lora_rank + cfg_.qk_rope_head_dim; }
  int64_t num_cache_layers() const override { return static_cast<int64_t>(layers_.size()); }
  int64_t rope_dim() const override { return cfg_.qk_rope_head_dim; }
  const RopeTable& rope() const override { return rope_; }
  int64_t arena_floats(const StepLimits& limits, int threads) const override;
  void forward(Step& step, int64_t layer, const CacheLayer& cache, Tensor x) const override;

 private:
  struct Layer {
    const float *input_norm, *post_attention_norm, *q_a_norm = nullptr, *kv_a_norm;
    Weight q_a, q_b;  // q_a empty: q_b is q_proj, straight from the hidden state
    Weight kv_a, o;
    LatentUpProjection up;
    MlpWeights mlp;  // dense layers
    MoeWeights moe;  // layers with experts
  };
  explicit DeepSeek(const ModelConfig& config);
  Result<Layer> load_layer(WeightLoader& loader, int64_t layer) const;
  Tensor attention(Step& step, const Layer& w, const CacheLayer& cache, Tensor h) const;
  Tensor experts(Step& step, int64_t layer, const Layer& w, Tensor h) const;

  ModelConfig cfg_;
  RouterConfig router_;
  RopeTable rope_;
  float softmax_scale_;  // (N + R)^-1/2 * m^2, m = YaRN's mscale_all_dim factor
  std::vector<Layer> layers_;
};

}  // namespace redoubt
