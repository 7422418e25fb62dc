// The tile registers of AMX: eight of sixteen rows of 64 bytes, named by number. A name is part of an instruction,
// hence the templates. With REDOUBT_EMULATED_TILES the same in plain code, so that the kernels are tested on any
// AVX-512 CPU. Source: Intel Architecture Instruction Set Extensions Programming Reference, chapter 3 (Intel AMX).
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// The namespace of the kernels over these tiles.
#if defined(REDOUBT_EMULATED_TILES)
#define REDOUBT_AMX amx_emulated
#else
#define REDOUBT_AMX amx
#endif

namespace {

constexpr int64_t kTileRows = 16, kTileRowBytes = 64;

// What LDTILECFG reads: rows and bytes a row of each tile.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void set(int tile, int64_t tile_rows, int64_t bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

#if defined(REDOUBT_EMULATED_TILES)

struct TileState {
  TileConfig config;
  unsigned char bytes[8][kTileRows][kTileRowBytes];
};
inline TileState& tiles() {
  static thread_local TileState state;
  return state;
}
inline void tiles_configure(const TileConfig& config) {
  tiles().config = config;
  memset(tiles().bytes, 0, sizeof(tiles().bytes));
}
inline void tiles_release() { tiles().config = TileConfig{}; }

template <int tile>
inline void tile_zero() {
  memset(tiles().bytes[tile], 0, sizeof(tiles().bytes[tile]));
}
template <int tile>
inline void tile_load(const void* from, int64_t stride) {
  tile_zero<tile>();
  const TileConfig& config = tiles().config;
  for (int r = 0; r < config.rows[tile]; ++r) {
    memcpy(tiles().bytes[tile][r], static_cast<const unsigned char*>(from) + r * stride, config.row_bytes[tile]);
  }
}
template <int tile>
inline void tile_store(void* to, int64_t stride) {
  const TileConfig& config = tiles().config;
  for (int r = 0; r < config.rows[tile]; ++r) {
    memcpy(static_cast<unsigned char*>(to) + r * stride, tiles().bytes[tile][r], config.row_bytes[tile]);
  }
}
template <int sums, int a, int b>
inline void tile_dot_int8() {
  TileState& t = tiles();
  for (int m = 0; m < t.config.rows[sums]; ++m) {
    for (int n = 0; n < t.config.row_bytes[sums] / 4; ++n) {
      int32_t sum;
      memcpy(&sum, t.bytes[sums][m] + 4 * n, 4);
      for (int k = 0; k < t.config.row_bytes[a]; ++k) {
        sum += static_cast<int8_t>(t.bytes[a][m][k]) * static_cast<int8_t>(t.bytes[b][k / 4][4 * n + k % 4]);
      }
      memcpy(t.bytes[sums][m] + 4 * n, &sum, 4);
    }
  }
}
template <int sums, int a, int b>
inline void tile_dot_bf16() {
  TileState& t = tiles();
  const auto value = [](const unsigned char* at) {
    const uint32_t bits = static_cast<uint32_t>(at[0] | at[1] << 8) << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
  };
  for (int m = 0; m < t.config.rows[sums]; ++m) {
    for (int n = 0; n < t.config.row_bytes[sums] / 4; ++n) {
      float sum;
      memcpy(&sum, t.bytes[sums][m] + 4 * n, 4);
      for (int k = 0; k < t.config.row_bytes[a] / 4; ++k) {
        sum += value(t.bytes[a][m] + 4 * k) * value(t.bytes[b][k] + 4 * n);
        sum += value(t.bytes[a][m] + 4 * k + 2) * value(t.bytes[b][k] + 4 * n + 2);
      }
      memcpy(t.bytes[sums][m] + 4 * n, &sum, 4);
    }
  }
}

#else

inline void tiles_configure(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
inline void tiles_release() { asm volatile("tilerelease"); }

template <int tile>
inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int tile>
inline void tile_load(const void* from, int64_t stride) {  // bytes between rows
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
}
// sums[m][n] += a[m][4k .. 4k + 3] . b[k][n][4] of signed bytes, exact in 32 bits.
template <int sums, int a, int b>
inline void tile_dot_int8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
}
// sums[m][n] += a[m][2k, 2k + 1] . b[k][n][2] of bfloat16 in float32; subnormals count as zero.
template <int sums, int a, int b>
inline void tile_dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sums), "i"(a), "i"(b));
}

#endif

}  // namespace
