// The 12 bytes in which Q4_K and Q5_K keep eight 6-bit scales and eight 6-bit mins.
#pragma once

#include <cstdint>

namespace redoubt::codec {

struct ScaleMin {
  int scale, min;  // 0..63
};

// Sub-blocks 0..3 lie in the low six bits of bytes 0..7; 4..7 have their low nibbles in bytes 8..11 and their top two
// bits above the others.
inline ScaleMin unpack_scale_min(const uint8_t* packed, int s) {
  if (s < 4) return {packed[s] & 63, packed[s + 4] & 63};
  return {(packed[s + 4] & 15) | (packed[s - 4] >> 6) << 4, (packed[s + 4] >> 4) | (packed[s] >> 6) << 4};
}

// `packed` starts as zeros.
inline void pack_scale_min(uint8_t* packed, int s, ScaleMin pair) {
  if (s < 4) {
    packed[s] = static_cast<uint8_t>(packed[s] | pair.scale);
    packed[s + 4] = static_cast<uint8_t>(packed[s + 4] | pair.min);
  } else {
    packed[s + 4] = static_cast<uint8_t>((pair.scale & 15) | (pair.min & 15) << 4);
    packed[s - 4] = static_cast<uint8_t>(packed[s - 4] | (pair.scale >> 4) << 6);
    packed[s] = static_cast<uint8_t>(packed[s] | (pair.min >> 4) << 6);
  }
}

}  // namespace redoubt::codec
