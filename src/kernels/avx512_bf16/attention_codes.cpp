// Attention of the avx512_bf16 table over an 8-bit cache, whose codes are read where they lie. Scores: for each group
// of kCacheGroup values the exact integer dot of a query's codes and a key's (vpdpbusd, twice the products of
// vdpbf16ps), times both scales, groups in order. Values: codes times their scale, rounded to bfloat16, as in
// attention.cpp. Compiled with AVX512-VNNI too.
#include "kernels/avx512_bf16/pairs.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx512_codes {
#include "kernels/simd/attention_softmax.inc"

namespace {

constexpr int64_t kCodeWords = kCacheGroup / 4;  // of one group

// So many sums and as many dots lie in registers.
template <int Vecs>
constexpr int kKeysAtOnce = 8 / Vecs;

// What the next tile needs of the rows in the place of this block's, cache line by line: of the keys, then of the
// values.
struct NextLines {
  const AttentionTileArgs& a;
  const unsigned char* at = nullptr;
  int64_t block, row = 0, k_lines = 0, v_lines = 0, at_once = 0;

  // Asked `steps` times while `keys` keys from k0 on are met.
  NextLines(const AttentionTileArgs& args, int64_t k0, int64_t keys, int64_t steps)
      : a(args), block(k0 / kAttentionRows) {
    const int64_t calls = kAttentionRows / keys, lines = args.next_k_lines + args.next_v_lines;
    const int64_t each = (lines * kAttentionRows + steps * calls - 1) / (steps * calls);
    const int64_t done = k0 % kAttentionRows / keys * steps * each, line = done / kAttentionRows;
    if (line >= lines) return;
    const bool in_keys = line < args.next_k_lines;
    at_once = each;
    row = done % kAttentionRows;
    k_lines = in_keys ? args.next_k_lines - line : 0;
    v_lines = in_keys ? args.next_v_lines : lines - line;
    at = (in_keys ? a.next_k[block] + line * 64 : a.next_v[block] + (line - args.next_k_lines) * 64) + row * a.k_stride;
  }
  void ask() {
    for (int64_t i = 0; i < at_once && k_lines + v_lines > 0; ++i) {
      __builtin_prefetch(at, 0, 2);
      at += a.k_stride;
      if (++row < kAttentionRows) continue;
      row = 0;
      at += 64 - kAttentionRows * a.k_stride;
      if (k_lines == 0) {
        --v_lines;
      } else if (--k_lines == 0) {
        at = a.next_v[block];
      }
    }
  }
};

// Keys reach vpdpbusd as code + 128 without a sign, hence the dots' beginning in a query's words.
template <int Vecs, bool Ahead>
inline __attribute__((always_inline)) void scores_tile(const AttentionTileArgs& a, const uint32_t* q, int64_t k0,
                                                       float* s) {
  constexpr int kKeys = kKeysAtOnce<Vecs>;
  const __m512i flip = _mm512_set1_epi32(static_cast<int32_t>(0x80808080u));
  const int64_t first = k0 % kAttentionRows * a.k_stride;
  const unsigned char* keys = a.k[k0 / kAttentionRows] + first;
  const unsigned char* scales = keys + a.k_scales;
  Vec sums[Vecs][kKeys];
  for (int v = 0; v < Vecs; ++v) {
    for (int k = 0; k < kKeys; ++k) sums[v][k] = v_zero();
  }
  NextLines next(a, k0, kKeys, a.words / kQueryWords);
  for (int64_t w = 0; w < a.words; w += kQueryWords, keys += kCacheGroup, scales += 4) {
    if constexpr (Ahead) next.ask();
    __m512i dots[Vecs][kKeys];
    Vec q_scale[Vecs];
    for (int v = 0; v < Vecs; ++v) {
      const uint32_t* last = q + row_offset(v, a.words) + kCodeWords * kAttentionRows;
      q_scale[v] = _mm512_loadu_ps(last);
      for (int k = 0; k < kKeys; ++k) dots[v][k] = _mm512_loadu_si512(last + kAttentionRows);
    }
#pragma GCC unroll 8
    for (int64_t i = 0; i < kCodeWords; ++i) {
      __m512i codes[Vecs];
      for (int v = 0; v < Vecs; ++v) codes[v] = _mm512_loadu_si512(q + row_offset(v, a.words) + i * kAttentionRows);
      for (int k = 0; k < kKeys; ++k) {
        int32_t word;
        memcpy(&word, keys + k * a.k_stride + 4 * i, 4);
        const __m512i key = _mm512_xor_si512(_mm512_set1_epi32(word), flip);
        for (int v = 0; v < Vecs; ++v) dots[v][k] = _mm512_dpbusd_epi32(dots[v][k], key, codes[v]);
      }
    }
    for (int k = 0; k < kKeys; ++k) {
      float scale;
      memcpy(&scale, scales + k * a.k_stride, 4);
      for (int v = 0; v < Vecs; ++v) {
        sums[v][k] = v_fma(v_mul(_mm512_cvtepi32_ps(dots[v][k]), q_scale[v]), v_set1(scale), sums[v][k]);
      }
    }
    q += kQueryWords * kAttentionRows;
  }
  for (int k = 0; k < kKeys; ++k) {
    for (int v = 0; v < Vecs; ++v) v_store(s + (k * Vecs + v) * kLanes, sums[v][k]);
  }
}

// Words of sixteen columns of two rows. A row that is null: zeros.
inline __m512i value_words(const unsigned char* even, const unsigned char* odd, int64_t c, int64_t scales) {
  const auto row = [=](const unsigned char* codes) {
    return codes != nullptr ? v_from_codes(codes + c, codes + scales + c / kCacheGroup * 4) : v_zero();
  };
  return interleaved(row(even), row(odd));
}

// Columns c .. c + 31 of the values of few_rows_tile, as words of bfloat16.
struct ValueColumns {
  alignas(64) uint32_t at[kTileWords][2][kLanes];

