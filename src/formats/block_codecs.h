// One block of one type: the functions behind decode_row and encode_row. A block is DTypeInfo::block_bytes bytes and
// block_elems values; neither side needs alignment. Layouts: docs/formats/blocks.md.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/float_bits.h"

namespace redoubt::codec {

using Decode = void (*)(const uint8_t* block, float* out);
using Encode = void (*)(const float* in, uint8_t* block);

inline uint16_t load_u16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
inline uint32_t load_u32(const uint8_t* p) { return load_u16(p) | (static_cast<uint32_t>(load_u16(p + 2)) << 16); }
inline float load_f16(const uint8_t* p) { return float_from_f16(load_u16(p)); }
inline void store_u16(uint8_t* p, uint16_t v) {
  p[0] = static_cast<uint8_t>(v);
  p[1] = static_cast<uint8_t>(v >> 8);
}
inline void store_f16(uint8_t* p, float v) { store_u16(p, f16_from_float(v)); }
inline int lo(uint8_t b) { return b & 15; }
inline int hi(uint8_t b) { return b >> 4; }

// Truncates towards zero into lowest..highest; NaN and what lies outside go to the ends.
inline int truncated(float v, int lowest, int highest) {
  if (!(v > static_cast<float>(lowest))) return lowest;
  return v >= static_cast<float>(highest) ? highest : static_cast<int>(v);
}
// Rounds to the nearest, halves away from zero, into lowest..highest.
inline int rounded(float v, int lowest, int highest) {
  if (!(v > static_cast<float>(lowest))) return lowest;
  return v >= static_cast<float>(highest) ? highest : static_cast<int>(roundf(v));
}

// The 16 levels of IQ4_NL and IQ4_XS, and the doubled E2M1 levels of MXFP4 and NVFP4.
inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
extern const float kNf4Levels[16];
// A level of NF4 for integer products: kNf4Steps[0] * kNf4Planes[0][code] + kNf4Steps[1] * kNf4Planes[1][code], within
// 4e-6; zero is exact. Found by search over both steps (docs/decisions/0006).
inline constexpr float kNf4Steps[2] = {0.00833826698f, 7.82384013e-05f};
inline constexpr int8_t kNf4Planes[2][16] = {{-119, -84, -63, -48, -34, -22, -10, 0, 9, 19, 29, 40, 52, 68, 86, 119},
                                             {-99, 54, 3, 68, -12, -17, -98, 0, 58, 32, 55, 56, 91, -56, 75, 99}};
float half_e8m0(uint8_t exponent);  // 2^(exponent - 128), subnormal for 0 and 1

void decode_q4_0(const uint8_t*, float*);
void decode_q4_1(const uint8_t*, float*);
void decode_q5_0(const uint8_t*, float*);
void decode_q5_1(const uint8_t*, float*);
void decode_q8_0(const uint8_t*, float*);
void decode_q8_1(const uint8_t*, float*);
void decode_q2_k(const uint8_t*, float*);
void decode_q3_k(const uint8_t*, float*);
void decode_q4_k(const uint8_t*, float*);
void decode_q5_k(const uint8_t*, float*);
void decode_q6_k(const uint8_t*, float*);
void decode_q8_k(const uint8_t*, float*);
void decode_iq1_s(const uint8_t*, float*);
void decode_iq1_m(const uint8_t*, float*);
void decode_iq2_xxs(const uint8_t*, float*);
void decode_iq2_xs(const uint8_t*, float*);
void decode_iq2_s(const uint8_t*, float*);
void decode_iq3_xxs(const uint8_t*, float*);
void decode_iq3_s(const uint8_t*, float*);
void decode_iq4_nl(const uint8_t*, float*);
void decode_iq4_xs(const uint8_t*, float*);
void decode_tq1_0(const uint8_t*, float*);
void decode_tq2_0(const uint8_t*, float*);
void decode_mxfp4(const uint8_t*, float*);
void decode_nvfp4(const uint8_t*, float*);
void decode_g4_32(const uint8_t*, float*);
void decode_g4_64(const uint8_t*, float*);
void decode_g4_128(const uint8_t*, float*);
void decode_g8_32(const uint8_t*, float*);
void decode_i8_32(const uint8_t*, float*);
void decode_i8_128(const uint8_t*, float*);
void decode_nf4(const uint8_t*, float*);

void encode_q4_0(const float*, uint8_t*);
void encode_q4_1(const float*, uint8_t*);
void encode_q5_0(const float*, uint8_t*);
void encode_q5_1(const float*, uint8_t*);
void encode_q8_0(const float*, uint8_t*);
void encode_q4_k(const float*, uint8_t*);
void encode_q5_k(const float*, uint8_t*);
void encode_q6_k(const float*, uint8_t*);
void encode_iq4_nl(const float*, uint8_t*);
void encode_tq1_0(const float*, uint8_t*);
void encode_tq2_0(const float*, uint8_t*);
void encode_mxfp4(const float*, uint8_t*);
void encode_g4_32(const float*, uint8_t*);
void encode_g4_64(const float*, uint8_t*);
void encode_g4_128(const float*, uint8_t*);
void encode_g8_32(const float*, uint8_t*);
void encode_i8_32(const float*, uint8_t*);
void encode_i8_128(const float*, uint8_t*);
void encode_nf4(const float*, uint8_t*);

}  // namespace redoubt::codec
