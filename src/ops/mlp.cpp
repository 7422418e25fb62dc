#include "ops/mlp.h"

#include <algorithm>

namespace redoubt {
namespace {

constexpr int64_t kAhead = 8;  // rows whose codes are written soon

}  // namespace

void make_ready(OpContext& ctx, const MlpWeights& w) {
  for (const Weight* weight : {&w.gate, &w.up, &w.down}) make_ready(ctx, *weight);
}

GatedInput gated_input(OpContext& ctx, Tensor x, const MlpWeights& w) {
  InputForms forms;
  (forms |= w.gate) |= w.up;
  const LinearInput gate = linear_input(ctx, x, forms, w.gate.columns);
  return {gate, w.up.columns == w.gate.columns ? gate : linear_input(ctx, x, forms, w.up.columns)};
}

InnerValues::InnerValues(OpContext& ctx, int64_t rows, int64_t inner, InputForms forms, int64_t tokens, int64_t step,
                         bool as_floats)
    : forms_(forms),
      as_floats_(as_floats || forms.float32),
      values_{nullptr, rows, inner},
      step_(std::min(step, inner)) {
  if (as_floats_) {
    values_ = ctx.arena.tensor(rows, inner);
    up_ = ctx.arena.tensor(rows, inner);
    return;
  }
  if (forms.int8) int8_ = quantized_rows(ctx, rows, inner);
  if (forms.fine) remainder_ = quantized_rows(ctx, rows, inner);
  if (forms.bf16) bf16_ = ctx.arena.values<uint16_t>(rows * quantized_stride(inner));
  chunks_ = ctx.arena.tensor(ctx.pool.num_threads(), 2 * std::min(tokens, kPackedTokens) * step_);
}

int64_t InnerValues::floats(int64_t rows, int64_t inner, int64_t tokens, int64_t hidden, int threads) {
  const int64_t chunk = std::min(tokens, kPackedTokens) * std::min(inner, most_rows_per_chunk(2 * hidden));
  return std::max(2 * rows * inner, threads * 2 * chunk) + linear_input_floats(rows, inner) + 64;
}

// A row's codes lie a whole row apart from the next one's, so that no prefetcher foresees them.
void InnerValues::ask_for(int64_t begin, int64_t row) const {
  if (!forms_.int8) return;
  const QuantizedRows to = rows_from(int8_, row);
  __builtin_prefetch(to.q + begin, 1);
  __builtin_prefetch(to.scale + begin / 32, 1);
  __builtin_prefetch(to.sum + begin / 32, 1);
  __builtin_prefetch(to.minus + begin / 16, 1);
  __builtin_prefetch(to.pairs + begin / 16, 1);
}

// The values are not needed after it.
void InnerValues::encode(const OpContext& ctx, float* values, int64_t begin, int64_t n, int64_t row) const {
  if (forms_.bf16) {
    uint16_t* to = bf16_ + row * quantized_stride(values_.cols) + begin;
    ctx.kernels.bf16_encode(values, to, n);
    std::fill(to + n, to + quantized_stride(n), uint16_t{0});
  }
  if (forms_.int8) quantize_values(ctx, values, begin, n, int8_, row);
  if (forms_.fine) {
    rest_of_codes(values, begin, n, int8_, row, values);
    quantize_values(ctx, values, begin, n, remainder_, row);
  }
}

void InnerValues::compute(const OpContext& ctx, const GatedInput& in, const MlpWeights& w, LinearPart part, int64_t to,
                          int thread) const {
  const int64_t n = part.end - part.begin, tokens = part.tokens;
  const int64_t at_once = as_floats_ ? tokens : chunks_.cols / (2 * step_);
  for (int64_t first = 0; first < tokens; first += at_once) {
    LinearPart block = part;
    block.tokens = std::min(at_once, tokens - first);
    if (part.x_rows != nullptr) {
      block.x_rows += first;
    } else {
      block.first += first;
    }
    block.y_stride = as_floats_ ? values_.cols : step_;
    float* gate = as_floats_ ? values_.row(to) : chunks_.row(thread) - part.begin;
    float* up = as_floats_ ? up_.row(to) : gate + at_once * step_;
    block.y = gate;
    linear_part(ctx, in.gate, w.gate, block, thread);
    block.y = up;
    linear_part(ctx, in.up, w.up, block, thread);
    for (int64_t t = 0; t < block.tokens; ++t) {
      float* values = gate + t * block.y_stride + part.begin;
      ctx.kernels.silu_mul({values, up + t * block.y_stride + part.begin, values, n});
      if (!as_floats_ && t + kAhead < block.tokens) ask_for(part.begin, to + first + t + kAhead);
      if (!as_floats_) encode(ctx, values, part.begin, n, to + first + t);
    }
  }
}

LinearInput InnerValues::input(OpContext& ctx, const int32_t* columns) const {
  if (as_floats_) return linear_input(ctx, values_, forms_, columns);
  return {.x = values_, .int8 = int8_, .remainder = remainder_, .bf16 = bf16_};
}

Tensor mlp(OpContext& ctx, Tensor x, const MlpWeights& w) {
  const Tensor y = ctx.arena.tensor(x.rows, w.down.rows());
  const ArenaScope scope(ctx.arena);
  make_ready(ctx, w);
  const int64_t inner = w.gate.rows(), step = rows_per_chunk(inner, 2 * x.cols, x.rows, ctx.pool.num_threads());
  InputForms forms;
  forms |= w.down;
  const InnerValues values(ctx, x.rows, inner, forms, x.rows, step, w.down.columns != nullptr);
  {
    const ArenaScope input_scope(ctx.arena);
    const GatedInput in = gated_input(ctx, x, w);
    ctx.pool.parallel_for((inner + step - 1) / step, [&](int64_t chunk, int thread) {
      const int64_t begin = chunk * step, end = std::min(inner, begin + step);
      values.compute(ctx, in, w, {.tokens = x.rows, .begin = begin, .end = end}, 0, thread);
    });
  }
  linear_over(ctx, values.input(ctx, w.down.columns), {{&w.down, y}});
  return y;
}

int64_t mlp_floats(int64_t tokens, int64_t hidden, int64_t inner, int threads) {
  return InnerValues::floats(tokens, inner, tokens, hidden, threads) + 2 * linear_input_floats(tokens, hidden);
}

}  // namespace redoubt
