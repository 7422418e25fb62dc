// Sizes as people write them: "512", "8G", "1.5GB" (1000s), "2GiB" (1024s).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.h"

namespace redoubt {

// Bytes. `option` names the flag or key in the error.
Result<int64_t> parse_bytes(std::string_view text, std::string_view option);

}  // namespace redoubt
