// Attention of the amx table: scores and weighted sums of the avx512_bf16 table's algorithm by tile products. A tile of
// scores is 16 keys x 16 query rows, of which the keys lie in rows as they are cached and the query in words as
// AttentionTileArgs::q has them; a tile of outputs is 16 columns x 16 query rows, for which attention_values lays each
// column's keys side by side. A single group's outputs are rows x 16 columns instead: the same products of the same
// pairs in the same order, so the same bits.
//
// Bound: tile products (16 cycles each) and the loads of their operands, two for every product of a single group and
// one where two groups share the keys.
#include "kernels/amx/tiles.h"
#include "kernels/avx512_bf16/pairs.h"
#include "kernels/vector_tables.h"

namespace redoubt::REDOUBT_AMX {
#include "kernels/simd/attention_softmax.inc"
namespace {

static_assert(kLanes == kTileRows && kAttentionRows == kTileRows);
constexpr int64_t kBlockWords = 16;                     // of a tile row: 32 columns of a head, or 32 keys
constexpr int64_t kTileFloats = kTileRows * kTileRows;  // sums of a tile, words of a full operand
constexpr int64_t kBlocks = kTileWords / kBlockWords;   // of a tile's keys

// Rows of sixteen words become columns.
inline void transpose(__m512i* r) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    a[i + 2] = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
  }
  for (int i = 0; i < 16; i += 4) {  // b[i + j]: column j of each 128-bit lane, rows i .. i + 3
    b[i] = _mm512_unpacklo_epi64(a[i], a[i + 2]);
    b[i + 1] = _mm512_unpackhi_epi64(a[i], a[i + 2]);
    b[i + 2] = _mm512_unpacklo_epi64(a[i + 1], a[i + 3]);
    b[i + 3] = _mm512_unpackhi_epi64(a[i + 1], a[i + 3]);
  }
  for (int j = 0; j < 4; ++j) {  // columns j, j + 4, j + 8, j + 12
    const __m512i even0 = _mm512_shuffle_i32x4(b[j], b[j + 4], 0x88), odd0 = _mm512_shuffle_i32x4(b[j], b[j + 4], 0xdd);
    const __m512i even8 = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0x88);
    const __m512i odd8 = _mm512_shuffle_i32x4(b[j + 8], b[j + 12], 0xdd);
    r[j] = _mm512_shuffle_i32x4(even0, even8, 0x88);
    r[j + 4] = _mm512_shuffle_i32x4(odd0, odd8, 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(even0, even8, 0xdd);
    r[j + 12] = _mm512_shuffle_i32x4(odd0, odd8, 0xdd);
  }
}

// Words [16][words left] of rows `stride` bytes apart, filled up with zeros: operands may not end in what is not
// theirs.
inline void copy_rest(const unsigned char* rows, int64_t stride, int64_t words, uint32_t* to) {
  memset(to, 0, kTileFloats * sizeof(uint32_t));
  for (int64_t r = 0; r < kTileRows; ++r)
    memcpy(to + r * kBlockWords, rows + r * stride, static_cast<size_t>(words) * 4);
}

// One line of the next tile's rows for each word, as simd/attention.inc asks for them.
inline void fetch_block(const AttentionTileArgs& a, int64_t key_block, int64_t word) {
  for (int64_t i = word; i < word + kBlockWords; ++i) {
    fetch_ahead(a.next_k[key_block], a.k_stride, a.next_k_lines, i);
    fetch_ahead(a.next_v[key_block], a.k_stride, a.next_v_lines, i);
  }
}

