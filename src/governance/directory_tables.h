// The directory's tables, and how they are read whole.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "governance/directory_records.h"
#include "storage/database.h"
#include "storage/migration.h"

namespace redoubt {

std::span<const Migration> directory_migrations();
inline constexpr std::string_view kDirectoryTopic = "identity";

// Everything that there is. When keys were last used is shared with the snapshot before. Errors also: corrupt_data.
Result<std::shared_ptr<DirectorySnapshot>> read_directory(Transaction& tx, const DirectorySnapshot& before);

// Lists and labels are kept as JSON.
std::string packed(const std::vector<std::string>& list);
std::string packed(const Labels& labels);

}  // namespace redoubt
