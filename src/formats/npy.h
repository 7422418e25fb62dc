// NumPy's .npy file, version 1.0, little-endian float32, C order.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "core/result.h"

namespace redoubt {

// values.size() must be the product of the shape.
Status write_npy(const std::filesystem::path& path, std::span<const float> values, std::span<const int64_t> shape);

}  // namespace redoubt
