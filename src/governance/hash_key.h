// The secret under which API keys are hashed: 32 bytes in a file of the data folder (0600), not in the database, so
// that a copy of the database tells nothing. Nodes that share a database share it; the Directory notices when they do
// not.
#pragma once

#include <filesystem>

#include "core/result.h"
#include "crypto/keyed_hash.h"

namespace redoubt {

// Reads the file, or makes it. Errors: io, corrupt_data.
Result<KeyedHash> open_hash_key(const std::filesystem::path& path);

}  // namespace redoubt
