// A client certificate in DER: whoever signed it, what is read of it names somebody without bytes that could pass for
// something else.
#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "server/tls_context.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const unsigned char* at = data;
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(d2i_X509(nullptr, &at, static_cast<long>(size)),
                                                                X509_free);
  ERR_clear_error();
  if (certificate == nullptr) return 0;
  const redoubt::TlsPeer peer = redoubt::describe_certificate(certificate.get());
  // RFC 2253 as we print it: what is not printable ASCII is escaped.
  if (!std::all_of(peer.subject.begin(), peer.subject.end(), [](char c) { return c >= ' ' && c <= '~'; })) std::abort();
  for (const std::string_view name : peer.names) {
    if (!name.starts_with("DNS:") && !name.starts_with("URI:") && !name.starts_with("EMAIL:")) std::abort();
    if (name.size() > size) std::abort();
  }
  ERR_clear_error();
  return 0;
}
