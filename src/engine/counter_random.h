// Random numbers by counter: the number of position p of choice c under a seed is a function of the three alone, so
// that a token's draw does not depend on what was drawn before it, on the batch, or on a restart. Source: the finaliser
// of SplitMix64 (Steele, Lea, Flood, 2014), applied once per word of the counter.
#pragma once

#include <cstdint>

namespace redoubt {

constexpr uint64_t mix_bits(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

constexpr uint64_t counter_random(uint64_t seed, uint64_t choice, uint64_t position) {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;  // odd, so that adding it never fixes 0
  uint64_t x = mix_bits(seed + kGolden);
  x = mix_bits(x + (choice + 1) * kGolden);
  return mix_bits(x + (position + 1) * kGolden);
}

// In [0, 1), a multiple of 2^-53.
constexpr double counter_uniform(uint64_t seed, uint64_t choice, uint64_t position) {
  return static_cast<double>(counter_random(seed, choice, position) >> 11) * 0x1p-53;
}

}  // namespace redoubt
