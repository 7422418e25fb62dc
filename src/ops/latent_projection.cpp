#include "ops/latent_projection.h"

#include <algorithm>

namespace redoubt {
namespace {

// Packed weights take their input a slice of rows at a time, prepared in the thread's scratch behind the kernel's.
constexpr int64_t kSlice = OpContext::kProjectionRows;

bool packed_rows(const Weight& w, int64_t begin) {
  return w.input == PackedInput::int8 && begin % kRowGroup == 0 && w.cols() <= OpContext::kProjectionCols;
}

void packed_rows_of(const OpContext& ctx, const Weight& w, int64_t begin, int64_t count, const float* x,
                    int64_t x_stride, int64_t tokens, float* y, int64_t y_stride, int thread) {
  float* scratch = ctx.scratch[static_cast<size_t>(thread)];
  const int64_t stride = quantized_stride(w.cols()), units = stride / 32;
  float* at = scratch + OpContext::kKernelScratch;
  const QuantizedRows in{.q = reinterpret_cast<int8_t*>(at),
                         .scale = at + kSlice * stride / 4,
                         .sum = at + kSlice * (stride / 4 + units),
                         .minus = reinterpret_cast<int32_t*>(at + kSlice * (stride / 4 + 2 * units)),
                         .pairs = reinterpret_cast<int32_t*>(at + kSlice * (stride / 4 + 4 * units)),
                         .stride = stride};
  for (int64_t first = 0; first < tokens; first += kSlice) {
    const int64_t n = std::min(kSlice, tokens - first);
    for (int64_t t = 0; t < n; ++t) quantize_values(ctx, x + (first + t) * x_stride, 0, w.cols(), in, t);
    ctx.packed.linear({.w = w.packed,
                       .x = in,
                       .x_bf16 = nullptr,
                       .x_rows = nullptr,
                       .y = y + first * y_stride - begin,
                       .y_stride = y_stride,
                       .tokens = n,
                       .row_begin = begin,
                       .row_end = begin + count,
                       .bias = nullptr,
                       .scratch = scratch});
  }
}

// y [tokens, count] = rows [begin, begin + count) of w times x.
void rows_of(const OpContext& ctx, const Weight& w, int64_t begin, int64_t count, const float* x, int64_t x_stride,
             int64_t tokens, float* y, int64_t y_stride, int thread) {
  if (packed_rows(w, begin)) return packed_rows_of(ctx, w, begin, count, x, x_stride, tokens, y, y_stride, thread);
  ctx.kernels.linear({.w = w.matrix,
                      .x = x,
                      .x_stride = x_stride,
                      .x_rows = nullptr,
                      .y = y - begin,
                      .y_stride = y_stride,
                      .tokens = tokens,
                      .row_begin = begin,
                      .row_end = begin + count,
                      .bias = nullptr,
                      .scratch = ctx.scratch[static_cast<size_t>(thread)]});
}

// y [tokens, cols] = x [tokens, count] times rows [begin, begin + count) of w.
void times_rows_of(const OpContext& ctx, const Weight& w, int64_t begin, int64_t count, const float* x,
                   int64_t x_stride, int64_t tokens, float* y, int64_t y_stride, int thread) {
  ctx.kernels.linear_transposed({.w = w.matrix,
                                 .x = x,
                                 .x_stride = x_stride,
                                 .y = y,
                                 .y_stride = y_stride,
                                 .tokens = tokens,
                                 .row_begin = begin,
                                 .row_end = begin + count,
                                 .scratch = ctx.scratch[static_cast<size_t>(thread)]});
}

}  // namespace

void expand_keys(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* latents, int64_t stride,
                 int64_t n, float* k_nope, int thread) {
  if (!up.kv_b.empty()) {
    rows_of(ctx, up.kv_b, h * (up.nope + up.value), up.nope, latents, stride, n, k_nope, up.nope, thread);
  } else {
    times_rows_of(ctx, up.k_b, h * up.latent, up.latent, latents, stride, n, k_nope, up.nope, thread);
  }
}

void expand_values(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* latents, int64_t stride,
                   int64_t n, float* v, int thread) {
  project_outputs(ctx, up, h, latents, stride, n, v, up.value, thread);
}

void absorb_queries(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* q, int64_t q_stride,
                    int64_t tokens, float* y, int64_t y_stride, int thread) {
  if (!up.kv_b.empty()) {
    times_rows_of(ctx, up.kv_b, h * (up.nope + up.value), up.nope, q, q_stride, tokens, y, y_stride, thread);
  } else {
    rows_of(ctx, up.k_b, h * up.latent, up.latent, q, q_stride, tokens, y, y_stride, thread);
  }
}

void project_outputs(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* o, int64_t o_stride,
                     int64_t tokens, float* y, int64_t y_stride, int thread) {
  if (!up.kv_b.empty()) {
    rows_of(ctx, up.kv_b, h * (up.nope + up.value) + up.nope, up.value, o, o_stride, tokens, y, y_stride, thread);
  } else {
    rows_of(ctx, up.v_b, h * up.value, up.value, o, o_stride, tokens, y, y_stride, thread);
  }
}

}  // namespace redoubt
