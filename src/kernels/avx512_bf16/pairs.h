// Words of two bfloat16 for simd/attention.inc. Compiled with AVX512-BF16.
#pragma once

#include "kernels/avx512/vec.h"
#include "kernels/kernel_args.h"

namespace {

constexpr int64_t kWordElements = 2;
constexpr float kLogBase = 1.44269504f;  // weights are powers of 2
inline Vec v_words(const uint32_t* p) { return _mm512_castsi512_ps(_mm512_loadu_si512(p)); }
inline Vec v_word(const unsigned char* p) {
  int32_t word;
  memcpy(&word, p, 4);
  return _mm512_castsi512_ps(_mm512_set1_epi32(word));
}
inline __m512bh as_pairs(Vec a) { return reinterpret_cast<__m512bh>(a); }
inline Vec v_dot(Vec acc, Vec a, Vec b) { return _mm512_dpbf16_ps(acc, as_pairs(a), as_pairs(b)); }

// 2^x = 2^n 2^r with n = floor(x), 2^r by a polynomial of degree 4 (relative error under 1e-5, far below the
// rounding of a weight; 1 at r = 0).
inline Vec v_weight(Vec x) {
  const Vec r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  Vec p = v_set1(1.27631139e-2f);
  p = v_fma(p, r, v_set1(5.34410293e-2f));
  p = v_fma(p, r, v_set1(2.40647048e-1f));
  p = v_fma(p, r, v_set1(6.93133993e-1f));
  p = v_fma(p, r, v_set1(1.0f));
  return _mm512_scalef_ps(p, x);
}
// Sixteen values of an 8-bit row: codes times the scale of their group.
inline Vec v_from_codes(const unsigned char* codes, const unsigned char* scale) {
  float factor;
  memcpy(&factor, scale, 4);
  return v_mul(v_from_i8(codes), v_set1(factor));
}
// Lane by lane a word of two bfloat16, the even one low.
inline __m512i interleaved(Vec even, Vec odd) {
  alignas(64) static const uint16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), both);
}
inline Vec v_store_weights(const Vec* weights, uint32_t* p, Vec sum) {
  const __m512i pairs = interleaved(weights[0], weights[1]);
  _mm512_storeu_si512(p, pairs);
  return v_dot(sum, _mm512_castsi512_ps(pairs), _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80)));
}

// A pair of rows, column by column: words of columns 0 .. 15 and 16 .. 31.
alignas(64) const uint16_t kPairs[2][32] = {{0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                             8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
                                            {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
                                             24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
inline void v_values(const unsigned char* const* rows, int64_t w, int64_t c, Vec* values) {
  const __m512i even = _mm512_loadu_si512(rows[2 * w] + 2 * c), odd = _mm512_loadu_si512(rows[2 * w + 1] + 2 * c);
  for (int i = 0; i < 2; ++i) {
    values[i] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(even, _mm512_load_si512(kPairs[i]), odd));
  }
}

}  // namespace
