#include "ops/linear.h"

#include <algorithm>

namespace redoubt {
namespace {

// Rows of W in one chunk of work: several a thread, so that a slow core is helped, but not so few that claiming costs.
int64_t rows_per_chunk(int64_t rows, int threads) {
  const int64_t wanted = rows / (8 * threads);
  return std::clamp<int64_t>(wanted / kRowGroup * kRowGroup, kRowGroup, 256);
}

}  // namespace

void linear_into(OpContext& ctx, Tensor x, const Weight& w, Tensor y) {
  const int64_t rows = w.rows(), step = rows_per_chunk(rows, ctx.pool.num_threads());
  ctx.pool.parallel_for((rows + step - 1) / step, [&](int64_t chunk, int thread) {
    ctx.kernels.linear({.w = w.matrix,
                        .x = x.data,
                        .x_stride = x.cols,
                        .x_rows = nullptr,
                        .y = y.data,
                        .y_stride = y.cols,
                        .tokens = x.rows,
                        .row_begin = chunk * step,
                        .row_end = std::min(rows, (chunk + 1) * step),
                        .bias = w.bias,
                        .scratch = ctx.scratch[static_cast<size_t>(thread)]});
  });
}

Tensor linear(OpContext& ctx, Tensor x, const Weight& w) {
  const Tensor y = ctx.arena.tensor(x.rows, w.rows());
  linear_into(ctx, x, w, y);
  return y;
}

void rms_norm_into(OpContext& ctx, Tensor x, const float* weight, float eps, Tensor y) {
  ctx.kernels.rms_norm({x.data, x.cols, weight, y.data, y.cols, x.rows, x.cols, eps});
}

Tensor rms_norm(OpContext& ctx, Tensor x, const float* weight, float eps) {
  const Tensor y = ctx.arena.tensor(x.rows, x.cols);
  rms_norm_into(ctx, x, weight, eps, y);
  return y;
}

void add_into(OpContext& ctx, Tensor x, Tensor y) { ctx.kernels.axpy({1.0f, x.data, y.data, x.rows * x.cols}); }

void embed(OpContext&, const Weight& table, std::span<const int32_t> tokens, float* y) {
  const WeightMatrix& m = table.matrix;
  for (size_t i = 0; i < tokens.size(); ++i) {
    m.decode(m.data + tokens[i] * m.row_bytes, y + static_cast<int64_t>(i) * m.cols, m.cols);
  }
}

Tensor mlp(OpContext& ctx, Tensor x, const MlpWeights& w) {
  const Tensor y = ctx.arena.tensor(x.rows, w.down.rows());
  const ArenaScope scope(ctx.arena);
  const Tensor gate = linear(ctx, x, w.gate);
  const Tensor up = linear(ctx, x, w.up);
  ctx.pool.parallel_for(x.rows, [&](int64_t t, int) {
    ctx.kernels.silu_mul({gate.row(t), up.row(t), gate.row(t), gate.cols});
  });
  linear_into(ctx, gate, w.down, y);
  return y;
}

}  // namespace redoubt
