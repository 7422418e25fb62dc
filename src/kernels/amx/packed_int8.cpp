// packed_linear of the set "amx": as avx512, but more than a few tokens are multiplied by tile products of 16 tokens x
// 16 rows x the columns under one scale, exact in 32 bits; then follow the float sums of the definition, a vector of 16
// rows for each token. The same bits.
//
// A tile product takes as long for 32 columns as for 64, and tiles reach vectors through memory alone; still all of it
// takes less than the dot products of vectors would. Every step waits some 50 cycles for the one before it, so four
// tiles of dots are in work by turns: codes are spelled out for the fifth scale from here, the third one's product
// begins, this one's dots are added up (docs/decisions/0011). Bound: what vectors, tile products and tile stores take,
// one after another.
#include "kernels/amx/tiles.h"
#include "kernels/avx512/packed_vec.h"
#include "kernels/packed_entry.h"

namespace redoubt::REDOUBT_AMX {
#include "kernels/simd/packed_ahead.inc"
#include "kernels/simd/packed_rows.inc"

namespace {

constexpr int kTokensTile = 0, kCodesTile = 1, kDotsTile = 4;  // of dots: four
constexpr int64_t kSpelled = 8;                                // units whose codes are kept as bytes
constexpr int64_t kUnitBytes = 16 * 32;

// A matrix of bits for gf2p8affineqb: bit i of the result is the one that sources[i] names.
constexpr int64_t bit_matrix(const unsigned char (&sources)[8]) {
  uint64_t matrix = 0;
  for (int i = 0; i < 8; ++i) matrix |= static_cast<uint64_t>(sources[i]) << (56 - 8 * i);
  return static_cast<int64_t>(matrix);
}

// As signed_quad, but four bits in one step: a code less 8 is its bits with the highest one turned and repeated
// upwards.
template <class L, int z>
inline IVec spelled_quad(const unsigned char* codes) {
  if constexpr (L::kBits != 4) {
    return signed_quad<L, z>(codes, 0);
  } else {
    static_assert(L::kShift == 3 || L::kShift < 0);
    constexpr int low = z < 4 ? 0 : 4;  // where a nibble begins
    constexpr unsigned char bit[4] = {1 << low, 2 << low, 4 << low, 8 << low}, top = L::kShift < 0 ? 0 : bit[3];
    const IVec matrix = _mm512_set1_epi64(bit_matrix({bit[0], bit[1], bit[2], bit[3], top, top, top, top}));
    return _mm512_gf2p8affine_epi64_epi8(i_load(codes + 64 * (z % 4)), matrix, L::kShift < 0 ? 0 : 0xf8);
  }
}

// A unit as [columns 4z ..][16 rows][4 columns]: for each of its scales one tile.
template <class L>
inline void spell_unit(const unsigned char* codes, unsigned char* to) {
#define REDOUBT_QUAD(z) i_store(to + z * 64, spelled_quad<L, z>(codes));
  REDOUBT_EACH_QUAD(REDOUBT_QUAD)
#undef REDOUBT_QUAD
}

// Some tokens' activations.
struct TokenTile {
  const int8_t* q;  // rows `stride` apart
  int64_t stride;
  const float *scale, *sum;  // [units][16 tokens]
  int64_t token, tokens;
  bool add;  // to the outputs
};

// Sixteen columns of sixteen rows of floats, of which `tokens` and `units` are there, as [16 units][16 tokens].
inline void to_units(const float* const* rows, int64_t at, int64_t tokens, int64_t units, float* to) {
  const auto there = static_cast<__mmask16>((1u << units) - 1);
  Vec a[16], b[16];
#pragma GCC unroll 16
  for (int t = 0; t < 16; ++t) a[t] = t < tokens ? _mm512_maskz_loadu_ps(there, rows[t] + at) : v_zero();
#pragma GCC unroll 8
  for (int t = 0; t < 16; t += 2) {
    b[t] = _mm512_unpacklo_ps(a[t], a[t + 1]);
    b[t + 1] = _mm512_unpackhi_ps(a[t], a[t + 1]);
  }
#pragma GCC unroll 4
  for (int t = 0; t < 16; t += 4) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512d low = _mm512_castps_pd(b[t + i]), high = _mm512_castps_pd(b[t + i + 2]);
      a[t + 2 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      a[t + 2 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // a[4 t + i]: columns i, 4 + i, .. of tokens 4 t ..
    const Vec low0 = _mm512_shuffle_f32x4(a[i], a[4 + i], 0x88), low1 = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0x88);
    const Vec high0 = _mm512_shuffle_f32x4(a[i], a[4 + i], 0xdd),
              high1 = _mm512_shuffle_f32x4(a[8 + i], a[12 + i], 0xdd);
    _mm512_store_ps(to + 16 * i, _mm512_shuffle_f32x4(low0, low1, 0x88));
    _mm512_store_ps(to + 16 * (4 + i), _mm512_shuffle_f32x4(high0, high1, 0x88));
    _mm512_store_ps(to + 16 * (8 + i), _mm512_shuffle_f32x4(low0, low1, 0xdd));
    _mm512_store_ps(to + 16 * (12 + i), _mm512_shuffle_f32x4(high0, high1, 0xdd));
  }
}

// Tokens of each tile but the last: as few tiles as possible, of as many tokens each. Tiles of another size would have
// to be configured and meet all rows once more (tile_tokens_of makes up to three sizes).
constexpr int64_t tile_tokens(int64_t tokens) {
  const int64_t tiles = (tokens + kTileRows - 1) / kTileRows;
  return (tokens + tiles - 1) / tiles;
}

// Floats of memory that a tile of tokens takes: scales, sums where there are minimums, and copies of rows that do not
// lie one behind the other.
template <class L>
constexpr int64_t tile_floats(int64_t cols, bool copies) {
  return (cols / 32 + 15) / 16 * 256 * (L::kMinimum ? 2 : 1) + (copies ? kTileRows * cols / 4 : 0);
}

// Of x, or of its remainder, which is added to the outputs.
template <class L>
TokenTile token_tile(const PackedLinearArgs& args, bool remainder, int64_t token, int64_t tokens, float* memory) {
  const int64_t cols = args.w.cols, units = cols / 32, floats = tile_floats<L>(cols, false);
  float *scale = memory, *sum = L::kMinimum ? memory + floats / 2 : nullptr;
  const QuantizedRows& x = remainder ? args.remainder : args.x;
  XRows<kTileRows> rows;
  rows.set(0, static_cast<int>(tokens), args, x, token);
  for (int64_t unit = 0; unit < units; unit += 16) {
    const int64_t n = units - unit < 16 ? units - unit : 16;
    to_units(rows.scale, unit, tokens, n, scale + unit * 16);
    if (L::kMinimum) to_units(rows.sum, unit, tokens, n, sum + unit * 16);
  }
  if (args.x_rows == nullptr) return {rows.q[0], x.stride, scale, sum, token, tokens, remainder};
  auto* copy = reinterpret_cast<int8_t*>(memory + floats);
  for (int64_t t = 0; t < tokens; ++t) memcpy(copy + t * cols, rows.q[t], static_cast<size_t>(cols));
  return {copy, cols, scale, sum, token, tokens, remainder};
}

// One group's codes as a tile wants them, and dots on their way to vectors.
struct alignas(64) TileMemory {
  unsigned char codes[kSpelled][kUnitBytes];
  int32_t dots[4][kTileRows * 16];
};

// Begins the dots of scale s in tile kDotsTile + i.
template <int Halves, int i>
inline void begin_dots(const TokenTile& x, const TileMemory& memory, int64_t s) {
  constexpr int64_t kColumns = 32 / Halves;
  tile_load<kTokensTile>(x.q + s * kColumns, x.stride);
  tile_load<kCodesTile>(memory.codes[s / Halves % kSpelled] + s % Halves * 16 * kColumns, 64);
  tile_zero<kDotsTile + i>();
  tile_dot_int8<kDotsTile + i, kTokensTile, kCodesTile>();
}

// The sums of 16 rows for a tile of tokens, whose number is at most Tokens.
template <class L, int Tokens>
void tile_group(const PackedLinearArgs& args, int64_t row, const TokenTile& x, TileMemory& memory, Ahead& ahead) {
  constexpr int64_t kHalves = L::kHalves, kUnits = Scales<L>::kUnits;
  constexpr int64_t kFirst = 4 + kHalves;  // scales spelled out before the first
  const int64_t units = args.w.cols / 32, end = units * kHalves;
  const unsigned char* header = args.w.data + row / 16 * args.w.group_bytes;
  const unsigned char* codes = header + args.w.cols / L::kBlock * L::kHeader;
  TileMemory* m = &memory;
  asm("" : "+r"(m));  // so that its parts are addressed from where it begins, in short
  for (int64_t u = 0; u < units && u * kHalves < kFirst; ++u) spell_unit<L>(codes + u * L::kUnit, m->codes[u]);
  begin_dots<kHalves, 0>(x, *m, 0);
  if (1 < end) begin_dots<kHalves, 1>(x, *m, 1);
  if (2 < end) begin_dots<kHalves, 2>(x, *m, 2);
  Scales<L> scales;
  Vec sums[Tokens];
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t) sums[t] = v_zero();
  for (int64_t first = 0; first < end; first += 4) {
#define REDOUBT_SCALE(i)                                                                                               \
  {                                                                                                                    \
    const int64_t s = first + i, u = s / kHalves, later = u + kFirst / kHalves;                                        \
    if (s % kHalves == 0) {                                                                                            \
      ahead.ask(1);                                                                                                    \
      if (u % kUnits == 0) L::read(header + u / kUnits * L::kHeader, scales.scale, scales.minimum);                    \
      if (later < units) spell_unit<L>(codes + later * L::kUnit, m->codes[later % kSpelled]);                          \
    }                                                                                                                  \
    if (s + 3 < end) begin_dots<kHalves, (i + 3) % 4>(x, *m, s + 3);                                                   \
    tile_store<kDotsTile + i>(m->dots[i], 64);                                                                         \
    const Vec scale_w = scales.scale[u % kUnits * kHalves + s % kHalves];                                              \
    const float* scale_x = x.scale + u * 16;                                                                           \
    _Pragma("GCC unroll 16") for (int t = 0; t < Tokens; ++t) {                                                        \
      const Vec dot = i_to_float(_mm512_load_si512(m->dots[i] + t * 16));                                              \
      sums[t] = v_fma(dot, v_mul(scale_w, v_set1(scale_x[t])), sums[t]);                                               \
    }                                                                                                                  \
    if (L::kMinimum && s % kHalves == kHalves - 1) {                                                                   \
      const Vec minimum_w = scales.minimum[L::kMinimum ? u % kUnits : 0];                                              \
      const float* sum_x = x.sum + u * 16;                                                                             \
      _Pragma("GCC unroll 16") for (int t = 0; t < Tokens; ++t) sums[t] = v_fma(minimum_w, v_set1(sum_x[t]), sums[t]); \
    }                                                                                                                  \
    if (s + 1 == end) break;                                                                                           \
  }
    REDOUBT_SCALE(0) REDOUBT_SCALE(1) REDOUBT_SCALE(2) REDOUBT_SCALE(3)
#undef REDOUBT_SCALE
  }
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t) {
    if (t >= x.tokens) break;
    if (x.add) {
      store_rows<true>(args, row, x.token + t, sums + t);
    } else {
      store_rows<false>(args, row, x.token + t, sums + t);
    }
  }
}

