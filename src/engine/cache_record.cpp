#include "engine/cache_record.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "formats/chunk_hash.h"
#include "model/model.h"

namespace redoubt {

namespace {

constexpr std::string_view kMagic = "RDBTKV1\n";
static_assert(std::endian::native == std::endian::little);

}  // namespace

std::vector<CacheKey> cache_keys(std::string_view identity, std::string_view space, std::span<const int32_t> tokens) {
  std::vector<CacheKey> keys;
  CacheKey last = Sha256().add_number(identity.size()).add(identity).add_number(space.size()).add(space).finish();
  for (size_t at = 0; at + kCacheBlockTokens <= tokens.size(); at += kCacheBlockTokens) {
    Sha256 hash;
    hash.add(last);
    for (const int32_t token : tokens.subspan(at, kCacheBlockTokens)) hash.add_number(static_cast<uint32_t>(token));
    last = hash.finish();
    keys.push_back(last);
  }
  return keys;
}

// magic 8, key 32, block bytes 8, checksum of the block 8, checksum of all before 8.
std::vector<std::byte> cache_record_head(const CacheKey& key, std::span<const std::byte> block) {
  std::vector<std::byte> head(kCacheRecordHead);
  const auto put = [&](size_t at, uint64_t value) { std::memcpy(head.data() + at, &value, 8); };
  std::memcpy(head.data(), kMagic.data(), kMagic.size());
  std::memcpy(head.data() + 8, key.data(), key.size());
  put(40, block.size());
  put(48, chunk_hash(block));
  put(56, chunk_hash(std::span(head).first(56)));
  return head;
}

Result<std::span<const std::byte>> parse_cache_record(std::span<const std::byte> record, const CacheKey& key,
                                                      int64_t block_bytes) {
  if (block_bytes < 0 || static_cast<int64_t>(record.size()) != kCacheRecordHead + block_bytes)
    return corrupt("cache record: expected " + std::to_string(kCacheRecordHead + block_bytes) + " bytes, found " +
                   std::to_string(record.size()));
  const std::span<const std::byte> block = record.subspan(kCacheRecordHead);
  // All fields follow from key and block, so the head is compared whole.
  const std::vector<std::byte> expected = cache_record_head(key, block);
  if (!std::equal(expected.begin(), expected.end(), record.begin()))
    return corrupt("cache record: its head is not that of its key and block");
  return block;
}

}  // namespace redoubt