  ValueColumns(const AttentionTileArgs& a, int64_t words, int64_t c) {
    for (int64_t w = 0; w < words; ++w) {
      for (int64_t i = 0; i < 2; ++i) {
        const __m512i pairs = value_words(a.v_rows[2 * w], a.v_rows[2 * w + 1], c + i * kLanes, a.v_scales);
        _mm512_store_si512(at[w][i], pairs);
      }
    }
  }
  void get(int64_t w, Vec* values) const {
    for (int i = 0; i < 2; ++i) values[i] = v_words(at[w][i]);
  }
};

}  // namespace

#include "kernels/simd/attention.inc"

void attention_values(const AttentionValuesArgs& args) {
  for (int64_t c = 0; c < args.n; c += kLanes) {
    for (int64_t w = 0; w < kTileWords; ++w) {
      _mm512_storeu_si512(args.out + (c * kTileWords + w * kLanes),
                          value_words(args.rows[2 * w], args.rows[2 * w + 1], c, args.scales));
    }
  }
}

void attention_encode_query(const AttentionQueryArgs& args) {
  uint32_t* to = args.out;
  for (int64_t at = 0; at < args.n; at += kCacheGroup, to += kQueryWords * kAttentionRows) {
    const __m512 low = _mm512_loadu_ps(args.q + at), high = _mm512_loadu_ps(args.q + at + kLanes);
    const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    const float scale = largest / 127.0f;
    const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
    const __m512i codes[2] = {_mm512_cvtps_epi32(_mm512_mul_ps(low, inverse)),
                              _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse))};
    const int32_t begin = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(codes[0], codes[1]));
    alignas(16) uint32_t words[kQueryWords];
    for (int i = 0; i < 2; ++i) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(words + 4 * i), _mm512_cvtsepi32_epi8(codes[i]));
    }
    memcpy(words + kCodeWords, &scale, 4);
    memcpy(words + kCodeWords + 1, &begin, 4);
    for (int64_t i = 0; i < kQueryWords; ++i) to[i * kAttentionRows] = words[i];
  }
}

}  // namespace redoubt::avx512_codes
