#include "ops/attention_keys.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace redoubt {

const AttentionKernels& attention_kernels(const KernelTable& table, CacheFormat format) {
  return table.attention_bf16.tile != nullptr && format != CacheFormat::f32 ? table.attention_bf16
                                                                            : table.attention_f32;
}

TileMemory::TileMemory(OpContext& ctx, const AttentionKernels& kernels, int64_t head, int64_t value)
    : table_(&ctx.kernels),
      kernels_(&kernels),
      head_(head),
      value_(value),
      words_((head + kernels.word_elements - 1) / kernels.word_elements),
      key_rows_(ctx.arena.floats(kKeyTile * head)),
      value_rows_(ctx.arena.floats(kKeyTile * value)),
      keys_(reinterpret_cast<uint32_t*>(ctx.arena.floats(kKeyTile * words_))),
      values_(reinterpret_cast<uint32_t*>(ctx.arena.floats(kKeyTile * ((value + 15) / 16 * 16)))),
      halves_(reinterpret_cast<uint16_t*>(ctx.arena.floats(kKeyTile * value))) {}

int64_t TileMemory::floats(int64_t head, int64_t value) {
  return kKeyTile * (2 * head + 3 * value + 16) + 5 * 16 + static_cast<int64_t>(sizeof(TileMemory));
}

const uint32_t* TileMemory::pack_values(const unsigned char* const* rows) const {
  kernels_->values({rows, value_, values_});
  return values_;
}

KeyTile TileMemory::tile_of_rows(int64_t n) const {
  KeyTile tile{};
  const unsigned char* values[kKeyTile];
  std::fill_n(values, kKeyTile, nullptr);
  const bool pairs = kernels_->word_elements == 2;
  unsigned char* keys = pairs ? reinterpret_cast<unsigned char*>(keys_) : reinterpret_cast<unsigned char*>(key_rows_);
  tile.k_stride = 4 * words_;
  for (int64_t i = 0; i < n; ++i) {
    if (!pairs) {
      values[i] = reinterpret_cast<const unsigned char*>(value_rows_ + i * value_);
      continue;
    }
    auto* key = reinterpret_cast<uint16_t*>(keys_ + i * words_);
    if (head_ % 2 != 0) key[head_] = 0;
    table_->bf16_encode(key_rows_ + i * head_, key, head_);
    table_->bf16_encode(value_rows_ + i * value_, halves_ + i * value_, value_);
    values[i] = reinterpret_cast<const unsigned char*>(halves_ + i * value_);
  }
  const int64_t padded = (n + kAttentionRows - 1) / kAttentionRows * kAttentionRows;
  std::memset(keys + n * tile.k_stride, 0, static_cast<size_t>((padded - n) * tile.k_stride));
  for (int64_t i = 0; i < padded; i += kAttentionRows) tile.k[i / kAttentionRows] = keys + i * tile.k_stride;
  tile.v = pack_values(values);
  return tile;
}

CacheKeys::CacheKeys(OpContext& ctx, const CacheLayer& cache, const CacheColumns& columns)
    : table_(ctx.kernels), cache_(cache), columns_(columns) {
  const AttentionKernels& kernels = attention_kernels(ctx.kernels, cache.format);
  direct_ = kernels.word_elements == 2 && cache.format == CacheFormat::bf16 && columns.head % 2 == 0;
  const auto threads = static_cast<size_t>(ctx.pool.num_threads());
  auto* memory =
      reinterpret_cast<TileMemory*>(ctx.arena.floats(static_cast<int64_t>(threads * sizeof(TileMemory)) / 4));
  for (size_t i = 0; i < threads; ++i) new (memory + i) TileMemory(ctx, kernels, columns.head, columns.value);
  memory_ = {memory, threads};
}

KeyTile CacheKeys::load(const ChunkView& chunk, int64_t part, int64_t begin, int64_t n, int64_t end, int thread) const {
  const TileMemory& memory = memory_[static_cast<size_t>(thread)];
  const int64_t k_at = columns_.k_offset + part * columns_.k_step, v_at = columns_.v_offset + part * columns_.v_step;
  if (!direct_) {
    cache_load(cache_, table_, chunk.blocks, begin, n, k_at, columns_.head, memory.key_rows(), columns_.head);
    cache_load(cache_, table_, chunk.blocks, begin, n, v_at, columns_.value, memory.value_rows(), columns_.value);
    return memory.tile_of_rows(n);
  }
  KeyTile tile{};
  const unsigned char* values[kKeyTile];
  std::fill_n(values, kKeyTile, nullptr);
  tile.k_stride = cache_.row_bytes;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t position = begin + i;
    const auto* row = reinterpret_cast<const unsigned char*>(
        cache_.row(chunk.blocks[static_cast<size_t>(position / kCacheRows)], position % kCacheRows));
    if (i % kAttentionRows == 0) tile.k[i / kAttentionRows] = row + 2 * k_at;
    values[i] = row + 2 * v_at;
  }
  tile.v = memory.pack_values(values);
  if (begin + n + kKeyTile <= end) {
    for (int64_t i = 0; i < kKeyTile; i += kCacheRows) {
      const auto* row = reinterpret_cast<const unsigned char*>(
          cache_.row(chunk.blocks[static_cast<size_t>((begin + n + i) / kCacheRows)], 0));
      tile.next_k[i / kCacheRows] = row + 2 * k_at;
      tile.next_v[i / kCacheRows] = row + 2 * v_at;
    }
    const bool inside = v_at >= k_at && v_at + columns_.value <= k_at + columns_.head;
    tile.next_k_lines = (columns_.head + 31) / 32;
    tile.next_v_lines = inside ? 0 : (columns_.value + 31) / 32;
  }
  return tile;
}

}  // namespace redoubt
