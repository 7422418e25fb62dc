#include "model/dense.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace redoubt {

Result<std::unique_ptr<Layers>> Dense::load(const ModelConfig& c, WeightLoader& loader) {
  std::unique_ptr<Dense> model(new Dense(c));
  const int64_t q_dim = c.num_attention_heads * c.head_dim, kv_dim = c.num_key_value_heads * c.head_dim;
  for (int64_t l = 0; l < c.num_hidden_layers; ++l) {
    const std::string at = fmt::format("model.layers.{}", l);
    Layer w{};
    REDOUBT_TRY(w.input_norm, loader.vector(at + ".input_layernorm.weight", c.hidden_size));
    REDOUBT_TRY(w.post_attention_norm, loader.vector(at + ".post_attention_layernorm.weight", c.hidden_size));
    REDOUBT_TRY(w.q, loader.packed(at + ".self_attn.q_proj", q_dim, c.hidden_size));
    REDOUBT_TRY(w.k, loader.packed(at + ".self_attn.k_proj", kv_dim, c.hidden_size, Inputs::fine));
    REDOUBT_TRY(w.v, loader.packed(at + ".self_attn.v_proj", kv_dim, c.hidden_size, Inputs::fine));
    REDOUBT_TRY(w.o, loader.packed(at + ".self_attn.o_proj", c.hidden_size, q_dim));
    REDOUBT_TRY(w.mlp, loader.mlp(at + ".mlp", c.hidden_size, c.intermediate_size));
    model->layers_.push_back(w);
  }
  return std::unique_ptr<Layers>(std::move(model));
}

int64_t Dense::arena_floats(const StepLimits& limits, int threads) const {
  const int64_t q_dim = cfg_.num_attention_heads * cfg_.head_dim, kv_dim = cfg_.num_key_value_heads * cfg_.head_dim;
  const int64_t t = limits.max_tokens;
  return t * (4 * cfg_.hidden_size + 2 * q_dim + 4 * kv_dim) + linear_input_floats(t, cfg_.hidden_size) +
         linear_input_floats(t, q_dim) + mlp_floats(t, cfg_.hidden_size, cfg_.intermediate_size, threads) +
         gqa_attention_floats(cfg_.head_dim, limits.max_chunks, threads);
}

Tensor Dense::attention(Step& step, const Layer& w, const CacheLayer& cache, Tensor h) const {
  OpContext& ctx = step.ctx;
  const int64_t d = cfg_.head_dim, kv_dim = cfg_.num_key_value_heads * d;
  const Tensor q = ctx.arena.tensor(h.rows, w.q.rows());
  const Tensor k = ctx.arena.tensor(h.rows, kv_dim), v = ctx.arena.tensor(h.rows, kv_dim);
  linear_all(ctx, h, {{&w.q, q}, {&w.k, k}, {&w.v, v}});
  const Tensor kv = ctx.arena.tensor(h.rows, 2 * kv_dim);  // as a cache row holds it: keys, then values
  over_rows(ctx, h.rows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      rope_rotate(rope_, step.angles.row(t), q.row(t), cfg_.num_attention_heads, d);
      rope_rotate(rope_, step.angles.row(t), k.row(t), cfg_.num_key_value_heads, d);
      std::copy_n(k.row(t), kv_dim, kv.row(t));
      std::copy_n(v.row(t), kv_dim, kv.row(t) + kv_dim);
    }
  });
  step.append(cache, kv);
  const Tensor o = ctx.arena.tensor(h.rows, q.cols);
  const GqaArgs args{q,
                     o,
                     cfg_.num_attention_heads,
                     cfg_.num_key_value_heads,
                     d,
                     static_cast<float>(1.0 / std::sqrt(static_cast<double>(d)))};
  gqa_attention(ctx, args, cache, step.direct);
  return linear(ctx, o, w.o);
}

void Dense::forward(Step& step, int64_t layer, const CacheLayer& cache, Tensor x) const {
  const Layer& w = layers_[static_cast<size_t>(layer)];
  const auto eps = static_cast<float>(cfg_.rms_norm_eps);
  add_into(step.ctx, attention(step, w, cache, rms_norm(step.ctx, x, w.input_norm, eps)), x);
  add_into(step.ctx, mlp(step.ctx, rms_norm(step.ctx, x, w.post_attention_norm, eps), w.mlp), x);
}

}  // namespace redoubt
