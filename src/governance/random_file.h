// Random bytes drawn once and kept in a file of the data folder: one line of base64url, for its owner alone (0600).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/result.h"

namespace redoubt {

// Reads the file's `bytes`, or draws and writes them. Errors: io (others may read it too), corrupt_data.
Result<std::vector<uint8_t>> open_random_file(const std::filesystem::path& path, size_t bytes);

}  // namespace redoubt
