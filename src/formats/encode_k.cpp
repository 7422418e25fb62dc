// Encoders of Q4_K, Q5_K and Q6_K: scales searched by weighted least squares.
//
// Each sub-block x is fitted by scale * q - min (Q4_K, Q5_K) or scale * q (Q6_K): several trial grids, for each the
// best scale in closed form, and the trial of least weighted error wins. The weight of a value is its square plus the
// mean square of its sub-block, so that large weights are kept well without forgetting the small. Then the
// sub-block scales are rounded to their few bits, and q is chosen anew for the rounded scales.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "formats/block_codecs.h"
#include "formats/k_scales.h"

namespace redoubt::codec {
namespace {

constexpr int kSub = 32;

void importance(const float* x, int n, float* weight) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  const float mean = sum / static_cast<float>(n);
  for (int i = 0; i < n; ++i) weight[i] = x[i] * x[i] + mean;
}

struct Fit {
  float scale = 0, min = 0;  // x ~ scale * q - min, both >= 0
};

// Least squares over 0..levels: trial steps give q, q gives the best scale and min.
Fit fit_scale_min(const float* x, int levels) {
  float weight[kSub];
  importance(x, kSub, weight);
  float low = std::min(0.0f, *std::min_element(x, x + kSub)), high = *std::max_element(x, x + kSub);
  if (!(high > low)) return {0.0f, -low};
  float sum_w = 0, sum_x = 0;
  for (int i = 0; i < kSub; ++i) {
    sum_w += weight[i];
    sum_x += weight[i] * x[i];
  }
  Fit best;
  float best_error = INFINITY;
  for (int step = -8; step <= 12; ++step) {
    const float inverse = (static_cast<float>(levels) + 0.1f * static_cast<float>(step)) / (high - low);
    float q_sum = 0, qq_sum = 0, qx_sum = 0;
    float q[kSub];
    for (int i = 0; i < kSub; ++i) {
      q[i] = static_cast<float>(rounded((x[i] - low) * inverse, 0, levels));
      q_sum += weight[i] * q[i];
      qq_sum += weight[i] * q[i] * q[i];
      qx_sum += weight[i] * q[i] * x[i];
    }
    const float determinant = sum_w * qq_sum - q_sum * q_sum;
    if (!(determinant > 0)) continue;
    Fit fit{(sum_w * qx_sum - sum_x * q_sum) / determinant, -(qq_sum * sum_x - q_sum * qx_sum) / determinant};
    if (fit.min < 0) fit = {qx_sum / qq_sum, 0};  // a min cannot be negative: the line goes through zero
    if (!(fit.scale > 0)) continue;
    float error = 0;
    for (int i = 0; i < kSub; ++i) {
      const float difference = fit.scale * q[i] - fit.min - x[i];
      error += weight[i] * difference * difference;
    }
    if (error < best_error) {
      best_error = error;
      best = fit;
    }
  }
  if (best_error == INFINITY) return {(high - low) / static_cast<float>(levels), -low};
  return best;
}

// The halves and 6-bit codes for eight sub-blocks. Writes block[0..15]; gives back what they mean.
void store_scales(const Fit* fits, uint8_t* block, float* scale, float* min) {
  float top_scale = 0, top_min = 0;
  for (int s = 0; s < 8; ++s) {
    top_scale = std::max(top_scale, fits[s].scale);
    top_min = std::max(top_min, fits[s].min);
  }
  store_f16(block, top_scale / 63.0f);
  store_f16(block + 2, top_min / 63.0f);
  const float d = load_f16(block), dmin = load_f16(block + 2);
  std::memset(block + 4, 0, 12);
  for (int s = 0; s < 8; ++s) {
    const ScaleMin pair{d > 0 ? rounded(fits[s].scale / d, 0, 63) : 0,
                        dmin > 0 ? rounded(fits[s].min / dmin, 0, 63) : 0};
    pack_scale_min(block + 4, s, pair);
    scale[s] = d * static_cast<float>(pair.scale);
    min[s] = dmin * static_cast<float>(pair.min);
  }
}

void quantize_sub_blocks(const float* in, int levels, uint8_t* block, uint8_t* q) {
  Fit fits[8];
  for (int s = 0; s < 8; ++s) fits[s] = fit_scale_min(in + kSub * s, levels);
  float scale[8], min[8];
  store_scales(fits, block, scale, min);
  for (int i = 0; i < 256; ++i) {
    const int s = i / kSub;
    q[i] = static_cast<uint8_t>(scale[s] > 0 ? rounded((in[i] + min[s]) / scale[s], 0, levels) : 0);
  }
}

// Symmetric fit of 16 values on -32..31, with either sign of scale.
float fit_symmetric(const float* x) {
  float weight[16];
  importance(x, 16, weight);
  float top = 0;
  for (int i = 0; i < 16; ++i) {
    if (std::fabs(x[i]) > std::fabs(top)) top = x[i];
  }
  if (!(std::fabs(top) > 0)) return 0;
  float best_scale = top / -32.0f, best_gain = -1;
  for (int step = -9; step <= 9; ++step) {
    const float inverse = -(32.0f + 0.1f * static_cast<float>(step)) / top;
    float qx_sum = 0, qq_sum = 0;
    for (int i = 0; i < 16; ++i) {
      const float q = static_cast<float>(rounded(x[i] * inverse, -32, 31));
      qx_sum += weight[i] * q * x[i];
      qq_sum += weight[i] * q * q;
    }
    // With the best scale qx/qq, the error falls by qx^2/qq.
    if (qq_sum > 0 && qx_sum * qx_sum / qq_sum > best_gain) {
      best_gain = qx_sum * qx_sum / qq_sum;
      best_scale = qx_sum / qq_sum;
    }
  }
  return best_scale;
}

}  // namespace

