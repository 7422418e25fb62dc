#include "kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/float_bits.h"
#include "formats/blocks.h"

namespace redoubt::reference {
namespace {

// n values of a row from `column`, FP8 scales applied.
void decode_columns(const WeightMatrix& w, int64_t row, int64_t column, int64_t n, float* out) {
  w.decode(w.data + row * w.row_bytes + column / w.block_elems * w.block_bytes, out, n);
  if (w.scales == nullptr) return;
  const float* scales = w.scales + row / kScaleBlock * w.scale_cols;
  for (int64_t i = 0; i < n; ++i) out[i] *= scales[(column + i) / kScaleBlock];
}

constexpr int64_t kTokens = 4;  // enough independent sums to hide the latency of an addition

// y[i][r] += sum over k, in order, of columns[k][r] * x[i][k]. Vectorised over r, never over k, and without fused
// multiply-add: the same bits at any vector width.
inline __attribute__((always_inline)) void accumulate_tile(const float* columns, int64_t n, const float* const* x,
                                                           float* const* y, int64_t count, int64_t rows) {
  float sums[kTokens][kRowGroup] = {};
  for (int64_t i = 0; i < count; ++i) std::copy_n(y[i], rows, sums[i]);
  for (int64_t k = 0; k < n; ++k) {
    for (int64_t i = 0; i < kTokens; ++i) {
      const float value = x[i][k];
      for (int64_t r = 0; r < kRowGroup; ++r) sums[i][r] += columns[k * kRowGroup + r] * value;
    }
  }
  for (int64_t i = 0; i < count; ++i) std::copy_n(sums[i], rows, y[i]);
}

using Accumulate = void (*)(const float*, int64_t, const float* const*, float* const*, int64_t, int64_t);

void accumulate_plain(const float* columns, int64_t n, const float* const* x, float* const* y, int64_t count,
                      int64_t rows) {
  accumulate_tile(columns, n, x, y, count, rows);
}
#if defined(__x86_64__)
__attribute__((target("avx2"))) void accumulate_avx2(const float* columns, int64_t n, const float* const* x,
                                                     float* const* y, int64_t count, int64_t rows) {
  accumulate_tile(columns, n, x, y, count, rows);
}
#endif

Accumulate accumulate_for_this_cpu() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return accumulate_avx2;
#endif
  return accumulate_plain;
}

template <DType dtype>
void decode(const unsigned char* in, float* out, int64_t n) {
  decode_row(dtype, reinterpret_cast<const std::byte*>(in), std::span(out, static_cast<size_t>(n)));
}

}  // namespace

