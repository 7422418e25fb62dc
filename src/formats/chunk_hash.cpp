#include "formats/chunk_hash.h"

#include <bit>
#include <cstring>

namespace redoubt {
namespace {

constexpr uint64_t kPrime = 0x9E3779B97F4A7C15;  // odd, its bits well spread: 2^64 over the golden ratio

uint64_t mixed(uint64_t lane, uint64_t word) { return std::rotl(lane ^ word, 29) * kPrime; }

}  // namespace

uint64_t chunk_hash(std::span<const std::byte> chunk) {
  constexpr size_t kLanes = 8, kStripe = 8 * kLanes;
  uint64_t lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = kPrime * (i + 1);
  const auto stripe = [&](const std::byte* from) {
    for (size_t i = 0; i < kLanes; ++i) {
      uint64_t word;
      std::memcpy(&word, from + 8 * i, 8);
      lanes[i] = mixed(lanes[i], word);
    }
  };
  size_t at = 0;
  for (; at + kStripe <= chunk.size(); at += kStripe) stripe(chunk.data() + at);
  if (at < chunk.size()) {
    std::byte last[kStripe] = {};
    std::memcpy(last, chunk.data() + at, chunk.size() - at);
    stripe(last);
  }
  uint64_t hash = chunk.size();
  for (const uint64_t lane : lanes) hash = mixed(hash, lane);
  hash = (hash ^ hash >> 32) * kPrime;
  return hash ^ hash >> 29;
}

}  // namespace redoubt
