// The definition of the kernels over packed weights, one output at a time.
#include <algorithm>
#include <bit>
#include <cmath>

#include "core/dtype.h"
#include "core/float_bits.h"
#include "core/result.h"
#include "formats/packing.h"
#include "kernels/packed_entry.h"
#include "kernels/packed_kernels.h"

namespace redoubt::reference {
namespace {

DType stored_type(PackedType type) {
  for (int i = 0; i < kNumDTypes; ++i) {
    if (packed_type(static_cast<DType>(i)) == type) return static_cast<DType>(i);
  }
  REDOUBT_ASSERT(false);
  return DType::f32;
}

int64_t x_row(const PackedLinearArgs& args, int64_t token) {
  return args.x_rows != nullptr ? args.x_rows[token] : token;
}

// sums[t][r] += the unit's columns times x, in the order that PackedLinearArgs states.
void add_unit(const PackedUnit& unit, const PackedShape& shape, const PackedLinearArgs& args, const QuantizedRows& x,
              int64_t u, float (*sums)[kPackedRows]) {
  for (int64_t t = 0; t < args.tokens; ++t) {
    const int64_t row = x_row(args, t), at = row * (x.stride / 32) + u;
    const int8_t* q = x.q + row * x.stride + 32 * u;
    for (int64_t r = 0; r < kPackedRows; ++r) {
      const int columns = 32 * shape.planes / shape.scales_per_unit;
      for (int s = 0; s < shape.scales_per_unit; ++s) {
        const int plane = shape.planes == 2 ? s : 0, first = shape.planes == 2 ? 0 : s * columns;
        int32_t dot = 0;
        for (int k = first; k < first + columns; ++k) dot += (unit.codes[plane][r][k] - shape.offset) * q[k];
        sums[t][r] = std::fmaf(static_cast<float>(dot), unit.scale[s][r] * x.scale[at], sums[t][r]);
      }
      if (shape.has_minimum) sums[t][r] = std::fmaf(unit.minimum[r], x.sum[at], sums[t][r]);
    }
  }
}

// y = sums + bias, or y += sums.
void store(const PackedLinearArgs& args, int64_t row, const float (*sums)[kPackedRows], bool add = false) {
  for (int64_t t = 0; t < args.tokens; ++t) {
    for (int64_t r = 0; r < std::min(kPackedRows, args.row_end - row); ++r) {
      float& y = args.y[t * args.y_stride + row + r];
      if (add) {
        y = sums[t][r] + y;
      } else {
        y = args.bias != nullptr ? sums[t][r] + args.bias[row + r] : sums[t][r];
      }
    }
  }
}

}  // namespace

void packed_linear(const PackedLinearArgs& args) {
  const DType dtype = stored_type(args.w.type);
  const PackedShape shape = packed_shape(dtype);
  auto* sums = reinterpret_cast<float(*)[kPackedRows]>(args.scratch);
  for (int64_t row = args.row_begin; row < args.row_end; row += kPackedRows) {
    const auto* group = reinterpret_cast<const std::byte*>(args.w.data + row / kPackedRows * args.w.group_bytes);
    for (const QuantizedRows* x : {&args.x, &args.remainder}) {
      if (x->q == nullptr) continue;
      std::fill_n(args.scratch, args.tokens * kPackedRows, 0.0f);
      for (int64_t u = 0; u < args.w.cols / 32; ++u) {
        add_unit(packed_unit(dtype, group, args.w.cols, u), shape, args, *x, u, sums);
      }
      store(args, row, sums, x == &args.remainder);
    }
  }
}

void packed_linear_bf16(const PackedLinearArgs& args) {
  const bool fp8 = args.w.type == PackedType::f8_e4m3;
  auto* sums = reinterpret_cast<float(*)[kPackedRows]>(args.scratch);
  for (int64_t row = args.row_begin; row < args.row_end; row += kPackedRows) {
    std::fill_n(args.scratch, args.tokens * kPackedRows, 0.0f);
    const unsigned char* group = args.w.data + row / kPackedRows * args.w.group_bytes;
    for (int64_t t = 0; t < args.tokens; ++t) {
      const uint16_t* x = args.x_bf16 + x_row(args, t) * args.x.stride;
      for (int64_t r = 0; r < kPackedRows; ++r) {
        float sum = 0, part = 0;  // FP8: a sum for each block of 128 columns, then times its scale
        for (int64_t k = 0; k < args.w.cols; ++k) {
          float w;
          if (fp8) {
            w = float_from_e4m3(group[k / 4 * 64 + 4 * r + k % 4]);
          } else {
            const unsigned char* at = group + k / 2 * 64 + 4 * r + 2 * (k % 2);
            w = float_from_bf16(static_cast<uint16_t>(at[0] | at[1] << 8));
          }
          part += w * float_from_bf16(x[k]);
          if (fp8 && ((k + 1) % kScaleBlock == 0 || k + 1 == args.w.cols)) {
            const float scale = args.w.scales != nullptr
                                    ? args.w.scales[row / kScaleBlock * args.w.scale_cols + k / kScaleBlock]
                                    : 1.0f;
            sum = std::fmaf(part, scale, sum);
            part = 0;
          }
        }
        sums[t][r] = fp8 ? sum : part;
      }
    }
    store(args, row, sums);
  }
}

void quantize_row(const QuantizeRowArgs& args) {
  for (int64_t unit = 0; unit < args.stride / 32; ++unit) {
    const int64_t n = std::clamp<int64_t>(args.cols - 32 * unit, 0, 32);
    const float* x = args.x + 32 * unit;
    float top = 0;
    for (int64_t i = 0; i < n; ++i) top = std::max(top, std::fabs(x[i]));
    const float scale = top / kLargestCode, inverse = top > 0 ? kLargestCode / top : 0.0f;
    int32_t* minus = args.minus + 2 * unit;
    minus[0] = minus[1] = 0;
    for (int64_t i = 0; i < 32; ++i) {
      const float rounded = i < n ? std::nearbyint(x[i] * inverse) : 0.0f;
      const auto code = static_cast<int8_t>(std::isfinite(rounded) ? std::clamp(rounded, -128.0f, 127.0f) : 0.0f);
      args.q[32 * unit + i] = code;
      minus[i / 16] -= code;
    }
    int32_t* pairs = args.pairs + 2 * unit;
    pairs[0] = 0;
    for (int64_t i = 32 * unit; i < 32 * unit + 16; ++i) pairs[0] -= (args.q[i] + 128) * args.q[i + 16];
    pairs[1] = pairs[0] - 8 * (minus[0] + minus[1]);
    args.scale[unit] = scale;
    args.sum[unit] = scale * static_cast<float>(-(minus[0] + minus[1]));
  }
}

}  // namespace redoubt::reference