// Tiles of tokens meet all rows. To choose how many tokens outside of the loops, all tiles having as many, is a tenth
// slower.
template <class L>
void tile_rows(const PackedLinearArgs& args, const TokenTile* tiles, int64_t count, TileMemory& memory) {
  const int64_t asks = count * (args.w.cols / 32);
  for (int64_t row = args.row_begin; row < args.row_end; row += 16) {
    const unsigned char* next = args.w.data + (row / 16 + 1) * args.w.group_bytes;
    Ahead ahead{next, next, (args.w.group_bytes + asks - 1) / asks, kNearBehindFar};
    for (int64_t i = 0; i < count; ++i) {
      if (tiles[i].tokens <= 4) {
        tile_group<L, 4>(args, row, tiles[i], memory, ahead);
      } else if (tiles[i].tokens <= 8) {
        tile_group<L, 8>(args, row, tiles[i], memory, ahead);
      } else if (tiles[i].tokens <= 12) {
        tile_group<L, 12>(args, row, tiles[i], memory, ahead);
      } else {
        tile_group<L, 16>(args, row, tiles[i], memory, ahead);
      }
    }
  }
}

template <class L>
void configure_tiles(int64_t tokens) {
  constexpr int64_t columns = 32 / L::kHalves;
  TileConfig config;
  config.set(kTokensTile, tokens, columns);
  config.set(kCodesTile, columns / 4, kTileRowBytes);
  for (int i = 0; i < 4; ++i) config.set(kDotsTile + i, tokens, kTileRowBytes);
  tiles_configure(config);
}

