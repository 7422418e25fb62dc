// packed_linear_bf16 of the amx set: bf16 and e4m3 weights against bf16 activations by tile products of 16 tokens x 16
// rows x 32 columns. For any number of tokens, so that an output's bits do not depend on it: the tile product adds
// pairs of columns in an order of its own.
//
// bf16: one sum over all columns. e4m3: one for each 128 columns, multiplied with the block's scale and added. Bound:
// memory for few tokens, tile products (16 cycles each) for many.
#include "kernels/avx512/packed_bf16.h"

#include "kernels/amx/tiles.h"
#include "kernels/packed_entry.h"

namespace redoubt::REDOUBT_AMX {
namespace {

constexpr int64_t kStretch = 512;     // columns of bf16 that all tokens meet before the next: 32 KB of weights
constexpr int64_t kTileColumns = 32;  // of one tile product
constexpr int64_t kTileBytes = 1024;  // of a full tile
constexpr int64_t kBlockTokens = 2 * kTileRows;  // two tiles of tokens by two groups of rows: four sums

// Sixteen rows of activations that a tile is loaded from: row t begins at `x` + t * stride bytes.
struct TokenRows {
  const uint16_t* x;
  int64_t stride;
};

// Rows [token, token + 16) of x from `column` on, those beyond the last token as any that is there. Where they do not
// lie one behind the other, `columns` of them are copied.
TokenRows token_rows(const PackedLinearArgs& args, int64_t token, int64_t column, int64_t columns, uint16_t* copy) {
  const int64_t left = args.tokens - token, count = left < kTileRows ? left : kTileRows;
  const auto row = [&](int64_t t) {
    return args.x_bf16 + (args.x_rows != nullptr ? args.x_rows[token + t] : token + t) * args.x.stride + column;
  };
  if (count == 1) return {row(0), 0};
  if (args.x_rows == nullptr && count == kTileRows) return {row(0), args.x.stride * 2};
  for (int64_t t = 0; t < count; ++t) memcpy(copy + t * columns, row(t), static_cast<size_t>(columns) * 2);
  for (int64_t t = count; t < kTileRows; ++t) memcpy(copy + t * columns, row(0), static_cast<size_t>(columns) * 2);
  return {copy, columns * 2};
}

// Sums of Tiles x 16 tokens and Groups x 16 rows are in tiles 4 + 2 * group + token tile.
template <int Groups, int Tiles>
inline void zero_sums() {
  tile_zero<4>();
  if (Tiles > 1) tile_zero<5>();
  if (Groups > 1) tile_zero<6>();
  if (Groups > 1 && Tiles > 1) tile_zero<7>();
}
// [token][group][16 rows].
template <int Groups, int Tiles>
inline void load_sums(const float* from) {
  tile_load<4>(from, 128);
  if (Tiles > 1) tile_load<5>(from + kTileRows * 32, 128);
  if (Groups > 1) tile_load<6>(from + 16, 128);
  if (Groups > 1 && Tiles > 1) tile_load<7>(from + kTileRows * 32 + 16, 128);
}
template <int Groups, int Tiles>
inline void store_sums(float* to) {
  tile_store<4>(to, 128);
  if (Tiles > 1) tile_store<5>(to + kTileRows * 32, 128);
  if (Groups > 1) tile_store<6>(to + 16, 128);
  if (Groups > 1 && Tiles > 1) tile_store<7>(to + kTileRows * 32 + 16, 128);
}

// sums += W[Groups x 16 rows, columns] . x[Tiles x 16 tokens]; a group's pairs lie `group_bytes` behind the first's.
template <int Groups, int Tiles, bool Ahead>
inline void add_products(const unsigned char* w, int64_t group_bytes, int64_t columns, const TokenRows* x) {
  for (int64_t k = 0; k < columns; k += kTileColumns, w += kTileBytes) {
    if (Ahead) {
      for (int64_t g = 0; g < Groups; ++g) {
        for (int64_t at = 0; at < kTileBytes; at += 64)
          __builtin_prefetch(w + g * group_bytes + kPrefetch / Groups + at);
      }
    }
    tile_load<2>(w, 64);
    tile_load<0>(x[0].x + k, x[0].stride);
    if (Tiles > 1) tile_load<1>(x[1].x + k, x[1].stride);
    if (Groups > 1) tile_load<3>(w + group_bytes, 64);
    tile_dot_bf16<4, 0, 2>();
    if (Tiles > 1) tile_dot_bf16<5, 1, 2>();
    if (Groups > 1) tile_dot_bf16<6, 0, 3>();
    if (Groups > 1 && Tiles > 1) tile_dot_bf16<7, 1, 3>();
  }
}

struct Memory {
  uint16_t* copies[2];   // of rows of x that do not lie one behind the other
  unsigned char* codes;  // e4m3 as bf16 pairs: [group][64 pairs][16 rows][2]
  float* block;          // sums of one token block: [32 tokens][32]
  float* sums;           // [tokens][32]
};
Memory memory_of(float* scratch) {
  float* at = from_a_line(scratch);
  Memory m{};
  for (uint16_t*& copy : m.copies) {
    copy = reinterpret_cast<uint16_t*>(at);
    at += kTileRows * kStretch / 2;
  }
  m.codes = reinterpret_cast<unsigned char*>(at);
  at += 2 * kScaleBlock * 16 / 2;
  m.block = at;
  at += kBlockTokens * 32;
  m.sums = at;
  return m;
}
static_assert(kTileRows * kStretch + kScaleBlock * 16 + kBlockTokens * 32 + kPackedTokens * 32 + 16 <= kPackedScratch);

// What follows once for one tile of tokens and once for two.
template <int Groups, int Tiles, bool Scaled>
void block_step(const PackedLinearArgs& args, const Memory& m, const unsigned char* w, int64_t group_bytes, int64_t row,
                int64_t column, int64_t columns, int64_t token) {
  TokenRows x[2] = {token_rows(args, token, column, columns, m.copies[0])};
  if (Tiles > 1) x[1] = token_rows(args, token + kTileRows, column, columns, m.copies[1]);
  float* sums = m.sums + token * 32;
  if (!Scaled && column > 0) {
    load_sums<Groups, Tiles>(sums);
  } else {
    zero_sums<Groups, Tiles>();
  }
  add_products<Groups, Tiles, !Scaled>(w, group_bytes, columns, x);
  if (!Scaled) return store_sums<Groups, Tiles>(sums);
  store_sums<Groups, Tiles>(m.block);
  for (int64_t g = 0; g < Groups; ++g) {
    const Vec scale = v_set1(scale_at(args.w, row + 16 * g, column));
    for (int64_t t = 0; t < Tiles * kTileRows; ++t) {
      float* to = sums + t * 32 + g * 16;
      const Vec before = column > 0 ? v_load(to) : v_zero();
      v_store(to, v_fma(v_load(m.block + t * 32 + g * 16), scale, before));
    }
  }
}

template <int Groups, bool Scaled>
void tile_rows(const PackedLinearArgs& args, int64_t row) {
  const Memory m = memory_of(args.scratch);
  const int64_t stretch = Scaled ? kScaleBlock : kStretch;
  for (int64_t column = 0; column < args.w.cols; column += stretch) {
    const int64_t columns = args.w.cols - column < stretch ? args.w.cols - column : stretch;
    const unsigned char* w = args.w.data + row / 16 * args.w.group_bytes + column * 32;
    int64_t group_bytes = args.w.group_bytes;
    if (Scaled) {
      spell_out<Groups>(args, row, column, columns, m.codes);
      w = m.codes;
      group_bytes = kPairs * 64;
    }
    for (int64_t t = 0; t < args.tokens; t += kBlockTokens) {
      if (args.tokens - t > kTileRows) {
        block_step<Groups, 2, Scaled>(args, m, w, group_bytes, row, column, columns, t);
      } else {
        block_step<Groups, 1, Scaled>(args, m, w, group_bytes, row, column, columns, t);
      }
    }
  }
  for (int64_t t = 0; t < args.tokens; ++t) {
    for (int64_t g = 0; g < Groups; ++g) {
      store_rows(args, row + 16 * g, t, v_load(m.sums + t * 32 + g * 16));
    }
  }
}

template <bool Scaled>
void tile_linear(const PackedLinearArgs& args) {
  TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.set(tile, kTileRows, kTileRowBytes);
  tiles_configure(config);
  int64_t row = args.row_begin;
  for (; row + 16 < args.row_end; row += 32) tile_rows<2, Scaled>(args, row);
  if (row < args.row_end) tile_rows<1, Scaled>(args, row);
  tiles_release();
}

}  // namespace

void packed_linear_bf16(const PackedLinearArgs& args) {
  if (args.w.type == PackedType::f8_e4m3) return tile_linear<true>(args);
  tile_linear<false>(args);
}

}  // namespace redoubt::REDOUBT_AMX
