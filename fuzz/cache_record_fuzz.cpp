// Any bytes as a block of the cache on disk; those taken are what would have been written.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "engine/cache_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  redoubt::CacheKey key{};
  if (size >= 40) std::memcpy(key.data(), data + 8, key.size());  // as the head says, so that more than it is read
  const auto block = redoubt::parse_cache_record(bytes, key, static_cast<int64_t>(size) - redoubt::kCacheRecordHead);
  if (!block) return 0;
  const auto head = redoubt::cache_record_head(key, *block);
  if (std::memcmp(head.data(), data, head.size()) != 0) std::abort();
  return 0;
}
