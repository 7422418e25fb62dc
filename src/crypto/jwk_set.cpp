#include "crypto/jwk_set.h"

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>

#include <algorithm>
#include <span>

#include "core/json.h"
#include "core/sha256.h"
#include "crypto/base64url.h"

namespace redoubt {
namespace {

constexpr size_t kMinRsaBits = 2048, kMaxRsaBits = 8192;
constexpr size_t kMaxExponentBytes = 4;  // a longer one only makes verifying slow
constexpr size_t kCoordinateBytes = 32;  // of P-256 and of Ed25519

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeContext {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
struct FreeBuilder {
  void operator()(OSSL_PARAM_BLD* builder) const { OSSL_PARAM_BLD_free(builder); }
};
struct FreeParameters {
  void operator()(OSSL_PARAM* parameters) const { OSSL_PARAM_free(parameters); }
};
struct FreeNumber {
  void operator()(BIGNUM* number) const { BN_free(number); }
};
using Number = std::unique_ptr<BIGNUM, FreeNumber>;
using Key = std::shared_ptr<EVP_PKEY>;

std::optional<std::string> text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_string()) return std::nullopt;
  return found->get<std::string>();
}

std::optional<std::vector<uint8_t>> bytes_of(const Json& object, const char* name) {
  const auto text = text_of(object, name);
  return text ? parse_base64url(*text) : std::nullopt;
}

Number number_of(std::span<const uint8_t> bytes) {
  return Number(BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr));
}

// Null if OpenSSL does not take it: a point that is not on the curve, for one.
Key key_from(const char* type, OSSL_PARAM_BLD* builder) {
  const std::unique_ptr<OSSL_PARAM, FreeParameters> parameters(OSSL_PARAM_BLD_to_param(builder));
  const std::unique_ptr<EVP_PKEY_CTX, FreeContext> context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (parameters == nullptr || context == nullptr || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return Key(key, FreeKey());
}

Result<Key> rsa_key(const Json& jwk) {
  const auto n = bytes_of(jwk, "n"), e = bytes_of(jwk, "e");
  if (!n || !e || n->empty() || e->empty()) return invalid("expected n and e in base64url");
  if (n->front() == 0 || n->size() * 8 < kMinRsaBits || n->size() * 8 > kMaxRsaBits)
    return invalid(
        fmt::format("expected a modulus of {} to {} bits, found {} bytes", kMinRsaBits, kMaxRsaBits, n->size()));
  const Number modulus = number_of(*n), exponent = number_of(*e);
  if (e->size() > kMaxExponentBytes || BN_is_odd(exponent.get()) == 0 || BN_is_one(exponent.get()) != 0 ||
      BN_is_odd(modulus.get()) == 0 || static_cast<size_t>(BN_num_bits(modulus.get())) < kMinRsaBits)
    return invalid("expected an odd modulus of full size and an odd exponent of 3 or more in 4 bytes");
  const std::unique_ptr<OSSL_PARAM_BLD, FreeBuilder> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get());
  Key key = key_from("RSA", builder.get());
  if (key == nullptr) return invalid("this RSA key cannot be used");
  return key;
}

Result<Key> ec_key(const Json& jwk) {
  const auto x = bytes_of(jwk, "x"), y = bytes_of(jwk, "y");
  if (!x || !y || x->size() != kCoordinateBytes || y->size() != kCoordinateBytes)
    return invalid("expected x and y of 32 bytes each in base64url");
  std::vector<uint8_t> point{4};  // uncompressed
  point.insert(point.end(), x->begin(), x->end());
  point.insert(point.end(), y->begin(), y->end());
  const std::unique_ptr<OSSL_PARAM_BLD, FreeBuilder> builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  Key key = key_from("EC", builder.get());
  if (key == nullptr) return invalid("the point is not on P-256");
  return key;
}

Result<Key> ed25519_key(const Json& jwk) {
  const auto x = bytes_of(jwk, "x");
  if (!x || x->size() != kCoordinateBytes) return invalid("expected x of 32 bytes in base64url");
  EVP_PKEY* const key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, x->data(), x->size());
  if (key == nullptr) return invalid("this Ed25519 key cannot be used");
  return Key(key, FreeKey());
}

