// Integer vectors of simd/packed_int8.inc on AVX-512 with VNNI and VBMI: 64 bytes, sixteen rows of four codes.
#pragma once

#include "kernels/avx512/vec.h"
#include "kernels/kernel_args.h"

namespace {

using IVec = __m512i;
constexpr int kTileTokens = 6, kDirectTile = 6, kDirectGroups = 2;  // 2 x 6 sums, 2 x 6 dots, 2 weights, 1 activation
constexpr int64_t kOneGroupTokens = 2, kDirectTokens = redoubt::kPackedTokens, kDirectTokens256 = 96;
constexpr bool kSignedBytes = false;

inline IVec i_zero() { return _mm512_setzero_si512(); }
inline IVec i_load(const unsigned char* p) { return _mm512_loadu_si512(p); }
inline void i_store(unsigned char* p, IVec a) { _mm512_storeu_si512(p, a); }
inline IVec i_set1(int byte) { return _mm512_set1_epi8(static_cast<char>(byte)); }
inline IVec i_set1_i32(int32_t a) { return _mm512_set1_epi32(a); }
inline IVec i_and(IVec a, IVec b) { return _mm512_and_si512(a, b); }
inline IVec i_xor(IVec a, IVec b) { return _mm512_xor_si512(a, b); }
inline IVec i_sub_bytes(IVec a, IVec b) { return _mm512_sub_epi8(a, b); }
inline IVec i_or(IVec a, IVec b) { return _mm512_or_si512(a, b); }
template <int n>
inline IVec i_shl(IVec a) {  // bits that cross a byte must be masked off by the caller
  return _mm512_slli_epi16(a, n);
}
template <int n>
inline IVec i_shr(IVec a) {
  return _mm512_srli_epi16(a, n);
}
inline IVec i_low_nibbles(IVec a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline IVec i_high_nibbles(IVec a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), _mm512_set1_epi8(15)); }
inline IVec i_lookup(const unsigned char* table, IVec index) {
  const __m512i levels = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return _mm512_shuffle_epi8(levels, index);
}
inline IVec i_set_quad(const int8_t* q) {
  int32_t quad;
  memcpy(&quad, q, 4);
  return _mm512_set1_epi32(quad);
}
template <int bits>
inline void i_dot(int, IVec codes, IVec x, IVec* dot, IVec*) {
  *dot = _mm512_dpbusd_epi32(*dot, codes, x);
}
inline Vec i_to_float(IVec a) { return _mm512_cvtepi32_ps(a); }

// Starts of the dots of `units` units, 16 at most, from minus the sums of x over each 16 columns; writes sixteen.
template <int halves, int shift>
inline void i_starts(const int32_t* minus, int64_t units, int32_t* starts) {
  const uint32_t there = units < 16 ? (1u << (2 * units)) - 1 : ~0u;
  const __m512i a = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(there), minus);
  const __m512i b = _mm512_maskz_loadu_epi32(static_cast<__mmask16>(there >> 16), minus + 16);
  if (halves == 2) {
    _mm512_store_si512(starts, _mm512_slli_epi32(a, shift));
    _mm512_store_si512(starts + 16, _mm512_slli_epi32(b, shift));
    return;
  }
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  const __m512i sums = _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
  _mm512_store_si512(starts, _mm512_slli_epi32(sums, shift));
}

// 2^(e - 128) of sixteen exponent bytes; subnormal for 0 and 1.
inline Vec v_half_e8m0(const unsigned char* p) {
  const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
  const __mmask16 small = _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2));
  return _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, small, _mm512_set1_epi32(0x00200000), e));
}

}  // namespace
