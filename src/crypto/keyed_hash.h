// HMAC-SHA256 (RFC 2104, FIPS 180-4) under one secret key: what is stored in place of a secret, and what stands for a
// text that must not be kept. Bound: two compressions of a short text, about a microsecond. Thread safety: any.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace redoubt {

using Digest256 = std::array<uint8_t, 32>;

class KeyedHash {
 public:
  static constexpr size_t kKeyBytes = 32;
  explicit KeyedHash(std::span<const uint8_t, kKeyBytes> key);
  ~KeyedHash();
  KeyedHash(KeyedHash&&) noexcept;
  KeyedHash& operator=(KeyedHash&&) noexcept;

  // `use` parts what is hashed for one purpose from what is hashed for another; it holds no zero byte.
  Digest256 hash(std::string_view use, std::string_view text) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// In a time that depends on the sizes alone.
bool equal_in_constant_time(std::span<const uint8_t> a, std::span<const uint8_t> b);

// A digest is random already: its first bytes are as good a hash as any.
struct DigestHash {
  size_t operator()(const Digest256& digest) const {
    size_t value = 0;
    for (size_t i = 0; i < sizeof value; ++i) value = value << 8 | digest[i];
    return value;
  }
};

}  // namespace redoubt