// s[group][keys][16 rows] for Groups groups from `group` on. Sums are in tiles 4 + 2 * group + key block.
template <int Groups>
void scores(const AttentionTileArgs& a, int64_t group, int64_t keys, bool ahead, float* s) {
  constexpr int64_t kGroupScores = kKeyTile * kAttentionRows;
  const uint32_t* q = a.q + group * a.words * kAttentionRows;
  const int64_t group_words = a.words * kAttentionRows, rest = a.words % kBlockWords, whole = a.words - rest;
  alignas(64) uint32_t q_rest[Groups][kTileFloats], k_rest[2][kTileFloats];
  if (rest > 0) {
    for (int64_t g = 0; g < Groups; ++g) {
      memset(q_rest[g], 0, sizeof(q_rest[g]));
      memcpy(q_rest[g], q + g * group_words + whole * kAttentionRows, static_cast<size_t>(rest * kAttentionRows) * 4);
    }
  }
  for (int64_t block = 0; block < keys / kTileRows; block += 2) {
    const bool two = (block + 1) * kTileRows < keys;
    tile_zero<4>();
    tile_zero<5>();
    if (Groups > 1) {
      tile_zero<6>();
      tile_zero<7>();
    }
    const auto add = [&](const unsigned char* k0, const unsigned char* k1, int64_t stride, const uint32_t* q0,
                         const uint32_t* q1) {
      tile_load<0>(k0, stride);
      tile_load<2>(q0, 64);
      if (two) tile_load<1>(k1, stride);
      if (Groups > 1) tile_load<3>(q1, 64);
      tile_dot_bf16<4, 0, 2>();
      if (two) tile_dot_bf16<5, 1, 2>();
      if (Groups > 1) {
        tile_dot_bf16<6, 0, 3>();
        if (two) tile_dot_bf16<7, 1, 3>();
      }
    };
    const unsigned char *k0 = a.k[block], *k1 = two ? a.k[block + 1] : k0;
    for (int64_t w = 0; w < whole; w += kBlockWords) {
      if (ahead) {
        fetch_block(a, block, w);
        if (two) fetch_block(a, block + 1, w);
      }
      add(k0 + 4 * w, k1 + 4 * w, a.k_stride, q + w * kAttentionRows, q + group_words + w * kAttentionRows);
    }
    if (rest > 0) {
      copy_rest(k0 + 4 * whole, a.k_stride, rest, k_rest[0]);
      copy_rest(k1 + 4 * whole, a.k_stride, rest, k_rest[1]);
      add(reinterpret_cast<const unsigned char*>(k_rest[0]), reinterpret_cast<const unsigned char*>(k_rest[1]), 64,
          q_rest[0], q_rest[Groups - 1]);
    }
    float* to = s + block * kTileFloats;
    tile_store<4>(to, 64);
    if (two) tile_store<5>(to + kTileFloats, 64);
    if (Groups > 1) {
      tile_store<6>(to + kGroupScores, 64);
      if (two) tile_store<7>(to + kGroupScores + kTileFloats, 64);
    }
  }
}

// Weights p[group][words of keys][16 rows] and shrink[group] for Groups groups; returns the blocks of 32 keys that the
// weights stand for, 0 where no row sees a key. What is not seen has weight 0.
template <int Groups>
int64_t weigh(const AttentionTileArgs& a, int64_t group, uint32_t* p, Vec* shrink) {
  const int64_t row = group * kAttentionRows;
  int32_t most[Groups] = {}, least[Groups], all = 0;
  for (int64_t g = 0; g < Groups; ++g) {
    least[g] = kKeyTile;
    for (int64_t i = row + g * kAttentionRows; i < row + (g + 1) * kAttentionRows; ++i) {
      most[g] = a.valid[i] > most[g] ? a.valid[i] : most[g];
      least[g] = a.valid[i] < least[g] ? a.valid[i] : least[g];
    }
    all = most[g] > all ? most[g] : all;
  }
  const int64_t keys = (all + kTileRows - 1) / kTileRows * kTileRows;
  if (keys == 0) return 0;
  alignas(64) float s[Groups * kKeyTile * kAttentionRows];
  scores<Groups>(a, group, keys, group == 0 && a.next_k_lines > 0, s);
  for (int64_t g = 0; g < Groups; ++g) {
    uint32_t* weights = p + g * kTileWords * kAttentionRows;
    fold_softmax<1>(a, row + g * kAttentionRows, keys, least[g] < keys, s + g * kKeyTile * kAttentionRows, weights,
                    shrink + g);
    if (keys % 32 != 0)
      memset(weights + keys / 2 * kAttentionRows, 0, kTileRows / 2 * kAttentionRows * sizeof(uint32_t));
  }
  return (keys + 31) / 32;
}