void encode_q4_k(const float* in, uint8_t* block) {
  uint8_t q[256];
  quantize_sub_blocks(in, 15, block, q);
  for (int s = 0; s < 8; s += 2) {
    for (int l = 0; l < 32; ++l) {
      block[16 + 16 * s + l] = static_cast<uint8_t>(q[32 * s + l] | q[32 * (s + 1) + l] << 4);
    }
  }
}

void encode_q5_k(const float* in, uint8_t* block) {
  uint8_t q[256];
  quantize_sub_blocks(in, 31, block, q);
  std::memset(block + 16, 0, 32);
  for (int s = 0; s < 8; ++s) {
    for (int l = 0; l < 32; ++l) block[16 + l] = static_cast<uint8_t>(block[16 + l] | (q[32 * s + l] >> 4) << s);
  }
  for (int s = 0; s < 8; s += 2) {
    for (int l = 0; l < 32; ++l) {
      block[48 + 16 * s + l] = static_cast<uint8_t>((q[32 * s + l] & 15) | (q[32 * (s + 1) + l] & 15) << 4);
    }
  }
}

void encode_q6_k(const float* in, uint8_t* block) {
  float scale[16], top = 0;
  for (int s = 0; s < 16; ++s) {
    scale[s] = fit_symmetric(in + 16 * s);
    if (std::fabs(scale[s]) > std::fabs(top)) top = scale[s];
  }
  std::memset(block, 0, 208);
  store_f16(block + 208, top / -128.0f);
  const float d = load_f16(block + 208);
  for (int s = 0; s < 16; ++s) {
    const int code = d != 0 ? rounded(scale[s] / d, -128, 127) : 0;
    block[192 + s] = static_cast<uint8_t>(code);
    scale[s] = d * static_cast<float>(code);
  }
  for (int e = 0; e < 256; ++e) {
    const int n = e >> 7, g = (e >> 5) & 3, l = e & 31;
    const float step = scale[8 * n + 2 * g + (l >> 4)];
    const int q = (step != 0 ? rounded(in[e] / step, -32, 31) : 0) + 32;
    uint8_t& low = block[64 * n + 32 * (g & 1) + l];
    uint8_t& high = block[128 + 32 * n + l];
    low = static_cast<uint8_t>(low | (q & 15) << (4 * (g >> 1)));
    high = static_cast<uint8_t>(high | (q >> 4) << (2 * g));
  }
}

}  // namespace redoubt::codec
