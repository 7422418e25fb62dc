#include "ops/attention_keys.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace redoubt {

bool attends_in_bf16(const KernelTable& table, CacheFormat format) {
  return table.attention_bf16.tile != nullptr && format != CacheFormat::f32;
}

const AttentionKernels& attention_kernels(const KernelTable& table, CacheFormat format, const CacheColumns& columns) {
  const auto whole_groups = [](auto... values) { return ((values % kCacheGroup == 0) && ...); };
  if (format == CacheFormat::q8 && table.attention_codes.tile != nullptr &&
      whole_groups(columns.head, columns.value, columns.k_offset, columns.k_step, columns.v_offset, columns.v_step)) {
    return table.attention_codes;
  }
  return attends_in_bf16(table, format) ? table.attention_bf16 : table.attention_f32;
}

TileMemory::TileMemory(OpContext& ctx, const AttentionKernels& kernels, int64_t head, int64_t value)
    : table_(&ctx.kernels),
      kernels_(&kernels),
      head_(head),
      value_(value),
      key_bytes_((head + kernels.word_elements - 1) / kernels.word_elements * 4),
      value_bytes_((value + 31) / 32 * 32 * 4 / kernels.word_elements),
      key_rows_(ctx.arena.floats(kKeyTile * head)),
      value_rows_(ctx.arena.floats(kKeyTile * value)),
      keys_(reinterpret_cast<unsigned char*>(ctx.arena.floats(kKeyTile * key_bytes_ / 4))),
      values_(reinterpret_cast<unsigned char*>(ctx.arena.floats(kKeyTile * value_bytes_ / 4))),
      row_pointers_(reinterpret_cast<const unsigned char**>(ctx.arena.floats(2 * kKeyTile))) {}

int64_t TileMemory::floats(int64_t head, int64_t value) {
  return kKeyTile * (2 * head + 2 * value + 32 + 2) + 5 * 16 + static_cast<int64_t>(sizeof(TileMemory));
}

void TileMemory::encode_rows(int64_t n) const {
  for (int64_t i = 0; i < n; ++i) {
    row_pointers_[i] = value(i);
    if (kernels_->word_elements == 1) {
      std::memcpy(key(i), key_rows_ + i * head_, static_cast<size_t>(4 * head_));
      std::memcpy(value(i), value_rows_ + i * value_, static_cast<size_t>(4 * value_));
      continue;
    }
    auto* halves = reinterpret_cast<uint16_t*>(key(i));
    if (head_ % 2 != 0) halves[head_] = 0;
    table_->bf16_encode(key_rows_ + i * head_, halves, head_);
    table_->bf16_encode(value_rows_ + i * value_, reinterpret_cast<uint16_t*>(value(i)), value_);
  }
}

KeyTile TileMemory::tile_of_elements(int64_t n) const {
  KeyTile tile{};
  tile.k_stride = key_bytes_;
  tile.v_rows = row_pointers_;
  const int64_t padded = (n + kAttentionRows - 1) / kAttentionRows * kAttentionRows;
  std::memset(key(n), 0, static_cast<size_t>((padded - n) * key_bytes_));
  for (int64_t i = 0; i < padded; i += kAttentionRows) tile.k[i / kAttentionRows] = key(i);
  std::fill(row_pointers_ + n, row_pointers_ + kKeyTile, nullptr);
  return tile;
}

CacheKeys::CacheKeys(OpContext& ctx, const CacheLayer& cache, const CacheColumns& columns)
    : table_(ctx.kernels),
      cache_(cache),
      columns_(columns),
      kernels_(attention_kernels(ctx.kernels, cache.format, columns)),
      direct_(kernels_.word_elements == 2 && cache.format == CacheFormat::bf16 && columns.head % 2 == 0),
      inside_(columns.k_step == columns.v_step && columns.v_offset >= columns.k_offset &&
              columns.v_offset + columns.value <= columns.k_offset + columns.head) {
  const auto threads = static_cast<size_t>(ctx.pool.num_threads());
  auto* memory =
      reinterpret_cast<TileMemory*>(ctx.arena.floats(static_cast<int64_t>(threads * sizeof(TileMemory)) / 4));
  for (size_t i = 0; i < threads; ++i) new (memory + i) TileMemory(ctx, kernels_, columns.head, columns.value);
  memory_ = {memory, threads};
}

KeyTile CacheKeys::load(const ChunkView& chunk, int64_t part, int64_t begin, int64_t n, int64_t end, int thread) const {
  const TileMemory& memory = memory_[static_cast<size_t>(thread)];
  const int64_t k_at = columns_.k_offset + part * columns_.k_step, v_at = columns_.v_offset + part * columns_.v_step;
  if (kernels_.encode_query != nullptr) return codes_in_place(memory, chunk, k_at, v_at, begin, n, end);
  return direct_ ? in_place(memory, chunk, k_at, v_at, begin, n, end)
                 : decoded(memory, chunk, k_at, v_at, begin, n, end);
}

const std::byte* CacheKeys::row_of(const ChunkView& chunk, int64_t position) const {
  return cache_.row(chunk.blocks[static_cast<size_t>(position / kCacheRows)], position % kCacheRows);
}

