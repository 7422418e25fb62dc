// The public keys by which tokens are verified: a JSON Web Key Set (RFC 7517, 7518 §6, 8037).
// Taken: RSA of 2048 to 8192 bits, EC on P-256, OKP Ed25519, for signatures. Keys of other kinds, and keys that say
// they are for something else, are left out; a symmetric key (`oct`) is left out always, because a shared secret would
// let every server that verifies make tokens too. A key that is broken makes the whole set an error.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

struct evp_pkey_st;

namespace redoubt {

enum class SignatureAlgorithm : uint8_t { rs256, ps256, es256, eddsa };
std::optional<SignatureAlgorithm> parse_algorithm(std::string_view name);  // "RS256", …; `none` and HS… are not known
std::string_view algorithm_name(SignatureAlgorithm algorithm);

enum class KeyType : uint8_t { rsa, ec_p256, ed25519 };

struct PublicKey {
  std::string id;  // `kid`, "" if it has none
  KeyType type = KeyType::rsa;
  std::optional<SignatureAlgorithm> only_for;  // `alg`, if it has one
  std::shared_ptr<evp_pkey_st> key;
  std::string fingerprint;  // SHA-256 of the key itself, as its DER spells it: the same under another `kid`

  bool fits(SignatureAlgorithm algorithm) const;
};

struct JwkSetLimits {
  size_t max_bytes = 256 << 10;
  size_t max_keys = 100;
};

class JwkSet {
 public:
  // Errors: invalid_argument, which key and what about it.
  static Result<JwkSet> parse(std::string_view json, const JwkSetLimits& limits = {});
  const std::vector<PublicKey>& keys() const { return keys_; }

 private:
  std::vector<PublicKey> keys_;
};

}  // namespace redoubt
