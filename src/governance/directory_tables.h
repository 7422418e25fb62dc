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

// A key that ended longer ago is a row of the table, for the records, and no longer read: keys that jobs rotate day by
// day would else take memory and time of each load without end.
inline constexpr int64_t kEndedKeyS = int64_t{90} * 86'400;

// Everything that there is, but for keys that ended kEndedKeyS ago. When keys were last used is shared with the
// snapshot before. Errors also: corrupt_data.
Result<std::shared_ptr<DirectorySnapshot>> read_directory(Transaction& tx, const DirectorySnapshot& before,
                                                          int64_t now_s);

// Lists and labels are kept as JSON.
std::string packed(const std::vector<std::string>& list);
std::string packed(const Labels& labels);

}  // namespace redoubt
