// Bytes as text (RFC 4648 §5, "base64url"), without padding, as tokens and keys carry them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace redoubt {

std::string base64url(std::span<const uint8_t> bytes);

// Strict: no padding, no other character, and no bits left over in the last one, so that two texts never stand for
// the same bytes.
std::optional<std::vector<uint8_t>> parse_base64url(std::string_view text);

}  // namespace redoubt
