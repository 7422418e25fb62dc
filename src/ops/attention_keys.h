// Where the keys and values of attention come from, tile by tile, in the layout of the kernels (kernel_args.h).
#pragma once

#include "ops/attention.h"

namespace redoubt {

// Of at most kKeyTile consecutive positions; in the thread's memory or in the cache itself. Valid until its thread
// loads the next one.
struct KeyTile {
  const unsigned char* k[kKeyTile / kAttentionRows];
  int64_t k_stride;                    // bytes
  const unsigned char** v_rows;        // [kKeyTile] elements (or codes) of each key's values; null behind the last
  int64_t k_scales = 0, v_scales = 0;  // where they are codes: as in AttentionTileArgs
  // The rows of the tile that follows, to be fetched meanwhile (AttentionTileArgs).
  const unsigned char *next_k[kKeyTile / kAttentionRows], *next_v[kKeyTile / kAttentionRows];
  int64_t next_k_lines = 0, next_v_lines = 0;
};

class KeySource {
 public:
  virtual ~KeySource() = default;
  // Positions begin .. begin + n - 1 of the chunk's sequence, for one part (a head, or a group of heads) of the work;
  // those up to `end` will be asked for next.
  virtual KeyTile load(const ChunkView& chunk, int64_t part, int64_t begin, int64_t n, int64_t end,
                       int thread) const = 0;
};

// Keys at k_offset + part * k_step of a cache row, values at v_offset + part * v_step.
struct CacheColumns {
  int64_t head, value;
  int64_t k_offset = 0, k_step = 0, v_offset = 0, v_step = 0;
};

// The kernels for these columns of a cache.
const AttentionKernels& attention_kernels(const KernelTable& table, CacheFormat format, const CacheColumns& columns);

// One thread's memory for tiles: rows of floats, and keys and values as elements (kernel_args.h) made of them.
class TileMemory {
 public:
  TileMemory(OpContext& ctx, const AttentionKernels& kernels, int64_t head, int64_t value);
  static int64_t floats(int64_t head, int64_t value);  // at most, for one thread

  float* key_rows() const { return key_rows_; }                         // [kKeyTile, head]
  float* value_rows() const { return value_rows_; }                     // [kKeyTile, value]
  const unsigned char** row_pointers() const { return row_pointers_; }  // [kKeyTile] for KeyTile::v_rows
  // Elements of key and value i.
  unsigned char* key(int64_t i) const { return keys_ + i * key_bytes_; }
  unsigned char* value(int64_t i) const { return values_ + i * value_bytes_; }
  void encode_rows(int64_t n) const;          // key_rows and value_rows into elements
  KeyTile tile_of_elements(int64_t n) const;  // n keys and the row_pointers of as many values; rows behind are cleared

 private:
  KernelTable const* table_;
  AttentionKernels const* kernels_;
  int64_t head_, value_, key_bytes_, value_bytes_;
  float *key_rows_, *value_rows_;
  unsigned char *keys_, *values_;
  const unsigned char** row_pointers_;
};

class CacheKeys final : public KeySource {
 public:
  CacheKeys(OpContext& ctx, const CacheLayer& cache, const CacheColumns& columns);
  KeyTile load(const ChunkView& chunk, int64_t part, int64_t begin, int64_t n, int64_t end, int thread) const override;

 private:
  const std::byte* row_of(const ChunkView& chunk, int64_t position) const;
  KeyTile in_place(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at, int64_t begin,
                   int64_t n, int64_t end) const;
  KeyTile decoded(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at, int64_t begin,
                  int64_t n, int64_t end) const;
  KeyTile codes_in_place(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at, int64_t begin,
                         int64_t n, int64_t end) const;
  const KernelTable& table_;
  const CacheLayer& cache_;
  CacheColumns columns_;
  const AttentionKernels& kernels_;
  bool direct_;                         // the cache's rows are what the kernels read
  bool inside_;                         // values are a part of the keys
  std::span<const TileMemory> memory_;  // [threads]
};

}  // namespace redoubt
