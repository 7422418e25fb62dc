#include "apps/identity_store.h"

#include "governance/hash_key.h"

namespace redoubt {

Result<IdentityStore> open_identity_store(const std::filesystem::path& data, const std::string& url, const Clock& clock,
                                          const WallClock& wall, DirectoryOptions options) {
  IdentityStore store;
  REDOUBT_TRY(store.database, Database::open({.location = url.empty() ? (data / "redoubt.db").string() : url}));
  REDOUBT_TRY(KeyedHash hash, open_hash_key(data / "hash.key"));
  REDOUBT_TRY(store.directory, Directory::open(*store.database, std::move(hash), clock, wall, options));
  return store;
}

}  // namespace redoubt
