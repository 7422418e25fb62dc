#include "crypto/jws.h"

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <memory>

#include "crypto/base64url.h"

namespace redoubt {
namespace {

constexpr size_t kEcdsaBytes = 64;  // r and s of P-256, 32 bytes each

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct FreeSignature {
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};

Error not_a_token() { return {ErrorCode::unauthenticated, "the token cannot be read", {}}; }

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// JWS has r and s side by side (RFC 7518 §3.4), OpenSSL wants them in DER.
std::string der_of(std::string_view raw) {
  if (raw.size() != kEcdsaBytes) return {};
  const std::unique_ptr<ECDSA_SIG, FreeSignature> signature(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(bytes(raw), kEcdsaBytes / 2, nullptr);
  BIGNUM* s = BN_bin2bn(bytes(raw) + kEcdsaBytes / 2, kEcdsaBytes / 2, nullptr);
  if (signature == nullptr || ECDSA_SIG_set0(signature.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return {};
  }
  unsigned char* der = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &der);
  std::string text(reinterpret_cast<const char*>(der), static_cast<size_t>(std::max(size, 0)));
  OPENSSL_free(der);
  return text;
}

// What OpenSSL says of a wrong signature stays with the thread until somebody reads it: not the next TLS connection's.
struct ForgetErrors {
  ~ForgetErrors() { ERR_clear_error(); }
};

bool made_by(const Jws& jws, const PublicKey& key) {
  const ForgetErrors forget;
  std::string signature = jws.signature;
  if (jws.algorithm == SignatureAlgorithm::es256) signature = der_of(signature);
  if (signature.empty()) return false;
  const std::unique_ptr<EVP_MD_CTX, FreeContext> context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* settings = nullptr;
  const EVP_MD* digest = jws.algorithm == SignatureAlgorithm::eddsa ? nullptr : EVP_sha256();
  if (context == nullptr || EVP_DigestVerifyInit(context.get(), &settings, digest, nullptr, key.key.get()) != 1)
    return false;
  // RFC 7518 §3.5: the salt is as long as the hash, and MGF1 uses the same hash.
  if (jws.algorithm == SignatureAlgorithm::ps256 &&
      (EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) != 1))
    return false;
  return EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(jws.signed_text),
                          jws.signed_text.size()) == 1;
}

std::string string_field(const Json& header, const char* name) {
  const auto found = header.find(name);
  return found != header.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

Result<Jws> parse_jws(std::string_view token) {
  if (token.size() > kMaxTokenBytes) return not_a_token();
  const size_t first = token.find('.');
  const size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos) return not_a_token();
  const auto header_bytes = parse_base64url(token.substr(0, first));
  const auto payload = parse_base64url(token.substr(first + 1, second - first - 1));
  const auto signature = parse_base64url(token.substr(second + 1));
  if (!header_bytes || !payload || !signature) return not_a_token();
  const auto header = parse_json({reinterpret_cast<const char*>(header_bytes->data()), header_bytes->size()},
                                 {.max_depth = 8, .max_bytes = kMaxTokenBytes});
  if (!header || !header->is_object()) return not_a_token();
  for (const char* unknown : {"crit", "b64", "zip"}) {
    if (header->contains(unknown)) return not_a_token();
  }
  const auto algorithm = parse_algorithm(string_field(*header, "alg"));
  if (!algorithm) return not_a_token();
  Jws jws;
  jws.algorithm = *algorithm;
  jws.key_id = string_field(*header, "kid");
  jws.type = string_field(*header, "typ");
  jws.payload.assign(payload->begin(), payload->end());
  jws.signed_text = token.substr(0, second);
  jws.signature.assign(signature->begin(), signature->end());
  return jws;
}

const PublicKey* verify_jws(const Jws& jws, const JwkSet& keys, std::span<const SignatureAlgorithm> allowed) {
  if (std::ranges::find(allowed, jws.algorithm) == allowed.end()) return nullptr;
  const PublicKey* only = nullptr;
  for (const PublicKey& key : keys.keys()) {
    if (!key.fits(jws.algorithm)) continue;
    if (!jws.key_id.empty()) {
      if (key.id == jws.key_id && made_by(jws, key)) return &key;
    } else if (only != nullptr) {
      return nullptr;
    } else {
      only = &key;
    }
  }
  return only != nullptr && made_by(jws, *only) ? only : nullptr;
}

}  // namespace redoubt
