// Token ids as the command line writes them: "1 2 3" or "1,2,3".
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace redoubt {

// `option` names the flag in errors. Ids are 0 … vocab_size-1.
Result<std::vector<int32_t>> parse_token_list(std::string_view text, int64_t vocab_size, std::string_view option);
std::string format_token_list(std::span<const int32_t> ids);  // "1 2 3"

}  // namespace redoubt