bool for_signatures(const Json& jwk) {
  if (const auto use = text_of(jwk, "use"); use && *use != "sig") return false;
  const auto operations = jwk.find("key_ops");
  if (operations == jwk.end()) return true;
  return operations->is_array() &&
         std::ranges::any_of(*operations, [](const Json& one) { return one.is_string() && one == "verify"; });
}

// Nothing if it is a key of a kind that we leave out.
Result<std::string> fingerprint_of(EVP_PKEY& key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(&key, &der);
  if (size <= 0) return invalid("a key that cannot be spelled out");
  const std::string bytes(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return hex_text(Sha256().add(bytes).finish());
}

Result<std::optional<PublicKey>> public_key(const Json& jwk) {
  if (!jwk.is_object()) return invalid("expected an object");
  const auto type = text_of(jwk, "kty");
  if (!type) return invalid("expected kty");
  const auto curve = text_of(jwk, "crv");
  if (!for_signatures(jwk)) return std::optional<PublicKey>();
  PublicKey made;
  made.id = text_of(jwk, "kid").value_or("");
  if (const auto algorithm = text_of(jwk, "alg")) {
    made.only_for = parse_algorithm(*algorithm);
    if (!made.only_for) return std::optional<PublicKey>();
  }
  if (*type == "RSA") {
    made.type = KeyType::rsa;
    REDOUBT_TRY(made.key, rsa_key(jwk));
  } else if (*type == "EC" && curve == "P-256") {
    made.type = KeyType::ec_p256;
    REDOUBT_TRY(made.key, ec_key(jwk));
  } else if (*type == "OKP" && curve == "Ed25519") {
    made.type = KeyType::ed25519;
    REDOUBT_TRY(made.key, ed25519_key(jwk));
  } else {
    return std::optional<PublicKey>();
  }
  REDOUBT_TRY(made.fingerprint, fingerprint_of(*made.key));
  return std::optional<PublicKey>(std::move(made));
}

}  // namespace

std::optional<SignatureAlgorithm> parse_algorithm(std::string_view name) {
  for (const auto algorithm :
       {SignatureAlgorithm::rs256, SignatureAlgorithm::ps256, SignatureAlgorithm::es256, SignatureAlgorithm::eddsa}) {
    if (name == algorithm_name(algorithm)) return algorithm;
  }
  return std::nullopt;
}

std::string_view algorithm_name(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::rs256:
      return "RS256";
    case SignatureAlgorithm::ps256:
      return "PS256";
    case SignatureAlgorithm::es256:
      return "ES256";
    case SignatureAlgorithm::eddsa:
      return "EdDSA";
  }
  return "";
}

bool PublicKey::fits(SignatureAlgorithm algorithm) const {
  if (only_for && *only_for != algorithm) return false;
  switch (algorithm) {
    case SignatureAlgorithm::rs256:
    case SignatureAlgorithm::ps256:
      return type == KeyType::rsa;
    case SignatureAlgorithm::es256:
      return type == KeyType::ec_p256;
    case SignatureAlgorithm::eddsa:
      return type == KeyType::ed25519;
  }
  return false;
}

Result<JwkSet> JwkSet::parse(std::string_view json, const JwkSetLimits& limits) {
  REDOUBT_TRY(const Json document, parse_json(json, {.max_depth = 8, .max_bytes = limits.max_bytes}));
  const auto keys = document.is_object() ? document.find("keys") : document.end();
  if (!document.is_object() || keys == document.end() || !keys->is_array())
    return invalid("JWKS: expected an object with an array `keys`");
  if (keys->size() > limits.max_keys)
    return invalid(fmt::format("JWKS: expected at most {} keys, found {}", limits.max_keys, keys->size()));
  JwkSet set;
  for (size_t i = 0; i < keys->size(); ++i) {
    auto key = public_key((*keys)[i]);
    if (!key) return std::move(key).error().within(fmt::format("JWKS: key {}", i));
    if (key->has_value()) set.keys_.push_back(**std::move(key));
  }
  return set;
}

}  // namespace redoubt
