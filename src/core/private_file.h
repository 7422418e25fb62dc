// A small file for its owner alone (0600), written whole or not at all: keys and what stands for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "core/result.h"

namespace redoubt {

enum class IfThere : uint8_t { replace, keep };  // keep: what is there stays, and that is no error

// False also of a file that is not there.
bool everyone_may_read(const std::filesystem::path& path);

// Errors: io.
Status write_private_file(const std::filesystem::path& path, std::string_view text, IfThere there);

}  // namespace redoubt
