// SHA-256 (FIPS 180-4): 32 bytes that stand for any number of others, for names of stored things.
// Bound: arithmetic, about 300 MB/s; for keys, not for bulk data. Thread safety: none.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace redoubt {

using Sha256Digest = std::array<uint8_t, 32>;

class Sha256 {
 public:
  Sha256();
  Sha256& add(std::span<const uint8_t> bytes);
  Sha256& add(std::string_view text) {
    return add(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
  }
  Sha256& add_number(uint64_t value);  // eight bytes, the lowest first
  Sha256Digest finish();

 private:
  void compress(const uint8_t* block);

  std::array<uint32_t, 8> state_;
  std::array<uint8_t, 64> pending_{};
  uint64_t size_ = 0;  // bytes so far
};

std::string hex_text(std::span<const uint8_t> bytes);  // in lower case

}  // namespace redoubt
