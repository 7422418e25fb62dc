#include "ops/linear.h"

#include <algorithm>

namespace redoubt {
namespace {

QuantizedRows int8_rows(OpContext& ctx, Tensor x) {
  const QuantizedRows rows = quantized_rows(ctx, x.rows, x.cols);
  over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) quantize_values(ctx, x.row(t), 0, x.cols, rows, t);
  });
  return rows;
}

void packed_part(const OpContext& ctx, const LinearInput& in, const Weight& w, const LinearPart& part, int thread) {
  for (int64_t at = 0; at < part.tokens; at += kPackedTokens) {
    const int64_t row = part.x_rows != nullptr ? 0 : part.first + at;
    PackedLinearArgs args{.w = w.packed,
                          .x = {.stride = quantized_stride(in.x.cols)},
                          .x_bf16 = in.bf16,
                          .x_rows = part.x_rows != nullptr ? part.x_rows + at : nullptr,
                          .y = part.y + at * part.y_stride,
                          .y_stride = part.y_stride,
                          .tokens = std::min(kPackedTokens, part.tokens - at),
                          .row_begin = part.begin,
                          .row_end = part.end,
                          .bias = w.bias,
                          .scratch = ctx.scratch[static_cast<size_t>(thread)]};
    if (w.input == PackedInput::bf16) {
      args.x_bf16 += row * args.x.stride;
      ctx.packed.linear_bf16(args);
      continue;
    }
    args.x = rows_from(in.int8, row);
    if (w.fine) args.remainder = rows_from(in.remainder, row);
    ctx.packed.linear(args);
  }
}

}  // namespace

QuantizedRows rows_from(QuantizedRows rows, int64_t t) {
  const int64_t units = rows.stride / 32;
  return {.q = rows.q + t * rows.stride,
          .scale = rows.scale + t * units,
          .sum = rows.sum + t * units,
          .minus = rows.minus + 2 * t * units,
          .pairs = rows.pairs + 2 * t * units,
          .stride = rows.stride};
}

QuantizedRows quantized_rows(OpContext& ctx, int64_t rows, int64_t cols) {
  const int64_t stride = quantized_stride(cols), units = stride / 32;
  return {.q = ctx.arena.values<int8_t>(rows * stride),
          .scale = ctx.arena.floats(rows * units),
          .sum = ctx.arena.floats(rows * units),
          .minus = ctx.arena.ints(rows * units * 2),
          .pairs = ctx.arena.ints(rows * units * 2),
          .stride = stride};
}

void quantize_values(const OpContext& ctx, const float* x, int64_t begin, int64_t n, const QuantizedRows& to,
                     int64_t t) {
  const QuantizedRows row = rows_from(to, t);
  const int64_t unit = begin / 32;
  ctx.packed.quantize_row({.x = x,
                           .cols = n,
                           .stride = quantized_stride(n),
                           .q = row.q + begin,
                           .scale = row.scale + unit,
                           .sum = row.sum + unit,
                           .minus = row.minus + 2 * unit,
                           .pairs = row.pairs + 2 * unit});
}

void rest_of_codes(const float* x, int64_t begin, int64_t n, const QuantizedRows& codes, int64_t t, float* rest) {
  const int8_t* q = codes.q + t * codes.stride + begin;
  const float* scale = codes.scale + t * (codes.stride / 32) + begin / 32;
  for (int64_t k = 0; k < n; ++k) rest[k] = x[k] - static_cast<float>(q[k]) * scale[k / 32];
}

int64_t rows_per_chunk(int64_t rows, int64_t cols, int64_t tokens, int threads) {
  // Some 10 us of reading for a core, 256 K weights, or under a millisecond of arithmetic, 256 M products: few tokens
  // are bound by memory, and a chunk of many reads all of their activations.
  const int64_t by_work =
      std::min((int64_t{1} << 18) / cols, (int64_t{1} << 28) / (cols * std::max<int64_t>(tokens, 1)));
  const int64_t by_share = rows / (4 * threads), rows_at_once = 4 * kRowGroup;  // as many as a kernel takes
  const int64_t least = by_share < rows_at_once ? 2 * kRowGroup : rows_at_once;
  return std::max(std::min(by_work, by_share) / least, int64_t{1}) * least;
}

int64_t most_rows_per_chunk(int64_t cols) { return std::max(4 * kRowGroup, (int64_t{1} << 18) / cols); }

