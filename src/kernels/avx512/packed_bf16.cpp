// packed_linear_bf16 of the avx512 table: bf16 and e4m3 weights against bf16 activations. Compiled with BF16 and VBMI:
// called only where the CPU has both.
//
// A lane is a row and adds pairs of columns in order. bf16: one sum over all columns. e4m3: one sum for each 128
// columns, multiplied with the block's scale and added. Bound: memory for few tokens, dot products for many.
#include "kernels/avx512/packed_bf16.h"

#include "kernels/packed_entry.h"

namespace redoubt::avx512 {
namespace {

inline __m512bh pairs_at(const void* p) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(p)); }
inline __m512bh broadcast_pair(const uint16_t* x) {
  int32_t pair;
  memcpy(&pair, x, 4);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}

template <int Tokens>
struct XRows {
  const uint16_t* x[Tokens];
  XRows(const PackedLinearArgs& args, int64_t token) {
    for (int t = 0; t < Tokens; ++t) {
      const int64_t row = args.x_rows != nullptr ? args.x_rows[token + t] : token + t;
      x[t] = args.x_bf16 + row * args.x.stride;
    }
  }
};

// sums[t][g] += W[group g, pairs] . x[t]; group g's pairs lie `group_stride` bytes from the first's.
template <int Groups, int Tokens, bool Prefetch>
inline __attribute__((always_inline)) void add_pairs(const unsigned char* w, int64_t group_stride, int64_t pairs,
                                                     const XRows<Tokens>& x, int64_t column, Vec (*sums)[Groups]) {
#pragma GCC unroll 4
  for (int64_t p = 0; p < pairs; ++p) {
    __m512bh weights[Groups];
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
      if (Prefetch) __builtin_prefetch(w + g * group_stride + 64 * p + kPrefetch / Groups);
      weights[g] = pairs_at(w + g * group_stride + 64 * p);
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const __m512bh pair = broadcast_pair(x.x[t] + column + 2 * p);
#pragma GCC unroll 8
      for (int g = 0; g < Groups; ++g) sums[t][g] = _mm512_dpbf16_ps(sums[t][g], weights[g], pair);
    }
  }
}

// Groups * 16 rows of bf16 for few tokens: all columns in one run.
template <int Groups, int Tokens>
void direct_bf16(const PackedLinearArgs& args, int64_t row, int64_t token) {
  const XRows<Tokens> x(args, token);
  Vec sums[Tokens][Groups] = {};
  add_pairs<Groups, Tokens, true>(args.w.data + row / 16 * args.w.group_bytes, args.w.group_bytes, args.w.cols / 2, x,
                                  0, sums);
  for (int t = 0; t < Tokens; ++t) {
    for (int g = 0; g < Groups; ++g) store_rows(args, row + 16 * g, token + t, sums[t][g]);
  }
}

template <int Groups, int Tokens, bool Scaled>
void panel_tile(const PackedLinearArgs& args, const unsigned char* w, int64_t group_stride, int64_t row, int64_t column,
                int64_t columns, int64_t token, float* acc) {
  const XRows<Tokens> x(args, token);
  Vec sums[Tokens][Groups];
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) sums[t][g] = Scaled ? v_zero() : v_load(acc + (t * 4 + g) * 16);
  }
  add_pairs<Groups, Tokens, false>(w, group_stride, columns / 2, x, column, sums);
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t) {
#pragma GCC unroll 8
    for (int g = 0; g < Groups; ++g) {
      float* to = acc + (t * 4 + g) * 16;
      v_store(to, Scaled ? v_fma(sums[t][g], v_set1(scale_at(args.w, row + 16 * g, column)), v_load(to)) : sums[t][g]);
    }
  }
}

template <int Groups, bool Scaled>
void panel_step(const PackedLinearArgs& args, const unsigned char* w, int64_t group_stride, int64_t row, int64_t column,
                int64_t columns, int64_t token, int64_t tokens, float* acc) {
  switch (tokens) {
    case 1:
      return panel_tile<Groups, 1, Scaled>(args, w, group_stride, row, column, columns, token, acc);
    case 2:
      return panel_tile<Groups, 2, Scaled>(args, w, group_stride, row, column, columns, token, acc);
    case 3:
      return panel_tile<Groups, 3, Scaled>(args, w, group_stride, row, column, columns, token, acc);
    case 4:
      return panel_tile<Groups, 4, Scaled>(args, w, group_stride, row, column, columns, token, acc);
    case 5:
      return panel_tile<Groups, 5, Scaled>(args, w, group_stride, row, column, columns, token, acc);
    default:
      return panel_tile<Groups, 6, Scaled>(args, w, group_stride, row, column, columns, token, acc);
  }
}

