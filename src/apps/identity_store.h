// The database of a data folder, and the directory in it: opened by the server, and by commands of whoever owns the
// folder (also while a server runs: it sees their changes within half a second).
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/result.h"
#include "governance/directory.h"
#include "storage/database.h"

namespace redoubt {

struct IdentityStore {
  std::unique_ptr<Database> database;
  std::unique_ptr<Directory> directory;  // uses the database: goes before it
};

// Where state lasts: PostgreSQL at `url`, or, if that is "", the file redoubt.db of the folder.
Result<std::unique_ptr<Database>> open_database(const std::filesystem::path& data, const std::string& url);
// The same without making one. Errors: not_found, if the folder has none; says how one is made.
Result<std::unique_ptr<Database>> open_present_database(const std::filesystem::path& folder, const std::string& url);
// The same for commands beside a server.
Result<std::unique_ptr<Database>> open_own_database(const std::string& data, const std::string& url);

// `url`: of PostgreSQL; "": the file redoubt.db of the folder. The hash key is the folder's hash.key in either case.
Result<IdentityStore> open_identity_store(const std::filesystem::path& data, const std::string& url, const Clock& clock,
                                          const WallClock& wall, DirectoryOptions options = {});
// The same for commands beside a server: makes neither. Errors: not_found, if the folder lacks one of them.
Result<IdentityStore> open_present_identity_store(const std::filesystem::path& data, const std::string& url,
                                                  const Clock& clock, const WallClock& wall);

}  // namespace redoubt
