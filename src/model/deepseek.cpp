#include "model/deepseek.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace redoubt {
namespace {

// The norms on both latents keep this value whatever rms_norm_eps says: the released code gives them no other.
constexpr float kLatentNormEps = 1e-6f;

}  // namespace

DeepSeek::DeepSeek(const ModelConfig& c)
    : cfg_(c),
      router_{c.n_routed_experts, c.num_experts_per_tok, c.n_group,
              c.topk_group,       c.norm_topk_prob,      static_cast<float>(c.routed_scaling_factor),
              c.scoring_func,     c.topk_method},
      rope_(RopeTable::make(c.rope, c.rope_style, c.qk_rope_head_dim)) {
  double scale = 1.0 / std::sqrt(static_cast<double>(c.qk_head_dim()));
  if (c.rope.scaling == RopeConfig::Scaling::yarn && c.rope.mscale_all_dim != 0) {
    const double m = yarn_mscale(c.rope.factor, c.rope.mscale_all_dim);
    scale *= m * m;
  }
  softmax_scale_ = static_cast<float>(scale);
}

Result<std::unique_ptr<Layers>> DeepSeek::load(const ModelConfig& c, WeightLoader& loader, bool with_mtp) {
  std::unique_ptr<DeepSeek> model(new DeepSeek(c));
  for (int64_t l = 0; l < c.num_hidden_layers + (with_mtp ? 1 : 0); ++l) {
    REDOUBT_TRY(Layer layer, model->load_layer(loader, l));
    model->layers_.push_back(std::move(layer));
  }
  return std::unique_ptr<Layers>(std::move(model));
}

Result<DeepSeek::Layer> DeepSeek::load_layer(WeightLoader& loader, int64_t l) const {
  const ModelConfig& c = cfg_;
  const std::string at = fmt::format("model.layers.{}", l), attn = at + ".self_attn";
  const int64_t heads = c.num_attention_heads, q_dim = heads * c.qk_head_dim();
  Layer w{};
  REDOUBT_TRY(w.input_norm, loader.vector(at + ".input_layernorm.weight", c.hidden_size));
  REDOUBT_TRY(w.post_attention_norm, loader.vector(at + ".post_attention_layernorm.weight", c.hidden_size));
  if (c.q_lora_rank > 0) {
    REDOUBT_TRY(w.q_a, loader.packed(attn + ".q_a_proj", c.q_lora_rank, c.hidden_size));
    REDOUBT_TRY(w.q_a_norm, loader.vector(attn + ".q_a_layernorm.weight", c.q_lora_rank));
    REDOUBT_TRY(w.q_b, loader.packed(attn + ".q_b_proj", q_dim, c.q_lora_rank));
  } else {
    REDOUBT_TRY(w.q_b, loader.packed(attn + ".q_proj", q_dim, c.hidden_size));
  }
  REDOUBT_TRY(w.kv_a, loader.packed(attn + ".kv_a_proj_with_mqa", c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size,
                                    Inputs::fine));
  REDOUBT_TRY(w.kv_a_norm, loader.vector(attn + ".kv_a_layernorm.weight", c.kv_lora_rank));
  w.up = {.heads = heads, .nope = c.qk_nope_head_dim, .value = c.v_head_dim, .latent = c.kv_lora_rank};
  if (loader.has(attn + ".k_b_proj.weight")) {
    REDOUBT_TRY(w.up.k_b, loader.projection(attn + ".k_b_proj", heads * c.kv_lora_rank, c.qk_nope_head_dim));
    REDOUBT_TRY(w.up.v_b, loader.projection(attn + ".v_b_proj", heads * c.v_head_dim, c.kv_lora_rank));
  } else {
    REDOUBT_TRY(w.up.kv_b,
                loader.projection(attn + ".kv_b_proj", heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank));
  }
  REDOUBT_TRY(w.o, loader.packed(attn + ".o_proj", c.hidden_size, heads * c.v_head_dim));
  if (!c.is_moe_layer(l)) {
    REDOUBT_TRY(w.mlp, loader.mlp(at + ".mlp", c.hidden_size, c.intermediate_size));
    return w;
  }
  REDOUBT_TRY(w.moe.router, loader.matrix(at + ".mlp.gate", c.n_routed_experts, c.hidden_size));
  if (c.topk_method == TopkMethod::noaux_tc) {
    REDOUBT_TRY(w.moe.correction_bias, loader.vector(at + ".mlp.gate.e_score_correction_bias", c.n_routed_experts));
  }
  for (int64_t e = 0; e < c.n_routed_experts; ++e) {
    REDOUBT_TRY(MlpWeights expert,
                loader.mlp(fmt::format("{}.mlp.experts.{}", at, e), c.hidden_size, c.moe_intermediate_size));
    w.moe.add(expert);
  }
  if (c.n_shared_experts > 0) {
    REDOUBT_TRY(w.moe.shared,
                loader.mlp(at + ".mlp.shared_experts", c.hidden_size, c.n_shared_experts * c.moe_intermediate_size));
  }
  return w;
}

