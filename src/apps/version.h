#pragma once

#include <string_view>

namespace redoubt {

constexpr std::string_view kVersion = REDOUBT_VERSION;

}  // namespace redoubt
