// One layer's paged cache: rows of `width` values in blocks of kCacheRows tokens, stored as float32, bfloat16 or 8-bit.
// 8-bit: groups of 32 values share a float scale = max|x| / 127, values rounded to nearest. Keys are always read back
// from here, also inside their own chunk, so that chunk sizes cannot change a bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kernel_table.h"

namespace redoubt {

constexpr int64_t kCacheRows = 16;  // tokens in a block

enum class CacheFormat : uint8_t { f32, bf16, q8 };
int64_t cache_row_bytes(CacheFormat format, int64_t width);

struct CacheLayer {
  std::byte* data = nullptr;  // [num_blocks, kCacheRows, row_bytes]
  CacheFormat format = CacheFormat::bf16;
  int64_t width = 0, row_bytes = 0;

  std::byte* row(int32_t block, int64_t slot) const { return data + (block * kCacheRows + slot) * row_bytes; }
};

// block table: the row of position p is row(blocks[p / kCacheRows], p % kCacheRows).
void cache_store(const KernelTable& kernels, const CacheLayer& layer, std::span<const int32_t> blocks, int64_t position,
                 const float* values);
// The arguments that decode values [offset, offset + n) of an 8-bit row.
AttentionDecodeArgs q8_args(const CacheLayer& layer, const std::byte* row, int64_t offset, int64_t n, void* out);
// Values [offset, offset + n) of positions first .. first + count - 1, into rows of `stride` floats. 8-bit: offset and
// n may be any; groups are decoded as stored.
void cache_load(const CacheLayer& layer, const KernelTable& kernels, std::span<const int32_t> blocks, int64_t first,
                int64_t count, int64_t offset, int64_t n, float* out, int64_t stride);

}  // namespace redoubt
