// A bearer token: no text may crash the reader, and none but what the key signed may verify.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "crypto/jws.h"

namespace {

// RFC 8037 A.2's public key, and A.4's token, the only one there is for it.
constexpr std::string_view kKeys =
    R"({"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]})";
constexpr std::string_view kSigned = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const redoubt::JwkSet keys = redoubt::JwkSet::parse(kKeys).value();
  constexpr redoubt::SignatureAlgorithm allowed[] = {
      redoubt::SignatureAlgorithm::rs256, redoubt::SignatureAlgorithm::ps256, redoubt::SignatureAlgorithm::es256,
      redoubt::SignatureAlgorithm::eddsa};
  const std::string_view token(reinterpret_cast<const char*>(data), size);
  const auto jws = redoubt::parse_jws(token);
  if (jws && redoubt::verify_jws(*jws, keys, allowed) && jws->signed_text != kSigned) std::abort();
  return 0;
}
