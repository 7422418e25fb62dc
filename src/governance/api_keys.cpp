#include "governance/api_keys.h"

#include <array>

#include "crypto/random.h"

namespace redoubt {
namespace {

constexpr std::string_view kLetters = "abcdefghijkmnpqrstuvwxyz23456789";  // 32 that are not mistaken for one another
constexpr size_t kPrefixLength = 8;
constexpr size_t kSecretBytes = 32;

}  // namespace

KeyText draw_key() {
  std::array<uint8_t, kPrefixLength> drawn{};
  fill_random(drawn);
  KeyText key;
  for (const uint8_t byte : drawn) key.id += kLetters[byte % kLetters.size()];
  key.text = "rk_" + key.id + "_" + random_token(kSecretBytes);
  return key;
}

Digest256 key_hash(const KeyedHash& hash, std::string_view text) { return hash.hash("api key", text); }

}  // namespace redoubt
