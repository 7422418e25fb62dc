// TLS 1.3 by OpenSSL: certificate and key, whose client certificates are taken, and which of those are revoked. The
// files are read again when they change; connections made from then on use what they say.
//
// A file that changed and can't be used leaves what was there in place and is reported: a half-written certificate must
// not take the server down.
// Thread safety: any.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/result.h"

// OpenSSL's own names: its headers stay in the .cpp files.
struct ssl_ctx_st;
struct ssl_st;
struct x509_st;

namespace redoubt {

enum class ClientCertificates : uint8_t { none, request, require };

struct TlsOptions {
  std::filesystem::path certificate;  // PEM: the chain, the server's own first
  std::filesystem::path key;          // PEM; not readable by everyone
  std::filesystem::path client_ca;    // PEM: who may have signed clients' certificates
  std::filesystem::path client_crl;   // PEM: revoked ones, one list for each CA; "": none are
  ClientCertificates clients = ClientCertificates::none;

  Status validate() const;
};

// Of a client whose certificate was verified, revocation list included.
struct TlsPeer {
  std::string subject;             // RFC 2253: "CN=trader,O=Bank"
  std::vector<std::string> names;  // "DNS:…", "URI:…", "EMAIL:…"
  int64_t expires_at_s = 0;
};

class TlsContext {
 public:
  // Errors: invalid_argument (options, key readable by everyone, key of another certificate), io.
  static Result<std::shared_ptr<TlsContext>> open(TlsOptions options);

  std::shared_ptr<ssl_ctx_st> current() const;
  // True: files changed and are in use now, or a list ended: judge connections anew. Errors: as open; what was stays.
  Result<bool> reload_if_changed();
  // Is the verified certificate of this connection's client still one by the present CA and revocation lists?
  bool still_trusted(ssl_st* connection) const;

 private:
  explicit TlsContext(TlsOptions options) : options_(std::move(options)) {}
  std::string fingerprint() const;  // of the files' times and sizes
  void tell_expired_list();         // in the log, once for each list: it refuses every certificate

  const TlsOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<ssl_ctx_st> context_;
  int64_t list_ends_at_s_ = 0;   // of client_crl, the first to end; 0: never, or there is none, or it was told
  std::string loaded_, failed_;  // fingerprints: of what is in use, and of what could not be used
};

// The name and the end of a verified certificate.
TlsPeer describe_certificate(x509_st* certificate);

}  // namespace redoubt
