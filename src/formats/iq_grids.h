// The codebooks of the IQ1, IQ2 and IQ3 block types (iq_grids.cpp): entries of packed level indices.
#pragma once

#include <array>
#include <cstdint>

namespace redoubt::iq {

extern const std::array<uint16_t, 256> kGrid2xxs;  // 8 levels of 2 bits
extern const std::array<uint16_t, 512> kGrid2xs;
extern const std::array<uint16_t, 1024> kGrid2s;
extern const std::array<uint16_t, 256> kGrid3xxs;  // 4 levels of 3 bits
extern const std::array<uint16_t, 512> kGrid3s;
extern const std::array<uint16_t, 2048> kGrid1s;  // 8 levels of 2 bits

inline constexpr float kLevels2[4] = {8, 25, 43, 0};
inline constexpr float kLevels3xxs[8] = {4, 12, 20, 28, 36, 44, 52, 62};
inline constexpr float kLevels3s[8] = {1, 3, 5, 7, 9, 11, 13, 15};
inline constexpr float kLevels1[4] = {-1, 0, 1, 0};

}  // namespace redoubt::iq
