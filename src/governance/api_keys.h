// What an API key looks like: rk_<prefix>_<secret>, where the prefix (8 letters and digits) is the key's id, shown in
// lists and logs, and the secret is 256 random bits in base64url, known to its owner alone. We keep a keyed hash of the
// whole; a guess is hopeless, so a slow hash would only slow ourselves.
#pragma once

#include <string>
#include <string_view>

#include "crypto/keyed_hash.h"

namespace redoubt {

struct KeyText {
  std::string id;    // the prefix
  std::string text;  // the whole key, shown once
};
KeyText draw_key();

// What is kept of a key, and what is looked up: by the hash, so that no time depends on how much of a key is right.
Digest256 key_hash(const KeyedHash& hash, std::string_view text);

// The id of the key that REDOUBT_BOOTSTRAP_KEY chose: what its bits are worth is not known.
inline constexpr std::string_view kBootstrapKey = "bootstrap";
inline constexpr size_t kMinKeyBytes = 16, kMaxKeyBytes = 256;  // of keys that others chose (REDOUBT_BOOTSTRAP_KEY)

}  // namespace redoubt
