#include "apps/identity_store.h"

#include <fmt/format.h>

#include "apps/data_folder.h"
#include "governance/hash_key.h"

namespace redoubt {

namespace {

constexpr const char* kHashKeyFile = "hash.key";

bool is_there(const std::filesystem::path& file) {
  std::error_code unreadable;
  return std::filesystem::exists(file, unreadable);
}

Error nothing_there(const std::filesystem::path& folder, const char* file) {
  return not_found(
      fmt::format("{}: no server has used this data folder, it has no {}; start `redoubt serve` once, or name --data, "
                  "--database or "
                  "--server",
                  folder.string(), file));
}

}  // namespace

Result<std::unique_ptr<Database>> open_database(const std::filesystem::path& data, const std::string& url) {
  return Database::open({.location = url.empty() ? (data / kDatabaseFile).string() : url});
}

Result<std::unique_ptr<Database>> open_own_database(const std::string& data, const std::string& url) {
  return open_present_database(data_folder_path(data), url);
}

Result<std::unique_ptr<Database>> open_present_database(const std::filesystem::path& folder, const std::string& url) {
  if (url.empty() && !is_there(folder / kDatabaseFile)) return nothing_there(folder, kDatabaseFile);
  return open_database(folder, url);
}

Result<IdentityStore> open_identity_store(const std::filesystem::path& data, const std::string& url, const Clock& clock,
                                          const WallClock& wall, DirectoryOptions options) {
  IdentityStore store;
  REDOUBT_TRY(store.database, open_database(data, url));
  REDOUBT_TRY(KeyedHash hash, open_hash_key(data / kHashKeyFile));
  REDOUBT_TRY(store.directory, Directory::open(*store.database, std::move(hash), clock, wall, options));
  return store;
}

Result<IdentityStore> open_present_identity_store(const std::filesystem::path& data, const std::string& url,
                                                  const Clock& clock, const WallClock& wall) {
  if (!is_there(data / kHashKeyFile)) return nothing_there(data, kHashKeyFile);
  if (url.empty() && !is_there(data / kDatabaseFile)) return nothing_there(data, kDatabaseFile);
  return open_identity_store(data, url, clock, wall, {.period_ms = 0});
}

}  // namespace redoubt
