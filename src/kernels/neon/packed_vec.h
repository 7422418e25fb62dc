// Integer vectors of simd/packed_int8.inc on NEON: four rows of four codes. The dot product is the includer's: ARMv8
// alone (neon/packed_int8.cpp) or with dotprod (neon_dotprod/dot.h).
#pragma once

#include "kernels/neon/vec.h"

namespace {

using IVec = int32x4_t;
constexpr int kDirectGroups = 1;
constexpr int64_t kOneGroupTokens = 4;
constexpr bool kSignedBytes = true;  // products are of signed bytes

inline uint8x16_t as_bytes(IVec a) { return vreinterpretq_u8_s32(a); }
inline IVec as_ivec(uint8x16_t a) { return vreinterpretq_s32_u8(a); }

inline IVec i_zero() { return vdupq_n_s32(0); }
inline IVec i_load(const unsigned char* p) { return as_ivec(vld1q_u8(p)); }
inline void i_store(unsigned char* p, IVec a) { vst1q_u8(p, as_bytes(a)); }
inline IVec i_set1(int byte) { return as_ivec(vdupq_n_u8(static_cast<uint8_t>(byte))); }
inline IVec i_set1_i32(int32_t a) { return vdupq_n_s32(a); }
inline IVec i_and(IVec a, IVec b) { return vandq_s32(a, b); }
inline IVec i_xor(IVec a, IVec b) { return veorq_s32(a, b); }
inline IVec i_sub_bytes(IVec a, IVec b) { return as_ivec(vsubq_u8(as_bytes(a), as_bytes(b))); }
inline IVec i_or(IVec a, IVec b) { return vorrq_s32(a, b); }
template <int n>
inline IVec i_shl(IVec a) {
  return as_ivec(vshlq_n_u8(as_bytes(a), n));
}
template <int n>
inline IVec i_shr(IVec a) {
  if constexpr (n == 0) {
    return a;  // the instruction has no shift by nothing
  } else {
    return as_ivec(vshrq_n_u8(as_bytes(a), n));
  }
}
inline IVec i_low_nibbles(IVec a) { return as_ivec(vandq_u8(as_bytes(a), vdupq_n_u8(15))); }
inline IVec i_high_nibbles(IVec a) { return as_ivec(vshrq_n_u8(as_bytes(a), 4)); }
inline IVec i_lookup(const unsigned char* table, IVec index) {
  return as_ivec(vqtbl1q_u8(vld1q_u8(table), as_bytes(index)));
}
inline IVec i_set_quad(const int8_t* q) {
  int32_t quad;
  memcpy(&quad, q, 4);
  return vdupq_n_s32(quad);
}
inline Vec i_to_float(IVec a) { return vcvtq_f32_s32(a); }

// Starts of the dots of `units` units, 16 at most, from minus the sums of x over each 16 columns.
template <int halves, int shift>
inline void i_starts(const int32_t* minus, int64_t units, int32_t* starts) {
  for (int64_t i = 0; i < units * halves; ++i) {
    starts[i] = (halves == 2 ? minus[i] : minus[2 * i] + minus[2 * i + 1]) * (1 << shift);
  }
}

// 2^(e - 128) of four exponent bytes; subnormal for 0 and 1.
inline Vec v_half_e8m0(const unsigned char* p) {
  const uint32x4_t e = widen_bytes(p);
  const uint32x4_t normal = vshlq_n_u32(vsubq_u32(e, vdupq_n_u32(1)), 23);
  const uint32x4_t subnormal = vshlq_u32(vdupq_n_u32(0x00200000), vreinterpretq_s32_u32(e));
  return vreinterpretq_f32_u32(vbslq_u32(vcltq_u32(e, vdupq_n_u32(2)), subnormal, normal));
}

// q = round(x * inverse) of 32 values, halves to even; minus the sums of each sixteen.
inline void i_quantize32(const float* x, float inverse, int8_t* q, int32_t* minus) {
  for (int half = 0; half < 2; ++half) {
    int32x4_t sum = vdupq_n_s32(0);
    for (int i = 16 * half; i < 16 * half + 16; i += 8) {
      const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i), inverse));
      const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + i + 4), inverse));
      vst1_s8(q + i, vqmovn_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b))));
      sum = vaddq_s32(sum, vaddq_s32(a, b));
    }
    minus[half] = -vaddvq_s32(sum);
  }
}

// Minus the sum of (q[k] + 128) * q[k + 16].
inline int32_t i_pairs(const int8_t* q) {
  const int8x16_t low = vld1q_s8(q), high = vld1q_s8(q + 16);
  const int32x4_t products =
      vpadalq_s16(vpaddlq_s16(vmull_s8(vget_low_s8(low), vget_low_s8(high))), vmull_high_s8(low, high));
  return -(vaddvq_s32(products) + 128 * vaddlvq_s8(high));
}

}  // namespace
