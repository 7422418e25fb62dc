// One block of the cache as bytes on disk (docs/formats/cache-record.md): a head that names it, and the block.
//
// A key stands for everything the block's values depend on: the model, the program and the kernels that computed it,
// the space (tenant, adapter, salt) and every token from the prompt's beginning to the block's end. It is a SHA-256
// chain, block by block, so nobody can make two prompts share a key.
// A record is trusted for nothing: whatever is not exactly as written is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/sha256.h"

namespace redoubt {

using CacheKey = Sha256Digest;

// Of all full blocks of `tokens`, in order. identity: see above.
std::vector<CacheKey> cache_keys(std::string_view identity, std::string_view space, std::span<const int32_t> tokens);

constexpr int64_t kCacheRecordHead = 64;  // bytes before the block

// The head of the record of `block`. Sealing would change the block's bytes and the head's last field, nothing else.
std::vector<std::byte> cache_record_head(const CacheKey& key, std::span<const std::byte> block);

// The block's bytes within `record`. Errors: corrupt (another key or size, a checksum that differs, anything cut off).
Result<std::span<const std::byte>> parse_cache_record(std::span<const std::byte> record, const CacheKey& key,
                                                      int64_t block_bytes);

}  // namespace redoubt