// exp by the polynomial of simd/exp.inc in scalar form: the tables share the formula, not libm.
float exp_approximation(float x) {
  const float clipped = std::min(std::max(x, -87.33654f), 88.37626f);
  const float n = std::nearbyint(clipped * 1.44269504f);
  float r = clipped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = r * r * p + (r + 1.0f);
  return p * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

void linear(const LinearArgs& args) {
  static const auto accumulate = accumulate_for_this_cpu();
  const WeightMatrix& w = args.w;
  float* row_values = args.scratch;                          // [kColumnChunk]
  float* columns = args.scratch + kRowGroup * kColumnChunk;  // [kColumnChunk, kRowGroup]
  for (int64_t row = args.row_begin; row < args.row_end; row += kRowGroup) {
    const int64_t rows = std::min(kRowGroup, args.row_end - row);
    for (int64_t t = 0; t < args.tokens; ++t) std::fill_n(args.y + t * args.y_stride + row, rows, 0.0f);
    for (int64_t column = 0; column < w.cols; column += kColumnChunk) {
      const int64_t n = std::min(kColumnChunk, w.cols - column);
      for (int64_t r = 0; r < kRowGroup; ++r) {
        if (r < rows) {
          decode_columns(w, row + r, column, n, row_values);
        } else {
          std::fill_n(row_values, n, 0.0f);
        }
        for (int64_t k = 0; k < n; ++k) columns[k * kRowGroup + r] = row_values[k];
      }
      for (int64_t t = 0; t < args.tokens; t += kTokens) {
        const int64_t count = std::min(kTokens, args.tokens - t);
        const float* x[kTokens];
        float* y[kTokens];
        for (int64_t i = 0; i < kTokens; ++i) {
          const int64_t token = t + std::min(i, count - 1);
          x[i] = args.x + (args.x_rows != nullptr ? args.x_rows[token] : token) * args.x_stride + column;
          y[i] = args.y + token * args.y_stride + row;
        }
        accumulate(columns, n, x, y, count, rows);
      }
    }
    if (args.bias == nullptr) continue;
    for (int64_t t = 0; t < args.tokens; ++t) {
      for (int64_t r = 0; r < rows; ++r) args.y[t * args.y_stride + row + r] += args.bias[row + r];
    }
  }
}

void linear_transposed(const LinearTransposedArgs& args) {
  const WeightMatrix& w = args.w;
  for (int64_t t = 0; t < args.tokens; ++t) std::fill_n(args.y + t * args.y_stride, w.cols, 0.0f);
  for (int64_t row = args.row_begin; row < args.row_end; ++row) {
    for (int64_t column = 0; column < w.cols; column += kColumnChunk) {
      const int64_t n = std::min(kColumnChunk, w.cols - column);
      decode_columns(w, row, column, n, args.scratch);
      for (int64_t t = 0; t < args.tokens; ++t) {
        const float x = args.x[t * args.x_stride + row - args.row_begin];
        float* y = args.y + t * args.y_stride + column;
        for (int64_t c = 0; c < n; ++c) y[c] += args.scratch[c] * x;
      }
    }
  }
}

void rms_norm(const RmsNormArgs& args) {
  for (int64_t row = 0; row < args.rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    float sum = 0.0f;
    for (int64_t i = 0; i < args.dim; ++i) sum += x[i] * x[i];
    const float scale = 1.0f / std::sqrt(sum / static_cast<float>(args.dim) + args.eps);
    for (int64_t i = 0; i < args.dim; ++i) y[i] = x[i] * scale * args.weight[i];
  }
}

void silu_mul(const SiluMulArgs& args) {
  for (int64_t i = 0; i < args.n; ++i) {
    args.y[i] = args.gate[i] / (1.0f + exp_approximation(-args.gate[i])) * args.up[i];
  }
}

void axpy(const AxpyArgs& args) {
  for (int64_t i = 0; i < args.n; ++i) args.y[i] += args.a * args.x[i];
}

void bf16_encode(const float* in, uint16_t* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = bf16_from_float(in[i]);
}

DecodeFn decoder(DType dtype) {
  switch (dtype) {
#define REDOUBT_CASE(type) \
  case DType::type:        \
    return &decode<DType::type>;
    // clang-format off
    REDOUBT_CASE(f32) REDOUBT_CASE(f16) REDOUBT_CASE(bf16) REDOUBT_CASE(f64) REDOUBT_CASE(f8_e4m3) REDOUBT_CASE(q4_0)
    REDOUBT_CASE(q4_1) REDOUBT_CASE(q5_0) REDOUBT_CASE(q5_1) REDOUBT_CASE(q8_0) REDOUBT_CASE(q2_k) REDOUBT_CASE(q3_k)
    REDOUBT_CASE(q4_k) REDOUBT_CASE(q5_k) REDOUBT_CASE(q6_k) REDOUBT_CASE(iq2_xxs) REDOUBT_CASE(iq2_xs) REDOUBT_CASE(iq3_xxs)
    REDOUBT_CASE(iq1_s) REDOUBT_CASE(iq4_nl) REDOUBT_CASE(iq3_s) REDOUBT_CASE(iq2_s) REDOUBT_CASE(iq4_xs) REDOUBT_CASE(iq1_m)
    REDOUBT_CASE(tq1_0) REDOUBT_CASE(tq2_0) REDOUBT_CASE(mxfp4)
    REDOUBT_CASE(g4_32) REDOUBT_CASE(g4_64) REDOUBT_CASE(g4_128) REDOUBT_CASE(g8_32) REDOUBT_CASE(i8_32)
    REDOUBT_CASE(i8_128) REDOUBT_CASE(nf4)
    // clang-format on
#undef REDOUBT_CASE
                                default : return nullptr;
  }
}

}  // namespace redoubt::reference
