// Attention of the avx512_bf16 table: simd/attention.inc over words of two bfloat16. vdpbf16ps multiplies both pairs
// and adds them to a float: 64 multiply-adds a vector pair and cycle where a float kernel has 32. Weights are rounded
// to bfloat16, and their sum is that of the rounded ones, so that they sum to 1 again.
#include "kernels/avx512_bf16/pairs.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx512_bf16 {
#include "kernels/simd/attention_words.inc"

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
  int64_t i = 0;
  if (args.first % kCacheGroup == 0) {  // whole groups
    const unsigned char *codes = args.codes + args.first, *scale = args.scales + args.first / kCacheGroup * 4;
#pragma GCC unroll 2
    for (; i + kCacheGroup <= args.n; i += kCacheGroup, scale += 4) {
      const Vec low = v_from_codes(codes + i, scale), high = v_from_codes(codes + i + kLanes, scale);
      _mm512_storeu_si512(out + i, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
    }
  }
  while (i < args.n) {
    const int64_t at = args.first + i, group = at / kCacheGroup, in_group = (group + 1) * kCacheGroup - at;
    const int64_t left = args.n - i < in_group ? args.n - i : in_group, now = left < kLanes ? left : kLanes;
    unsigned char codes[kLanes] = {};
    memcpy(codes, args.codes + at, static_cast<size_t>(now));
    const __mmask16 seen = static_cast<__mmask16>((1u << now) - 1);
    const Vec values = v_from_codes(codes, args.scales + 4 * group);
    _mm256_mask_storeu_epi16(out + i, seen, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
    i += now;
  }
}

}  // namespace redoubt::avx512_bf16
