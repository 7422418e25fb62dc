// Attention of the avx512_bf16 table: simd/attention.inc over words of two bfloat16. vdpbf16ps multiplies both pairs
// and adds them to a float: 64 multiply-adds a vector pair and cycle where a float kernel has 32. Weights are rounded
// to bfloat16, and their sum is that of the rounded ones, so that they sum to 1 again.
#include "kernels/avx512/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx512_bf16 {
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
inline Vec v_store_weights(const Vec* weights, uint32_t* p, Vec sum) {
  alignas(64) static const uint16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i both = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weights[1], weights[0]));
  const __m512i pairs = _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), both);
  _mm512_storeu_si512(p, pairs);
  return v_dot(sum, _mm512_castsi512_ps(pairs), _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80)));
}

}  // namespace

#include "kernels/simd/attention.inc"

void attention_values(const AttentionValuesArgs& args) {
  uint32_t* out = args.out;
  for (int64_t c = 0; c < args.n; c += 16, out += kTileWords * 16) {
    const __mmask16 seen = args.n - c < 16 ? static_cast<__mmask16>((1 << (args.n - c)) - 1) : 0xffff;
    for (int64_t w = 0; w < kTileWords; ++w) {
      __m512i even = _mm512_setzero_si512(), odd = even;
      if (args.rows[2 * w] != nullptr) {
        even = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(seen, args.rows[2 * w] + 2 * c));
      }
      if (args.rows[2 * w + 1] != nullptr) {
        odd = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(seen, args.rows[2 * w + 1] + 2 * c));
      }
      _mm512_storeu_si512(out + w * 16, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}

}  // namespace redoubt::avx512_bf16
