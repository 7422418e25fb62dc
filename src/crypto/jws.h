// Signed tokens in compact form, header.payload.signature (RFC 7515, with the advice of RFC 8725).
//
// What is not asked of the token itself: the algorithms are those that the caller allows, and a key is used only with
// the algorithms of its type, so that a header can choose neither `none` nor a hash keyed by a public key. A header
// with `crit`, `b64` or `zip` is refused; `jku`, `x5u`, `jwk` and `x5c` are never looked at.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/json.h"
#include "core/result.h"
#include "crypto/jwk_set.h"

namespace redoubt {

inline constexpr size_t kMaxTokenBytes = 16 << 10;

struct Jws {
  SignatureAlgorithm algorithm = SignatureAlgorithm::rs256;
  std::string key_id;            // `kid`, "" if it has none
  std::string type;              // `typ`, "" if it has none
  std::string payload;           // bytes, not yet trusted
  std::string_view signed_text;  // header.payload as they stand in the token, which must outlive this
  std::string signature;
};

// Takes a token apart; trusts nothing. Errors: unauthenticated.
Result<Jws> parse_jws(std::string_view token);

// The key that made the signature: the one named by `kid`, or, where the token names none, the only one that fits; null
// if none of them did. `allowed` is never empty. 15 µs for RSA, 45 µs for P-256.
const PublicKey* verify_jws(const Jws& jws, const JwkSet& keys, std::span<const SignatureAlgorithm> allowed);

}  // namespace redoubt
