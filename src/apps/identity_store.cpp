#include "apps/identity_store.h"

#include "apps/data_folder.h"
#include "governance/hash_key.h"

namespace redoubt {

namespace {

constexpr const char* kDatabaseFile = "redoubt.db";

}  // namespace

Result<std::unique_ptr<Database>> open_database(const std::filesystem::path& data, const std::string& url) {
  return Database::open({.location = url.empty() ? (data / kDatabaseFile).string() : url});
}

Result<std::unique_ptr<Database>> open_own_database(const std::string& data, const std::string& url) {
  return open_present_database(data_folder_path(data), url);
}

Result<std::unique_ptr<Database>> open_present_database(const std::filesystem::path& folder, const std::string& url) {
  if (url.empty() && !std::filesystem::exists(folder / kDatabaseFile))
    return not_found(folder.string() + ": no server has used this data folder; name --data, --database or --server");
  return open_database(folder, url);
}

Result<IdentityStore> open_identity_store(const std::filesystem::path& data, const std::string& url, const Clock& clock,
                                          const WallClock& wall, DirectoryOptions options) {
  IdentityStore store;
  REDOUBT_TRY(store.database, open_database(data, url));
  REDOUBT_TRY(KeyedHash hash, open_hash_key(data / "hash.key"));
  REDOUBT_TRY(store.directory, Directory::open(*store.database, std::move(hash), clock, wall, options));
  return store;
}

}  // namespace redoubt