// As many tiles of tokens as fit the scratch memory meet all rows, then the next ones; at last those of a smaller tile.
template <class L>
void tile_linear(const PackedLinearArgs& args) {
  constexpr int64_t kMostTiles = 2 * kPackedTokens / kTileRows;
  const int64_t passes = args.remainder.q != nullptr ? 2 : 1;
  const int64_t floats = tile_floats<L>(args.w.cols, args.x_rows != nullptr);
  const int64_t most = (kPackedScratch - 16) / (passes * floats);
  if (most == 0) return avx512::packed_linear(args);
  float* scratch = from_a_line(args.scratch);
  TileMemory memory;
  memset(memory.dots, 0, sizeof memory.dots);  // of rows beyond a tile's tokens
  TokenTile tiles[kMostTiles];
  int64_t tokens = tile_tokens(args.tokens), configured = 0;
  for (int64_t first = 0, at_once; first < args.tokens; first += at_once * tokens) {
    const int64_t left = args.tokens - first;
    if (left < tokens) tokens = left;
    if (tokens != configured) configure_tiles<L>(configured = tokens);
    at_once = left / tokens < most ? left / tokens : most;
    int64_t count = 0;
    for (int64_t pass = 0; pass < passes; ++pass) {
      for (int64_t i = 0; i < at_once; ++i, ++count) {
        tiles[count] = token_tile<L>(args, pass > 0, first + i * tokens, tokens, scratch + count * floats);
      }
    }
    tile_rows<L>(args, tiles, count, memory);
  }
  tiles_release();
}

}  // namespace

void packed_linear(const PackedLinearArgs& args) {
  constexpr int64_t kFewTokens = 6;  // memory or vectors bind up to here
  if (args.tokens <= kFewTokens) return avx512::packed_linear(args);
  with_layout(args.w.type, [&]<class L>() {
    if constexpr (L::kPlanes == 1) {
      tile_linear<L>(args);
    } else {
      avx512::packed_linear(args);
    }
  });
}

}  // namespace redoubt::REDOUBT_AMX