inline bool is_one(Vec a) {
  return _mm512_cmpneq_epi32_mask(_mm512_castps_si512(a), _mm512_set1_epi32(0x3f800000)) == 0;
}

// out[16 columns][16 rows] *= shrink.
inline void shrink_tile(float* out, Vec shrink) {
  for (int64_t c = 0; c < kTileRows; ++c)
    v_store(out + c * kAttentionRows, v_mul(v_load(out + c * kAttentionRows), shrink));
}

// out of Groups groups = out * shrink + weights x values; two panels at a time in tiles 4 + 2 * group + panel.
template <int Groups>
void fold_values(const AttentionTileArgs& a, int64_t group, const uint32_t* p, int64_t blocks, const Vec* shrink) {
  const int64_t group_floats = a.panels * kTileFloats, panel_words = kTileWords * kTileRows;
  float* out = a.out + group * group_floats;
  for (int64_t panel = 0; panel < a.panels; panel += 2) {
    const bool two = panel + 1 < a.panels;
    float *first = out + panel * kTileFloats, *second = first + group_floats;
    for (int64_t g = 0; g < Groups; ++g) {
      if (is_one(shrink[g])) continue;
      shrink_tile(first + g * group_floats, shrink[g]);
      if (two) shrink_tile(first + g * group_floats + kTileFloats, shrink[g]);
    }
    tile_load<4>(first, 64);
    if (two) tile_load<5>(first + kTileFloats, 64);
    if (Groups > 1) {
      tile_load<6>(second, 64);
      if (two) tile_load<7>(second + kTileFloats, 64);
    }
    const uint32_t* v = a.v + panel * panel_words;
    for (int64_t b = 0; b < blocks; ++b, v += kTileFloats) {
      tile_load<0>(v, 64);
      tile_load<2>(p + b * kTileFloats, 64);
      if (two) tile_load<1>(v + panel_words, 64);
      if (Groups > 1) tile_load<3>(p + panel_words + b * kTileFloats, 64);
      tile_dot_bf16<4, 0, 2>();
      if (two) tile_dot_bf16<5, 1, 2>();
      if (Groups > 1) {
        tile_dot_bf16<6, 0, 3>();
        if (two) tile_dot_bf16<7, 1, 3>();
      }
    }
    tile_store<4>(first, 64);
    if (two) tile_store<5>(first + kTileFloats, 64);
    if (Groups > 1) {
      tile_store<6>(second, 64);
      if (two) tile_store<7>(second + kTileFloats, 64);
    }
  }
}

template <int Groups>
void fold_groups(const AttentionTileArgs& a, int64_t group) {
  alignas(64) uint32_t p[Groups * kTileWords * kAttentionRows];
  Vec shrink[Groups];
  const int64_t blocks = weigh<Groups>(a, group, p, shrink);
  if (blocks > 0) fold_values<Groups>(a, group, p, blocks, shrink);
}

TileConfig full_tiles() {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, kTileRows, kTileRowBytes);
  return config;
}

// Sixteen words of keys beside one another for 32 columns from c on: [2][16 words][16 columns]. Rows from `keys` on are
// 0.
inline void value_words(const unsigned char* const* rows, int64_t keys, int64_t c, __mmask32 seen, __m512i* left,
                        __m512i* right) {
  const __m512i low = _mm512_load_si512(kPairs[0]), high = _mm512_load_si512(kPairs[1]);
  for (int64_t w = 0; w < kBlockWords; ++w) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    if (2 * w < keys && rows[2 * w] != nullptr) even = _mm512_maskz_loadu_epi16(seen, rows[2 * w] + 2 * c);
    if (2 * w + 1 < keys && rows[2 * w + 1] != nullptr) odd = _mm512_maskz_loadu_epi16(seen, rows[2 * w + 1] + 2 * c);
    left[w] = _mm512_permutex2var_epi16(even, low, odd);
    right[w] = _mm512_permutex2var_epi16(even, high, odd);
  }
}

}  // namespace

void attention_tile(const AttentionTileArgs& args) {
  tiles_configure(full_tiles());
  int64_t group = 0;
  for (; group + 2 <= args.groups; group += 2) fold_groups<2>(args, group);
  if (group < args.groups) fold_groups<1>(args, group);
  tiles_release();
}

