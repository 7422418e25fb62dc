// What the files over bf16 activations share: where sums go, E4M3 codes as bf16 pairs, a block's scale. Compiled with
// BF16 and VBMI.
#pragma once

#include "kernels/avx512/vec.h"
#include "kernels/kernel_args.h"

namespace redoubt {
namespace {

// y = sum + bias for up to 16 rows of a token.
inline void store_rows(const PackedLinearArgs& args, int64_t row, int64_t token, Vec sum) {
  const int64_t left = args.row_end - row;
  const __mmask16 mask = left >= 16 ? 0xffff : static_cast<__mmask16>((1u << left) - 1);
  if (args.bias != nullptr) sum = v_add(sum, _mm512_maskz_loadu_ps(mask, args.bias + row));
  _mm512_mask_storeu_ps(args.y + token * args.y_stride + row, mask, sum);
}

// The two bytes of each e4m3 magnitude's bf16, for vpermi2b: exact, subnormals too; NaN for 127.
struct E4m3Tables {
  alignas(64) unsigned char low[128], high[128];
};
constexpr E4m3Tables make_tables() {
  E4m3Tables tables{};
  for (int code = 0; code < 128; ++code) {
    int exponent = code >> 3, mantissa = code & 7, bits = 0;
    if (code == 127) {
      bits = 0x7fc0;
    } else if (exponent > 0) {
      bits = (exponent + 120) << 7 | mantissa << 4;
    } else if (mantissa > 0) {  // mantissa * 2^-9, normalised
      int shift = 0;
      while ((mantissa << shift & 8) == 0) ++shift;
      bits = (121 - shift) << 7 | (mantissa << shift & 7) << 4;
    }
    tables.low[code] = static_cast<unsigned char>(bits & 255);
    tables.high[code] = static_cast<unsigned char>(bits >> 8);
  }
  return tables;
}
constexpr E4m3Tables kE4m3 = make_tables();

// Sixteen rows of four e4m3 columns as two vectors of bf16 pairs.
inline void e4m3_to_bf16(const unsigned char* codes, __m512i* first, __m512i* second) {
  const __m512i code = _mm512_loadu_si512(codes), sign = _mm512_and_si512(code, _mm512_set1_epi8(-128));
  // vpermi2b looks at seven bits of an index, so the sign does not disturb it.
  const __m512i low = _mm512_permutex2var_epi8(_mm512_load_si512(kE4m3.low), code, _mm512_load_si512(kE4m3.low + 64));
  const __m512i high = _mm512_or_si512(
      _mm512_permutex2var_epi8(_mm512_load_si512(kE4m3.high), code, _mm512_load_si512(kE4m3.high + 64)), sign);
  // (low, high) of bytes b0 b1 | b2 b3 of every 32-bit lane.
  const __m512i even_low = _mm512_unpacklo_epi8(low, high), even_high = _mm512_unpackhi_epi8(low, high);
  // unpack works inside 128-bit lanes: lo holds rows 0, 1 of the lane (four columns each), hi rows 2, 3.
  *first = _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(even_low), _mm512_castsi512_ps(even_high), 0x88));
  *second = _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(even_low), _mm512_castsi512_ps(even_high), 0xdd));
}

inline float scale_at(const PackedMatrix& w, int64_t row, int64_t column) {
  return w.scales != nullptr ? w.scales[row / kScaleBlock * w.scale_cols + column / kScaleBlock] : 1.0f;
}

constexpr int64_t kPairs = kScaleBlock / 2;  // of columns, in the stretch that is multiplied under one scale
constexpr int64_t kPrefetch = 8192;          // bytes ahead of use: see simd/packed_int8.inc

// 128 columns of e4m3 spelled out as bf16: [groups][kPairs][16][2].
template <int Groups>
void spell_out(const PackedLinearArgs& args, int64_t row, int64_t column, int64_t columns, unsigned char* out) {
  for (int64_t g = 0; g < Groups; ++g) {
    const unsigned char* from = args.w.data + (row / 16 + g) * args.w.group_bytes + column * 16;
    unsigned char* to = out + g * kPairs * 64;
    for (int64_t quad = 0; quad < columns / 4; ++quad, from += 64, to += 128) {
      __builtin_prefetch(from + kPrefetch / Groups);
      __m512i first, second;
      e4m3_to_bf16(from, &first, &second);
      _mm512_store_si512(to, first);
      _mm512_store_si512(to + 64, second);
    }
  }
}

}  // namespace
}  // namespace redoubt