// A stretch of columns at a time, for all tokens. The next stretch of e4m3 is asked for meanwhile, some lines with
// every tile; bf16 is read by the tiles themselves, in an order that the processor foresees.
template <int Groups, bool Scaled>
void panel_rows(const PackedLinearArgs& args, int64_t row) {
  constexpr int64_t kTile = 6;
  auto* memory = reinterpret_cast<unsigned char*>(from_a_line(args.scratch));
  float* acc = reinterpret_cast<float*>(memory + 4 * kPairs * 64);  // [tokens][4][16]
  memset(acc, 0, static_cast<size_t>(args.tokens * 64) * sizeof(float));
  constexpr int64_t kColumnBytes = Scaled ? 16 : 32;  // of a group's rows
  const int64_t stretch = Scaled ? kScaleBlock : 256, tiles = (args.tokens + kTile - 1) / kTile;
  const unsigned char* group = args.w.data + row / 16 * args.w.group_bytes;
  for (int64_t column = 0; column < args.w.cols; column += stretch) {
    const int64_t columns = args.w.cols - column < stretch ? args.w.cols - column : stretch;
    const bool last = column + columns == args.w.cols;
    const unsigned char* w = group + column * kColumnBytes;
    const unsigned char* next = last ? group + Groups * args.w.group_bytes : w + columns * kColumnBytes;
    const int64_t next_bytes = Scaled ? stretch * kColumnBytes : 0, share = (next_bytes / 64 + tiles - 1) / tiles * 64;
    int64_t group_stride = args.w.group_bytes, asked = 0;
    if (Scaled) {
      spell_out<Groups>(args, row, column, columns, memory);
      w = memory;
      group_stride = kPairs * 64;
    }
    for (int64_t t = 0, n; t < args.tokens; t += n) {
      n = tile_tokens_of(args.tokens - t, kTile);
      for (int64_t end = asked + share < next_bytes ? asked + share : next_bytes; asked < end; asked += 64) {
        for (int g = 0; g < Groups; ++g) __builtin_prefetch(next + g * args.w.group_bytes + asked, 0, 2);
      }
      panel_step<Groups, Scaled>(args, w, group_stride, row, column, columns, t, n, acc + t * 64);
    }
  }
  for (int64_t t = 0; t < args.tokens; ++t) {
    for (int g = 0; g < Groups; ++g) {
      if (row + 16 * g < args.row_end) store_rows(args, row + 16 * g, t, v_load(acc + (t * 4 + g) * 16));
    }
  }
}

template <int Groups>
void direct_few(const PackedLinearArgs& args, int64_t row) {
  int64_t t = 0;
  for (; t + 4 <= args.tokens; t += 4) direct_bf16<Groups, 4>(args, row, t);
  if (t + 2 <= args.tokens) {
    direct_bf16<Groups, 2>(args, row, t);
    t += 2;
  }
  if (t < args.tokens) direct_bf16<Groups, 1>(args, row, t);
}

template <int Groups>
void linear_rows(const PackedLinearArgs& args, int64_t row) {
  if (args.w.type == PackedType::f8_e4m3) return panel_rows<Groups, true>(args, row);
  if (args.tokens <= 4) return direct_few<Groups>(args, row);
  panel_rows<Groups, false>(args, row);
}

}  // namespace

void packed_linear_bf16(const PackedLinearArgs& args) {
  int64_t row = args.row_begin;
  for (; row + 48 < args.row_end; row += 64) linear_rows<4>(args, row);
  if (row + 32 < args.row_end) {
    linear_rows<3>(args, row);
  } else if (row + 16 < args.row_end) {
    linear_rows<2>(args, row);
  } else if (row < args.row_end) {
    linear_rows<1>(args, row);
  }
}

}  // namespace redoubt::avx512
