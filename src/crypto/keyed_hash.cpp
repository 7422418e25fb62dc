#include "crypto/keyed_hash.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "core/result.h"

namespace redoubt {
namespace {

struct FreeMac {
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
};
struct FreeContext {
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_MAC_CTX, FreeContext>;

}  // namespace

// A context that has the key already: each hash begins with a copy of it.
struct KeyedHash::State {
  std::unique_ptr<EVP_MAC, FreeMac> mac;
  Context keyed;
};

KeyedHash::KeyedHash(std::span<const uint8_t, kKeyBytes> key) : state_(std::make_unique<State>()) {
  state_->mac.reset(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  REDOUBT_ASSERT(state_->mac != nullptr);
  state_->keyed.reset(EVP_MAC_CTX_new(state_->mac.get()));
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                   OSSL_PARAM_construct_end()};
  REDOUBT_ASSERT(state_->keyed != nullptr &&
                 EVP_MAC_init(state_->keyed.get(), key.data(), key.size(), parameters) == 1);
}

KeyedHash::~KeyedHash() = default;
KeyedHash::KeyedHash(KeyedHash&&) noexcept = default;
KeyedHash& KeyedHash::operator=(KeyedHash&&) noexcept = default;

Digest256 KeyedHash::hash(std::string_view use, std::string_view text) const {
  const Context context(EVP_MAC_CTX_dup(state_->keyed.get()));
  Digest256 digest{};
  size_t size = 0;
  const unsigned char zero = 0;
  const auto add = [&](const void* bytes, size_t count) {
    return EVP_MAC_update(context.get(), static_cast<const unsigned char*>(bytes), count) == 1;
  };
  REDOUBT_ASSERT(context != nullptr && add(use.data(), use.size()) && add(&zero, 1) && add(text.data(), text.size()) &&
                 EVP_MAC_final(context.get(), digest.data(), &size, digest.size()) == 1 && size == digest.size());
  return digest;
}

bool equal_in_constant_time(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace redoubt
