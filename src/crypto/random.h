// Bytes that nobody can guess, from the kernel's generator. Thread safety: any.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace redoubt {

// Never fails: a system whose generator does not answer cannot be run safely, and the process ends.
void fill_random(std::span<uint8_t> bytes);

// So many random bytes as base64url, without padding: 32 bytes are 43 characters.
std::string random_token(size_t bytes);

}  // namespace redoubt
