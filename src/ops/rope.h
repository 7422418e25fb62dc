// Rotary position embedding. Angle of pair i at position p: p * inv_freq[i] in float32; cosine and sine by a polynomial
// after an exact reduction in double, so that no kernel calls libm.
// Source: RoFormer (arXiv:2104.09864) eq. 34; YaRN (arXiv:2309.00071) §3; Llama 3.1 scaling.
#pragma once

#include <vector>

#include "formats/model_config.h"
#include "ops/context.h"

namespace redoubt {

struct RopeTable {
  std::vector<float> inv_freq;  // [dim / 2]
  float magnitude = 1.0f;       // multiplies cosine and sine (YaRN's attention factor)
  RopeStyle style = RopeStyle::half;

  static RopeTable make(const RopeConfig& config, RopeStyle style, int64_t dim);
};

// YaRN's 0.1 * mscale * ln(factor) + 1, 1 if factor <= 1.
double yarn_mscale(double factor, double mscale);

// cos_sin [T, dim]: cosine of pair i at [2i], sine at [2i + 1].
Tensor rope_angles(OpContext& ctx, const RopeTable& table, std::span<const int32_t> positions);

// Rotates x [heads, dim] (row stride given) of one token in place.
void rope_rotate(const RopeTable& table, const float* cos_sin, float* x, int64_t heads, int64_t stride);

}  // namespace redoubt