KeyTile CacheKeys::decoded(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at, int64_t begin,
                           int64_t n, int64_t end) const {
  const int64_t element = 4 / kernels_.word_elements;
  if (cache_.format != CacheFormat::q8) {
    cache_load(cache_, table_, chunk.blocks, begin, n, k_at, columns_.head, memory.key_rows(), columns_.head);
    cache_load(cache_, table_, chunk.blocks, begin, n, v_at, columns_.value, memory.value_rows(), columns_.value);
    memory.encode_rows(n);
    return memory.tile_of_elements(n);
  }
  for (int64_t i = 0; i < n; ++i) {
    const std::byte* row = row_of(chunk, begin + i);
    if (begin + i + kKeyTile < end) {  // fetch the row of the next tile meanwhile
      const std::byte* next = row_of(chunk, begin + i + kKeyTile);
      const std::byte* codes = next + (cache_.row_bytes - cache_.width) / 4 * 4;
      for (int64_t line = 0; line < columns_.head; line += 64) __builtin_prefetch(codes + k_at + line, 0, 2);
      for (int64_t line = 0; line < columns_.value && !inside_; line += 64)
        __builtin_prefetch(codes + v_at + line, 0, 2);
      __builtin_prefetch(next, 0, 2);  // scales
    }
    if (columns_.head % kernels_.word_elements != 0) std::memset(memory.key(i) + columns_.head * element, 0, 2);
    kernels_.decode_q8(q8_args(cache_, row, k_at, columns_.head, memory.key(i)));
    if (inside_) {
      memory.row_pointers()[i] = memory.key(i) + (v_at - k_at) * element;
    } else {
      kernels_.decode_q8(q8_args(cache_, row, v_at, columns_.value, memory.value(i)));
      memory.row_pointers()[i] = memory.value(i);
    }
  }
  return memory.tile_of_elements(n);
}

KeyTile CacheKeys::codes_in_place(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at,
                                  int64_t begin, int64_t n, int64_t end) const {
  // Of a row's bytes from `first` on; rows may begin anywhere in a line.
  const auto lines = [&](const unsigned char* first, int64_t bytes) {
    const bool aligned = cache_.row_bytes % 64 == 0 && reinterpret_cast<uintptr_t>(first) % 64 == 0;
    return aligned ? (bytes + 63) / 64 : (bytes + 62) / 64 + 1;
  };
  KeyTile tile{};
  tile.k_stride = cache_.row_bytes;
  tile.v_rows = memory.row_pointers();
  for (int64_t i = 0; i < n; i += kCacheRows) {
    const AttentionDecodeArgs row = q8_args(cache_, row_of(chunk, begin + i), 0, 0, nullptr);
    tile.k[i / kCacheRows] = row.codes + k_at;
    tile.k_scales = row.scales + k_at / kCacheGroup * 4 - (row.codes + k_at);
    tile.v_scales = row.scales + v_at / kCacheGroup * 4 - (row.codes + v_at);
    for (int64_t j = 0; j < std::min(kCacheRows, n - i); ++j)
      tile.v_rows[i + j] = row.codes + v_at + j * cache_.row_bytes;
    if (begin + i + kKeyTile + kCacheRows > end) continue;
    const AttentionDecodeArgs next = q8_args(cache_, row_of(chunk, begin + i + kKeyTile), 0, 0, nullptr);
    tile.next_k[i / kCacheRows] = inside_ ? next.scales : next.codes + k_at;
    tile.next_v[i / kCacheRows] = next.codes + v_at;
    for (int64_t j = 0; j < kCacheRows && !inside_; ++j) __builtin_prefetch(next.scales + j * cache_.row_bytes, 0, 2);
  }
  if (begin + 2 * kKeyTile <= end) {
    tile.next_k_lines = lines(tile.next_k[0], inside_ ? cache_.row_bytes : columns_.head);
    tile.next_v_lines = inside_ ? 0 : lines(tile.next_v[0], columns_.value);
  }
  std::fill(tile.v_rows + n, tile.v_rows + kKeyTile, nullptr);
  return tile;
}

KeyTile CacheKeys::in_place(const TileMemory& memory, const ChunkView& chunk, int64_t k_at, int64_t v_at, int64_t begin,
                            int64_t n, int64_t end) const {
  KeyTile tile{};
  tile.k_stride = cache_.row_bytes;
  tile.v_rows = memory.row_pointers();
  const unsigned char** values = memory.row_pointers();
  for (int64_t i = 0; i < kKeyTile; ++i) {
    if (i >= n) {
      values[i] = nullptr;
      continue;
    }
    const auto* row = reinterpret_cast<const unsigned char*>(row_of(chunk, begin + i));
    if (i % kAttentionRows == 0) tile.k[i / kAttentionRows] = row + 2 * k_at;
    values[i] = row + 2 * v_at;
  }
  if (begin + n + kKeyTile <= end) {
    for (int64_t i = 0; i < kKeyTile; i += kCacheRows) {
      const auto* row = reinterpret_cast<const unsigned char*>(row_of(chunk, begin + n + i));
      tile.next_k[i / kCacheRows] = row + 2 * k_at;
      tile.next_v[i / kCacheRows] = row + 2 * v_at;
    }
    tile.next_k_lines = (columns_.head + 31) / 32;
    tile.next_v_lines = inside_ ? 0 : (columns_.value + 31) / 32;
  }
  return tile;
}

}  // namespace redoubt
