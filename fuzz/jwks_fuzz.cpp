// A set of public keys, from a file or a peer: no text may crash the parser, and every key that it takes is there.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "crypto/jwk_set.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto keys = redoubt::JwkSet::parse({reinterpret_cast<const char*>(data), size});
  if (!keys) return 0;
  for (const redoubt::PublicKey& key : keys->keys()) {
    if (key.key == nullptr) std::abort();
  }
  return 0;
}