// A panel is [4 blocks of 32 keys][16 columns][16 words]: each column's keys side by side.
void attention_values(const AttentionValuesArgs& args) {
  for (int64_t c = 0; c < args.n; c += 32) {
    const int64_t left = args.n - c;
    const __mmask32 seen = left < 32 ? (__mmask32{1} << left) - 1 : ~__mmask32{0};
    for (int64_t b = 0; b < kBlocks; ++b) {
      __m512i words[2][kBlockWords];
      value_words(args.rows + 32 * b, 32, c, seen, words[0], words[1]);
      for (int64_t i = 0; i < (left > 16 ? 2 : 1); ++i) {
        transpose(words[i]);
        uint32_t* out = args.out + (c / 16 + i) * kTileWords * 16 + b * kTileFloats;
        for (int64_t column = 0; column < 16; ++column)
          _mm512_storeu_si512(out + column * kBlockWords, words[i][column]);
      }
    }
  }
}

void attention_few_rows_tile(const AttentionTileArgs& args) {
  alignas(64) uint32_t p[kTileWords * kAttentionRows];
  Vec shrink;
  tiles_configure(full_tiles());
  const int64_t blocks = weigh<1>(args, 0, p, &shrink);
  if (blocks > 0) {
    // Weights of a row side by side, values as they lie: [rows][16 columns] in tiles 6 and 7.
    TileConfig config;
    for (int tile = 0; tile < 8; ++tile)
      config.set(tile, tile == 4 || tile == 5 ? kTileRows : args.rows, kTileRowBytes);
    tiles_configure(config);
    for (int64_t b = 0; b < blocks; ++b) {
      __m512i rows[kTileRows];
      for (int64_t w = 0; w < kBlockWords; ++w) rows[w] = _mm512_load_si512(p + b * kTileFloats + w * 16);
      transpose(rows);
      for (int64_t r = 0; r < kTileRows; ++r) _mm512_store_si512(p + b * kTileFloats + r * 16, rows[r]);
    }
    tile_load<0>(p, 64);
    if (blocks > 1) tile_load<1>(p + kTileFloats, 64);
    if (blocks > 2) tile_load<2>(p + 2 * kTileFloats, 64);
    if (blocks > 3) tile_load<3>(p + 3 * kTileFloats, 64);
    float factors[kAttentionRows];
    v_store(factors, shrink);
    const bool whole = is_one(shrink);
    int32_t most = 0;
    for (int64_t i = 0; i < kAttentionRows; ++i) most = args.valid[i] > most ? args.valid[i] : most;
    const int64_t readable = (most + kTileRows - 1) / kTileRows * kTileRows;
    for (int64_t c = 0; c < args.columns; c += 32) {
      for (int64_t r = 0; !whole && r < args.rows; ++r) {
        float* out = args.out + r * args.columns + c;
        for (int64_t i = 0; i < 32; i += kLanes) v_store(out + i, v_mul(v_load(out + i), v_set1(factors[r])));
      }
      tile_load<6>(args.out + c, args.columns * 4);
      tile_load<7>(args.out + c + 16, args.columns * 4);
      for (int64_t b = 0; b < blocks; ++b) {
        alignas(64) __m512i words[2][kBlockWords];
        value_words(args.v_rows + 32 * b, readable - 32 * b, c, ~__mmask32{0}, words[0], words[1]);
        tile_load<4>(words[0], 64);
        tile_load<5>(words[1], 64);
        switch (b) {
          case 0:
            tile_dot_bf16<6, 0, 4>();
            tile_dot_bf16<7, 0, 5>();
            break;
          case 1:
            tile_dot_bf16<6, 1, 4>();
            tile_dot_bf16<7, 1, 5>();
            break;
          case 2:
            tile_dot_bf16<6, 2, 4>();
            tile_dot_bf16<7, 2, 5>();
            break;
          default:
            tile_dot_bf16<6, 3, 4>();
            tile_dot_bf16<7, 3, 5>();
        }
      }
      tile_store<6>(args.out + c, args.columns * 4);
      tile_store<7>(args.out + c + 16, args.columns * 4);
    }
  }
  tiles_release();
}

}  // namespace redoubt::REDOUBT_AMX
