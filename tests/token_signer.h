// Makes keys and signs tokens with them, as an identity provider would: for tests alone.
#pragma once

#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "crypto/base64url.h"
#include "crypto/jwk_set.h"

namespace redoubt::test {

inline std::string base64url_of(std::string_view text) {
  return base64url({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

class TokenSigner {
 public:
  explicit TokenSigner(SignatureAlgorithm algorithm, std::string key_id = "k1", unsigned rsa_bits = 2048)
      : algorithm_(algorithm), key_id_(std::move(key_id)) {
    EVP_PKEY* key = algorithm == SignatureAlgorithm::es256   ? EVP_EC_gen("P-256")
                    : algorithm == SignatureAlgorithm::eddsa ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                                                             : EVP_RSA_gen(rsa_bits);
    key_.reset(key, &EVP_PKEY_free);
  }

  Json jwk() const {
    Json jwk{{"kid", key_id_}, {"use", "sig"}};
    if (algorithm_ == SignatureAlgorithm::es256) {
      unsigned char point[65];
      size_t size = 0;
      EXPECT_EQ(EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &size), 1);
      jwk["kty"] = "EC";
      jwk["crv"] = "P-256";
      jwk["x"] = base64url({point + 1, 32});
      jwk["y"] = base64url({point + 33, 32});
    } else if (algorithm_ == SignatureAlgorithm::eddsa) {
      unsigned char raw[32];
      size_t size = sizeof raw;
      EXPECT_EQ(EVP_PKEY_get_raw_public_key(key_.get(), raw, &size), 1);
      jwk["kty"] = "OKP";
      jwk["crv"] = "Ed25519";
      jwk["x"] = base64url({raw, size});
    } else {
      jwk["kty"] = "RSA";
      jwk["n"] = number("n");
      jwk["e"] = number("e");
    }
    return jwk;
  }
  std::string jwks() const { return dump_json(Json{{"keys", Json::array({jwk()})}}); }

  // Signs with the key's algorithm, whatever the header says.
  std::string sign(const Json& header, std::string_view payload) const {
    const std::string text = base64url_of(dump_json(header)) + "." + base64url_of(payload);
    return text + "." + base64url_of(signature(text));
  }
  std::string token(const Json& claims) const {
    return sign(Json{{"alg", algorithm_name(algorithm_)}, {"kid", key_id_}, {"typ", "JWT"}}, dump_json(claims));
  }

 private:
  std::string number(const char* name) const {
    BIGNUM* value = nullptr;
    EXPECT_EQ(EVP_PKEY_get_bn_param(key_.get(), name, &value), 1);
    std::vector<uint8_t> bytes(static_cast<size_t>(BN_num_bytes(value)));
    BN_bn2bin(value, bytes.data());
    BN_free(value);
    return base64url(bytes);
  }
  std::string signature(const std::string& text) const {
    EVP_MD_CTX* context = EVP_MD_CTX_new();
    EVP_PKEY_CTX* settings = nullptr;
    const EVP_MD* digest = algorithm_ == SignatureAlgorithm::eddsa ? nullptr : EVP_sha256();
    EXPECT_EQ(EVP_DigestSignInit(context, &settings, digest, nullptr, key_.get()), 1);
    if (algorithm_ == SignatureAlgorithm::ps256) {
      EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING);
      EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST);
    }
    std::string made(1024, 0);
    size_t size = made.size();
    EXPECT_EQ(EVP_DigestSign(context, reinterpret_cast<unsigned char*>(made.data()), &size,
                             reinterpret_cast<const unsigned char*>(text.data()), text.size()),
              1);
    EVP_MD_CTX_free(context);
    made.resize(size);
    if (algorithm_ != SignatureAlgorithm::es256) return made;
    const auto* der = reinterpret_cast<const unsigned char*>(made.data());
    ECDSA_SIG* parts = d2i_ECDSA_SIG(nullptr, &der, static_cast<long>(size));
    std::string raw(64, 0);
    BN_bn2binpad(ECDSA_SIG_get0_r(parts), reinterpret_cast<unsigned char*>(raw.data()), 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(parts), reinterpret_cast<unsigned char*>(raw.data()) + 32, 32);
    ECDSA_SIG_free(parts);
    return raw;
  }

  SignatureAlgorithm algorithm_;
  std::string key_id_;
  std::shared_ptr<EVP_PKEY> key_;
};

}  // namespace redoubt::test
