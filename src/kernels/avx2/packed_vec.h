// Integer vectors of simd/packed_int8.inc on 256 bits: eight rows of four codes. The dot product is the includer's:
// AVX2 alone (avx2/packed_int8.cpp) or with VNNI (avx_vnni/packed_int8.cpp).
#pragma once

#include "kernels/avx2/vec.h"

namespace {

using IVec = __m256i;

inline IVec i_zero() { return _mm256_setzero_si256(); }
inline IVec i_load(const unsigned char* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void i_store(unsigned char* p, IVec a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
inline IVec i_set1(int byte) { return _mm256_set1_epi8(static_cast<char>(byte)); }
inline IVec i_set1_i32(int32_t a) { return _mm256_set1_epi32(a); }
inline IVec i_and(IVec a, IVec b) { return _mm256_and_si256(a, b); }
inline IVec i_xor(IVec a, IVec b) { return _mm256_xor_si256(a, b); }
inline IVec i_sub_bytes(IVec a, IVec b) { return _mm256_sub_epi8(a, b); }
inline IVec i_or(IVec a, IVec b) { return _mm256_or_si256(a, b); }
template <int n>
inline IVec i_shl(IVec a) {  // bits that cross a byte must be masked off by the caller
  return _mm256_slli_epi16(a, n);
}
template <int n>
inline IVec i_shr(IVec a) {
  return _mm256_srli_epi16(a, n);
}
inline IVec i_low_nibbles(IVec a) { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
inline IVec i_high_nibbles(IVec a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), _mm256_set1_epi8(15)); }
inline IVec i_lookup(const unsigned char* table, IVec index) {
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
                             index);
}
inline IVec i_set_quad(const int8_t* q) {
  int32_t quad;
  memcpy(&quad, q, 4);
  return _mm256_set1_epi32(quad);
}
inline Vec i_to_float(IVec a) { return _mm256_cvtepi32_ps(a); }

// Starts of the dots of `units` units, 16 at most, from minus the sums of x over each 16 columns.
template <int halves, int shift>
inline void i_starts(const int32_t* minus, int64_t units, int32_t* starts) {
  for (int64_t i = 0; i < units * halves; ++i) {
    starts[i] = (halves == 2 ? minus[i] : minus[2 * i] + minus[2 * i + 1]) * (1 << shift);
  }
}

// 2^(e - 128) of eight exponent bytes; subnormal for 0 and 1.
inline Vec v_half_e8m0(const unsigned char* p) {
  const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
  const __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
  return _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), e)));
}

// q = round(x * inverse) of 32 values, halves to even; minus the sums of each sixteen.
inline void i_quantize32(const float* x, float inverse, int8_t* q, int32_t* minus) {
  const __m256 factor = _mm256_set1_ps(inverse);
  for (int half = 0; half < 2; ++half, x += 16, q += 16) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q),
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    const __m256i eight = _mm256_add_epi32(a, b);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
    sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
    minus[half] = -_mm_cvtsi128_si32(sum);
  }
}

// Minus the sum of (q[k] + 128) * q[k + 16].
inline int32_t i_pairs(const int8_t* q) {
  const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
  const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 16)));
  const __m256i sums = _mm256_madd_epi16(_mm256_add_epi16(low, _mm256_set1_epi16(128)), high);
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1));
  return -_mm_cvtsi128_si32(sum);
}

}  // namespace
