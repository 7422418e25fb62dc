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

#include "kernels/simd/attention.inc"

// Thirty-two columns of two rows a step: a cache line of each.
void attention_values(const AttentionValuesArgs& args) {
  const __m512i low = _mm512_load_si512(kPairs[0]), high = _mm512_load_si512(kPairs[1]);
  for (int64_t c = 0; c < args.n; c += 32) {
    const int64_t left = args.n - c;
    const __mmask32 seen = left < 32 ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
    uint32_t* out = args.out + c * kTileWords;
    for (int64_t w = 0; w < kTileWords; ++w, out += 16) {
      const unsigned char *even_row = args.rows[2 * w], *odd_row = args.rows[2 * w + 1];
      __m512i even = _mm512_setzero_si512(), odd = even;
      if (even_row != nullptr) even = _mm512_maskz_loadu_epi16(seen, even_row + 2 * c);
      if (odd_row != nullptr) odd = _mm512_maskz_loadu_epi16(seen, odd_row + 2 * c);
      _mm512_storeu_si512(out, _mm512_permutex2var_epi16(even, low, odd));
      if (left > 16) _mm512_storeu_si512(out + kTileWords * 16, _mm512_permutex2var_epi16(even, high, odd));
    }
  }
}

void attention_decode_q8(const AttentionDecodeArgs& args) {
  auto* out = static_cast<uint16_t*>(args.out);
  const auto halves = [](__m128i codes, float scale) {
    const __m512 values = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), _mm512_set1_ps(scale));
    return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
  };
  for (int64_t i = 0; i < args.n;) {
    const int64_t at = args.first + i, group = at / kCacheGroup, in_group = (group + 1) * kCacheGroup - at;
    int64_t left = args.n - i < in_group ? args.n - i : in_group;
    float scale;
    memcpy(&scale, args.scales + 4 * group, 4);
    const unsigned char* codes = args.codes + at;
    uint16_t* to = out + i;
    i += left;
    for (; left >= 16; left -= 16, codes += 16, to += 16) {
      const __m128i sixteen = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves(sixteen, scale));
    }
    if (left > 0) {
      const __mmask16 seen = static_cast<__mmask16>((1u << left) - 1);
      _mm256_mask_storeu_epi16(to, seen, halves(_mm_maskz_loadu_epi8(seen, codes), scale));
    }
  }
}

}  // namespace redoubt::avx512_bf16