LinearInput linear_input(OpContext& ctx, Tensor x, InputForms forms, const int32_t* columns) {
  if (columns != nullptr) {
    const Tensor sorted = ctx.arena.tensor(x.rows, x.cols);
    over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t j = 0; j < x.cols; ++j) sorted.row(t)[j] = x.row(t)[columns[j]];
      }
    });
    x = sorted;
  }
  LinearInput in{.x = x};
  const int64_t stride = quantized_stride(x.cols);
  if (forms.int8) in.int8 = int8_rows(ctx, x);
  if (forms.fine) {
    const Tensor rest = ctx.arena.tensor(x.rows, x.cols);
    over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) rest_of_codes(x.row(t), 0, x.cols, in.int8, t, rest.row(t));
    });
    in.remainder = int8_rows(ctx, rest);
  }
  if (forms.bf16) {
    auto* rows = ctx.arena.values<uint16_t>(x.rows * stride);
    over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        ctx.kernels.bf16_encode(x.row(t), rows + t * stride, x.cols);
        std::fill(rows + t * stride + x.cols, rows + (t + 1) * stride, uint16_t{0});
      }
    });
    in.bf16 = rows;
  }
  return in;
}

int64_t linear_input_floats(int64_t rows, int64_t cols) {
  const int64_t stride = quantized_stride(cols);
  return rows * (2 * (stride / 4 + 6 * stride / 32) + 2 * stride + stride / 2) + 14 * 16;
}

void linear_part(const OpContext& ctx, const LinearInput& in, const Weight& w, const LinearPart& part, int thread) {
  if (w.packed.data != nullptr) return packed_part(ctx, in, w, part, thread);
  const Tensor& x = in.x;
  ctx.kernels.linear({.w = w.matrix,
                      .x = part.x_rows != nullptr ? x.data : x.row(part.first),
                      .x_stride = x.cols,
                      .x_rows = part.x_rows,
                      .y = part.y,
                      .y_stride = part.y_stride,
                      .tokens = part.tokens,
                      .row_begin = part.begin,
                      .row_end = part.end,
                      .bias = w.bias,
                      .scratch = ctx.scratch[static_cast<size_t>(thread)]});
}

void linear_all(OpContext& ctx, Tensor x, std::initializer_list<LinearTask> tasks) {
  const int32_t* columns = tasks.begin()->weight->columns;
  if (std::ranges::any_of(tasks, [=](const LinearTask& task) { return task.weight->columns != columns; })) {
    for (const LinearTask& task : tasks) linear_all(ctx, x, {task});
    return;
  }
  const ArenaScope scope(ctx.arena);
  InputForms forms;
  for (const LinearTask& task : tasks) {
    make_ready(ctx, *task.weight);
    forms |= *task.weight;
  }
  linear_over(ctx, linear_input(ctx, x, forms, columns), tasks);
}

void linear_over(OpContext& ctx, const LinearInput& in, std::initializer_list<LinearTask> tasks) {
  int64_t rows = 0, chunks = 0;
  for (const LinearTask& task : tasks) rows += task.weight->rows();
  const int64_t step = rows_per_chunk(rows, in.x.cols, in.x.rows, ctx.pool.num_threads());
  for (const LinearTask& task : tasks) chunks += (task.weight->rows() + step - 1) / step;
  ctx.pool.parallel_for(chunks, [&](int64_t chunk, int thread) {
    const LinearTask* task = tasks.begin();
    for (; chunk >= (task->weight->rows() + step - 1) / step; ++task) chunk -= (task->weight->rows() + step - 1) / step;
    linear_part(ctx, in, *task->weight,
                {.tokens = in.x.rows,
                 .begin = chunk * step,
                 .end = std::min(task->weight->rows(), (chunk + 1) * step),
                 .y = task->y.data,
                 .y_stride = task->y.cols},
                thread);
  });
}

void linear_into(OpContext& ctx, Tensor x, const Weight& w, Tensor y) { linear_all(ctx, x, {{&w, y}}); }

Tensor linear(OpContext& ctx, Tensor x, const Weight& w) {
  const Tensor y = ctx.arena.tensor(x.rows, w.rows());
  linear_into(ctx, x, w, y);
  return y;
}

void rms_norm_into(OpContext& ctx, Tensor x, const float* weight, float eps, Tensor y) {
  over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
    ctx.kernels.rms_norm({x.row(begin), x.cols, weight, y.row(begin), y.cols, end - begin, x.cols, eps});
  });
}

Tensor rms_norm(OpContext& ctx, Tensor x, const float* weight, float eps) {
  const Tensor y = ctx.arena.tensor(x.rows, x.cols);
  rms_norm_into(ctx, x, weight, eps, y);
  return y;
}

void add_into(OpContext& ctx, Tensor x, Tensor y) {
  over_rows(ctx, x.rows, [&](int64_t begin, int64_t end) {
    ctx.kernels.axpy({1.0f, x.row(begin), y.row(begin), (end - begin) * x.cols});
  });
}

void embed(OpContext&, const Weight& table, std::span<const int32_t> tokens, float* y) {
  const WeightMatrix& m = table.matrix;
  for (size_t i = 0; i < tokens.size(); ++i) {
    m.decode(m.data + tokens[i] * m.row_bytes, y + static_cast<int64_t>(i) * m.cols, m.cols);
  }
}

}  // namespace redoubt
