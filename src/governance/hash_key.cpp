#include "governance/hash_key.h"

#include <span>

#include "governance/random_file.h"

namespace redoubt {

Result<KeyedHash> open_hash_key(const std::filesystem::path& path) {
  REDOUBT_TRY(const std::vector<uint8_t> bytes, open_random_file(path, KeyedHash::kKeyBytes));
  return KeyedHash(std::span<const uint8_t, KeyedHash::kKeyBytes>(bytes.data(), KeyedHash::kKeyBytes));
}

}  // namespace redoubt
