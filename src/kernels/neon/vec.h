// The vector of the simd/*.inc files on Arm NEON (ARMv8): four floats. Everything here has internal linkage.
#pragma once

#include <arm_neon.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

namespace {

constexpr int64_t kLanes = 4;
using Vec = float32x4_t;

inline Vec v_zero() { return vdupq_n_f32(0.0f); }
inline Vec v_set1(float a) { return vdupq_n_f32(a); }
inline Vec v_load(const float* p) { return vld1q_f32(p); }
inline void v_store(float* p, Vec a) { vst1q_f32(p, a); }
inline Vec v_add(Vec a, Vec b) { return vaddq_f32(a, b); }
inline Vec v_sub(Vec a, Vec b) { return vsubq_f32(a, b); }
inline Vec v_mul(Vec a, Vec b) { return vmulq_f32(a, b); }
inline Vec v_div(Vec a, Vec b) { return vdivq_f32(a, b); }
inline Vec v_fma(Vec a, Vec b, Vec c) { return vfmaq_f32(c, a, b); }
// The number where the other is not one, as on x86 with the bound second: a masked key may lie over any bytes.
inline Vec v_max(Vec a, Vec b) { return vmaxnmq_f32(a, b); }
inline Vec v_min(Vec a, Vec b) { return vminnmq_f32(a, b); }
inline Vec v_round(Vec a) { return vrndnq_f32(a); }
inline Vec v_exp2_of_integer(Vec n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23));
}
inline uint32x4_t widen_bytes(const uint8_t* p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(word))));
}
inline Vec v_from_u8(const uint8_t* p) { return vcvtq_f32_u32(widen_bytes(p)); }
inline Vec v_from_i8(const uint8_t* p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8(word)))));
}
inline Vec v_from_bf16(const unsigned char* p) {
  uint16x4_t half;
  memcpy(&half, p, 8);
  return vreinterpretq_f32_u32(vshll_n_u16(half, 16));
}
inline Vec v_from_f16(const unsigned char* p) {
  float16x4_t half;
  memcpy(&half, p, 8);
  return vcvt_f32_f16(half);
}
inline Vec v_from_e4m3(const unsigned char* p) {
  const uint32x4_t code = widen_bytes(p);
  const uint32x4_t magnitude = vshlq_n_u32(vandq_u32(code, vdupq_n_u32(0x7f)), 20);
  const uint32x4_t sign = vshlq_n_u32(vandq_u32(code, vdupq_n_u32(0x80)), 24);
  const Vec value = vmulq_f32(vreinterpretq_f32_u32(magnitude), vdupq_n_f32(0x1p120f));
  const uint32x4_t finite = vorrq_u32(vreinterpretq_u32_f32(value), sign);
  return vreinterpretq_f32_u32(
      vbslq_u32(vceqq_u32(magnitude, vdupq_n_u32(0x7fu << 20)), vdupq_n_u32(0x7fc00000u), finite));
}
inline void v_to_bf16(Vec a, uint16_t* out) {
  const uint32x4_t bits = vreinterpretq_u32_f32(a);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  const uint32x4_t quiet = vorrq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(0x40));
  const uint16x4_t packed = vmovn_u32(vbslq_u32(vceqq_f32(a, a), rounded, quiet));
  memcpy(out, &packed, 8);
}
inline float half_at(const unsigned char* p) {
  __fp16 half;
  memcpy(&half, p, 2);
  return static_cast<float>(half);
}
// The low nibbles of 16 bytes, then the high ones, as 16 / kLanes vectors each.
inline void v_nibbles(const unsigned char* p, Vec* low, Vec* high) {
  uint8_t l[16], h[16];
  const uint8x16_t bytes = vld1q_u8(p);
  vst1q_u8(l, vandq_u8(bytes, vdupq_n_u8(15)));
  vst1q_u8(h, vshrq_n_u8(bytes, 4));
  for (int i = 0; i < 4; ++i) {
    low[i] = v_from_u8(l + 4 * i);
    high[i] = v_from_u8(h + 4 * i);
  }
}
inline float v_reduce_add(Vec a) {
  const float32x2_t half = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
}
inline float v_reduce_max(Vec a) { return vmaxvq_f32(a); }

}  // namespace
