// The units of one row's block, four codes at a time in a word of 32 bits: what packing does at load. Byte b of word z
// belongs to column 4z + b. Held to pack_group_by_codes, which spells every code out.
#pragma once

#include <cstdint>
#include <cstring>

namespace redoubt::packing {

constexpr uint32_t kNibbles = 0x0f0f0f0f;

inline uint32_t load(const uint8_t* from) {
  uint32_t word;
  std::memcpy(&word, from, 4);
  return word;
}
// Word `vector` of a row: the fast index of a unit is the row (packing.h).
inline void store(uint8_t* unit, int64_t vector, int64_t row, uint32_t word) {
  std::memcpy(unit + 64 * vector + 4 * row, &word, 4);
}

// Q4_0 and its kin: the stored bytes are the unit's bytes already.
template <int At>
inline void nibbles(const uint8_t* block, int64_t row, uint8_t* unit) {
  for (int z = 0; z < 4; ++z) store(unit, z, row, load(block + At + 4 * z));
}

// NF4: two units under one scale.
inline void nf4(const uint8_t* block, int64_t row, uint8_t* units) {
  nibbles<4>(block, row, units);
  nibbles<20>(block, row, units + 256);
}

// Q5_0, Q5_1: bit 4z + b of four bytes goes to bit z of byte b.
template <int At>
inline void five(const uint8_t* block, int64_t row, uint8_t* unit) {
  const uint32_t bits = load(block + At);
  uint32_t fifth = 0;
  for (int z = 0; z < 8; ++z) fifth |= ((bits >> 4 * z & 15) * 0x00204081 & 0x01010101) << z;
  store(unit, 0, row, fifth);
  nibbles<At + 4>(block, row, unit + 64);
}

inline void signed_bytes(const uint8_t* block, int64_t row, uint8_t* unit) {
  for (int z = 0; z < 8; ++z) store(unit, z, row, load(block + 2 + 4 * z) ^ 0x80808080);
}

// The low (even unit) or high halves of 32 bytes, as nibbles of a unit.
inline void halves(const uint8_t* q, bool high, int64_t row, uint8_t* unit) {
  for (int z = 0; z < 4; ++z) {
    const uint32_t first = load(q + 4 * z), second = load(q + 16 + 4 * z);
    store(unit, z, row,
          high ? (first >> 4 & kNibbles) | (second & ~kNibbles) : (first & kNibbles) | (second & kNibbles) << 4);
  }
}

inline void q4_k(const uint8_t* block, int64_t row, uint8_t* units) {
  for (int u = 0; u < 8; ++u) halves(block + 16 + 32 * (u / 2), u % 2 != 0, row, units + 256 * u);
}

inline void q5_k(const uint8_t* block, int64_t row, uint8_t* units) {
  for (int u = 0; u < 8; ++u) {
    uint32_t fifth = 0;
    for (int z = 0; z < 8; ++z) fifth |= (load(block + 16 + 4 * z) >> u & 0x01010101) << z;
    store(units + 320 * u, 0, row, fifth);
    halves(block + 48 + 32 * (u / 2), u % 2 != 0, row, units + 320 * u + 64);
  }
}

// Unit 4h + g of a Q6_K block: its low nibbles in half g / 2 of bytes 64h + 32 (g % 2), its top bits at 2g of 128 +
// 32h.
inline void q6_k(const uint8_t* block, int64_t row, uint8_t* units) {
  for (int u = 0; u < 8; ++u) {
    uint8_t* unit = units + 384 * u;
    const uint8_t* top = block + 128 + 32 * (u / 4);
    for (int h = 0; h < 2; ++h) {
      uint32_t bits = 0;
      for (int z = 0; z < 4; ++z) bits |= (load(top + 16 * h + 4 * z) >> 2 * (u % 4) & 0x03030303) << 2 * z;
      store(unit, h, row, bits);
    }
    halves(block + 64 * (u / 4) + 32 * (u % 2), u % 4 > 1, row, unit + 128);
  }
}

}  // namespace redoubt::packing
