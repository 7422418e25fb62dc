#include "ops/cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace redoubt {
namespace {

constexpr int64_t kGroup = kCacheGroup;

int64_t groups(int64_t width) { return (width + kGroup - 1) / kGroup; }

void store_q8(std::byte* row, const float* values, int64_t width) {
  std::byte* codes = row + groups(width) * 4;
  for (int64_t g = 0; g < groups(width); ++g) {
    const int64_t begin = g * kGroup, end = std::min(width, begin + kGroup);
    float largest = 0;
    for (int64_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = largest / 127.0f, inverse = largest > 0 ? 127.0f / largest : 0.0f;
    std::memcpy(row + 4 * g, &scale, 4);
    for (int64_t i = begin; i < end; ++i) {
      constexpr float kInteger = 12582912.0f;  // 1.5 * 2^23: adding it rounds to the nearest integer, ties to even
      const float code = (values[i] * inverse + kInteger) - kInteger;
      codes[i] = static_cast<std::byte>(static_cast<int8_t>(static_cast<int32_t>(code)));
    }
  }
}

}  // namespace

int64_t cache_row_bytes(CacheFormat format, int64_t width) {
  switch (format) {
    case CacheFormat::f32:
      return 4 * width;
    case CacheFormat::bf16:
      return 2 * width;
    case CacheFormat::q8:
      return (4 * groups(width) + width + 3) / 4 * 4;
  }
  return 0;
}

void cache_store(const KernelTable& kernels, const CacheLayer& layer, std::span<const int32_t> blocks, int64_t position,
                 const float* values) {
  std::byte* row = layer.row(blocks[static_cast<size_t>(position / kCacheRows)], position % kCacheRows);
  switch (layer.format) {
    case CacheFormat::f32:
      std::memcpy(row, values, static_cast<size_t>(4 * layer.width));
      break;
    case CacheFormat::bf16:
      kernels.bf16_encode(values, reinterpret_cast<uint16_t*>(row), layer.width);
      break;
    case CacheFormat::q8:
      store_q8(row, values, layer.width);
      break;
  }
}

AttentionDecodeArgs q8_args(const CacheLayer& layer, const std::byte* row, int64_t offset, int64_t n, void* out) {
  const auto* scales = reinterpret_cast<const unsigned char*>(row);
  return {scales, scales + groups(layer.width) * 4, offset, n, out};
}

void cache_load(const CacheLayer& layer, const KernelTable& kernels, std::span<const int32_t> blocks, int64_t first,
                int64_t count, int64_t offset, int64_t n, float* out, int64_t stride) {
  const DecodeFn decode_bf16 = decoder_for(kernels, DType::bf16);
  for (int64_t i = 0; i < count; ++i, out += stride) {
    const int64_t position = first + i;
    const std::byte* row = layer.row(blocks[static_cast<size_t>(position / kCacheRows)], position % kCacheRows);
    switch (layer.format) {
      case CacheFormat::f32:
        std::memcpy(out, row + 4 * offset, static_cast<size_t>(4 * n));
        break;
      case CacheFormat::bf16:
        decode_bf16(reinterpret_cast<const unsigned char*>(row) + 2 * offset, out, n);
        break;
      case CacheFormat::q8:
        kernels.attention_f32.decode_q8(q8_args(layer, row, offset, n, out));
        break;
    }
  }
}

}  // namespace redoubt