int64_t DeepSeek::arena_floats(const StepLimits& limits, int threads) const {
  const ModelConfig& c = cfg_;
  const int64_t heads = c.num_attention_heads, row = cache_width(), k = c.num_experts_per_tok;
  const int64_t attention = 2 * c.hidden_size + 2 * c.q_lora_rank + heads * (c.qk_head_dim() + c.v_head_dim) + 3 * row;
  const int64_t t = limits.max_tokens, shared = c.n_shared_experts * c.moe_intermediate_size;
  const bool sorted = std::ranges::any_of(layers_, [](const Layer& l) { return l.moe.sorted_columns; });
  const int64_t ffn =
      t * (4 * c.hidden_size + 4 * c.n_routed_experts + 2 * k + 32) +
      mlp_floats(t, c.hidden_size, c.intermediate_size, threads) +
      (c.n_routed_experts > 0
           ? moe_floats(t, {c.hidden_size, c.moe_intermediate_size, shared, k, c.n_routed_experts, sorted}, threads)
           : 0);
  const LatentUpProjection up{
      .heads = heads, .nope = c.qk_nope_head_dim, .value = c.v_head_dim, .latent = c.kv_lora_rank};
  return t * attention + ffn + linear_input_floats(t, std::max(c.hidden_size, heads * c.v_head_dim)) +
         mla_attention_floats(up, c.qk_rope_head_dim, limits.max_tokens, limits.max_chunks, threads) +
         8 * c.n_routed_experts + 4096;
}

Tensor DeepSeek::attention(Step& step, const Layer& w, const CacheLayer& cache, Tensor h) const {
  OpContext& ctx = step.ctx;
  const int64_t heads = cfg_.num_attention_heads, head = cfg_.qk_head_dim(), c = cfg_.kv_lora_rank;

  // What h is multiplied with: the query latent, if there is one, and all that is cached.
  const Tensor u = ctx.arena.tensor(h.rows, w.kv_a.rows());  // [T, C + R]
  Tensor c_q = h;
  if (w.q_a.empty()) {
    linear_into(ctx, h, w.kv_a, u);
  } else {
    c_q = ctx.arena.tensor(h.rows, w.q_a.rows());
    linear_all(ctx, h, {{&w.q_a, c_q}, {&w.kv_a, u}});
    rms_norm_into(ctx, c_q, w.q_a_norm, kLatentNormEps, c_q);
  }

  // Queries (eq. 6-9): nope part first, rope part last in each head.
  const Tensor q = linear(ctx, c_q, w.q_b);  // [T, H * (N + R)]

  // The cache (eq. 1, 3): one latent and one rotary key per token, shared by every head.
  ctx.kernels.rms_norm({u.data, u.cols, w.kv_a_norm, u.data, u.cols, u.rows, c, kLatentNormEps});
  over_rows(ctx, h.rows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      rope_rotate(rope_, step.angles.row(t), q.row(t) + cfg_.qk_nope_head_dim, heads, head);
      rope_rotate(rope_, step.angles.row(t), u.row(t) + c, 1, u.cols);
    }
  });
  step.append(cache, u);

  // Attention (eq. 10): keys and values are expanded, or queries meet the latents directly (Model::forms_agree).
  const Tensor o = ctx.arena.tensor(h.rows, heads * cfg_.v_head_dim);
  const MlaArgs args{q, o, w.up, cfg_.qk_rope_head_dim, softmax_scale_};
  if (!step.expanded.empty()) mla_expanded(ctx, args, cache, step.expanded);
  if (!step.direct.empty()) mla_absorbed(ctx, args, cache, step.direct);
  return linear(ctx, o, w.o);  // eq. 11
}

Tensor DeepSeek::experts(Step& step, int64_t layer, const Layer& w, Tensor h) const {
  OpContext& ctx = step.ctx;
  const int64_t k = cfg_.num_experts_per_tok, n = cfg_.n_routed_experts;
  const Tensor scores = linear(ctx, h, w.moe.router);  // [T, N_r]
  int32_t* chosen = ctx.arena.ints(h.rows * k);
  const Tensor gates = ctx.arena.tensor(h.rows, k);
  const Tensor work = ctx.arena.tensor(h.rows, 3 * n);  // a token's affinities, then route's scratch
  const auto choose = [&](bool imposed) {
    over_rows(ctx, h.rows, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        float* affinity = work.row(t);
        std::copy_n(scores.row(t), n, affinity);
        route(router_, affinity, w.moe.correction_bias, affinity + n, chosen + t * k, gates.row(t), imposed);
      }
    });
  };
  choose(false);
  if (step.observer != nullptr && step.observer->on_routing(layer, chosen, h.rows, k)) choose(true);
  return moe(ctx, h, w.moe, chosen, gates.data, k);
}

void DeepSeek::forward(Step& step, int64_t layer, const CacheLayer& cache, Tensor x) const {
  const Layer& w = layers_[static_cast<size_t>(layer)];
  const auto eps = static_cast<float>(cfg_.rms_norm_eps);
  add_into(step.ctx, attention(step, w, cache, rms_norm(step.ctx, x, w.input_norm, eps)), x);
  const Tensor h = rms_norm(step.ctx, x, w.post_attention_norm, eps);
  add_into(step.ctx, w.moe.experts.empty() ? mlp(step.ctx, h, w.mlp) : experts(step, layer, w, h), x);
}

}  // namespace redoubt
