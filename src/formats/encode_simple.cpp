// Encoders of the 32-element and ternary types: the reference rounding, byte for byte, except IQ4_NL, which has none
// and searches its scale.
#include <algorithm>
#include <cmath>

#include "formats/block_codecs.h"

namespace redoubt::codec {
namespace {

float largest_magnitude(const float* in, int n) {  // with its sign; the first of equals
  float best = 0.0f, signed_best = 0.0f;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(in[i]) > best) {
      best = std::fabs(in[i]);
      signed_best = in[i];
    }
  }
  return signed_best;
}

float inverse(float d) { return d == 0.0f ? 0.0f : 1.0f / d; }

struct Range {
  float min, max;
};
Range range(const float* in, int n) {
  Range r{in[0], in[0]};
  for (int i = 1; i < n; ++i) {
    if (in[i] < r.min) r.min = in[i];
    if (in[i] > r.max) r.max = in[i];
  }
  return r;
}

void pack_nibbles(const int* q, uint8_t* out) {
  for (int j = 0; j < 16; ++j) out[j] = static_cast<uint8_t>((q[j] & 15) | (q[j + 16] & 15) << 4);
}

void store_top_bits(const int* q, uint8_t* out) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= ((q[8 * byte + i] >> 4) & 1) << i;
    out[byte] = static_cast<uint8_t>(bits);
  }
}

}  // namespace

void encode_q4_0(const float* in, uint8_t* block) {
  const float d = largest_magnitude(in, 32) / -8.0f, id = inverse(d);
  int q[32];
  for (int j = 0; j < 32; ++j) q[j] = truncated(in[j] * id + 8.5f, 0, 15);
  store_f16(block, d);
  pack_nibbles(q, block + 2);
}

void encode_q4_1(const float* in, uint8_t* block) {
  const Range r = range(in, 32);
  const float d = (r.max - r.min) / 15.0f, id = inverse(d);
  int q[32];
  for (int j = 0; j < 32; ++j) q[j] = truncated((in[j] - r.min) * id + 0.5f, 0, 15);
  store_f16(block, d);
  store_f16(block + 2, r.min);
  pack_nibbles(q, block + 4);
}

void encode_q5_0(const float* in, uint8_t* block) {
  const float d = largest_magnitude(in, 32) / -16.0f, id = inverse(d);
  int q[32];
  for (int j = 0; j < 32; ++j) q[j] = truncated(in[j] * id + 16.5f, 0, 31);
  store_f16(block, d);
  store_top_bits(q, block + 2);
  pack_nibbles(q, block + 6);
}

void encode_q5_1(const float* in, uint8_t* block) {
  const Range r = range(in, 32);
  const float d = (r.max - r.min) / 31.0f, id = inverse(d);
  int q[32];
  for (int j = 0; j < 32; ++j) q[j] = truncated((in[j] - r.min) * id + 0.5f, 0, 31);
  store_f16(block, d);
  store_f16(block + 2, r.min);
  store_top_bits(q, block + 4);
  pack_nibbles(q, block + 8);
}

void encode_q8_0(const float* in, uint8_t* block) {
  const float d = std::fabs(largest_magnitude(in, 32)) / 127.0f, id = inverse(d);
  store_f16(block, d);
  for (int j = 0; j < 32; ++j) block[2 + j] = static_cast<uint8_t>(rounded(in[j] * id, -128, 127));
}

void encode_tq1_0(const float* in, uint8_t* block) {
  static constexpr int kPower[5] = {81, 27, 9, 3, 1};
  const float d = std::fabs(largest_magnitude(in, 256)), id = inverse(d);
  int q[256];
  for (int i = 0; i < 256; ++i) q[i] = rounded(in[i] * id, -1, 1) + 1;
  // As a fraction of a byte, rounded up so that the digits come out again by multiplication.
  const auto pack = [](int base3) { return static_cast<uint8_t>((base3 * 256 + 242) / 243); };
  for (int j = 0; j < 32; ++j) {
    int sum = 0;
    for (int k = 0; k < 5; ++k) sum += q[32 * k + j] * kPower[k];
    block[j] = pack(sum);
  }
  for (int j = 0; j < 16; ++j) {
    int sum = 0;
    for (int k = 0; k < 5; ++k) sum += q[160 + 16 * k + j] * kPower[k];
    block[32 + j] = pack(sum);
  }
  for (int j = 0; j < 4; ++j) {
    int sum = 0;
    for (int k = 0; k < 4; ++k) sum += q[240 + 4 * k + j] * kPower[k];
    block[48 + j] = pack(sum);
  }
  store_f16(block + 52, d);
}

void encode_tq2_0(const float* in, uint8_t* block) {
  const float d = std::fabs(largest_magnitude(in, 256)), id = inverse(d);
  for (int half = 0; half < 2; ++half) {
    for (int j = 0; j < 32; ++j) {
      int byte = 0;
      for (int k = 0; k < 4; ++k) byte |= (rounded(in[128 * half + 32 * k + j] * id, -1, 1) + 1) << (2 * k);
      block[32 * half + j] = static_cast<uint8_t>(byte);
    }
  }
  store_f16(block + 64, d);
}

void encode_mxfp4(const float* in, uint8_t* block) {
  const float d = std::fabs(largest_magnitude(in, 32));
  int exponent = 0;
  if (d > 0 && std::isfinite(d)) exponent = std::max(0, std::ilogb(d) - 2 + 127);
  if (std::isinf(d)) exponent = 252;
  block[0] = static_cast<uint8_t>(exponent);
  const float scale = half_e8m0(block[0]);
  int q[32];
  for (int j = 0; j < 32; ++j) {
    float best = INFINITY;
    q[j] = 0;
    for (int level = 0; level < 16; ++level) {
      const float error = std::fabs(scale * static_cast<float>(kE2m1Doubled[level]) - in[j]);
      if (error < best) {
        best = error;
        q[j] = level;
      }
    }
  }
  pack_nibbles(q, block + 1);
}

// Tries the scales around the one that puts the largest value on the outermost level, and keeps the best fit with
// larger values weighing more.
void encode_iq4_nl(const float* in, uint8_t* block) {
  const auto nearest = [](float v) {
    int best = 0;
    for (int level = 1; level < 16; ++level) {
      if (std::fabs(v - static_cast<float>(kIq4Levels[level])) < std::fabs(v - static_cast<float>(kIq4Levels[best]))) {
        best = level;
      }
    }
    return best;
  };
  const float top = largest_magnitude(in, 32);
  float best_error = INFINITY, best_scale = 0.0f;
  int best_q[32] = {};
  for (int step = -7; step <= 7 && top != 0.0f; ++step) {
    const float trial = top / (-127.0f + static_cast<float>(step)), id = inverse(trial);
    int q[32];
    float numerator = 0, denominator = 0;
    for (int j = 0; j < 32; ++j) {
      q[j] = nearest(in[j] * id);
      const float level = static_cast<float>(kIq4Levels[q[j]]), weight = in[j] * in[j];
      numerator += weight * level * in[j];
      denominator += weight * level * level;
    }
    const float scale = float_from_f16(f16_from_float(denominator > 0 ? numerator / denominator : trial));
    float error = 0;
    for (int j = 0; j < 32; ++j) {
      const float difference = scale * static_cast<float>(kIq4Levels[q[j]]) - in[j];
      error += in[j] * in[j] * difference * difference;
    }
    if (error < best_error) {
      best_error = error;
      best_scale = scale;
      std::memcpy(best_q, q, sizeof q);
    }
  }
  store_f16(block, best_scale);
  pack_nibbles(best_q, block + 2);
}

}  // namespace redoubt::codec
