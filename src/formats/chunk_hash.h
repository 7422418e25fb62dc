// A hash that finds damage, not malice: 64 bits over eight lanes of multiplications, as fast as memory is read
// (docs/formats/packing.md has the definition).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace redoubt {

uint64_t chunk_hash(std::span<const std::byte> chunk);

}  // namespace redoubt
