#include "server/tls_context.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "core/log.h"
#include "core/private_file.h"

namespace redoubt {
namespace {

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "unknown error";
}

Error unusable(std::string_view what, const std::filesystem::path& file) {
  return invalid(fmt::format("{}: {}: {}", what, file.string(), openssl_reason()));
}

int accept_verdict(int verdict, X509_STORE_CTX*) { return verdict; }

Status load_clients(SSL_CTX* context, const TlsOptions& options) {
  if (options.clients == ClientCertificates::none) return ok();
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  if (X509_STORE_load_file(store, options.client_ca.c_str()) != 1) return unusable("client_ca", options.client_ca);
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(options.client_ca.c_str());
  if (names == nullptr) return unusable("client_ca", options.client_ca);
  SSL_CTX_set_client_CA_list(context, names);  // takes it over
  if (!options.client_crl.empty()) {
    if (X509_STORE_load_file(store, options.client_crl.c_str()) != 1) return unusable("client_crl", options.client_crl);
    // A list is needed for each CA of the chain; a list that is over its time refuses everybody it speaks for.
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  }
  const int must = options.clients == ClientCertificates::require ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | must, accept_verdict);
  return ok();
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned int in_size, void*) {
  static constexpr unsigned char kHttp11[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kHttp11, sizeof kHttp11, in, in_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

Result<std::shared_ptr<SSL_CTX>> load(const TlsOptions& options) {
  struct stat info {};
  if (stat(options.key.c_str(), &info) != 0) return io_error("tls key: cannot read " + options.key.string());
  if (everyone_may_read(options.key))
    return invalid("tls key: " + options.key.string() + ": everyone may read it; chmod 600 it first");
  const std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  if (context == nullptr) return io_error("TLS: " + openssl_reason());
  SSL_CTX* raw = context.get();
  SSL_CTX_set_min_proto_version(raw, TLS1_3_VERSION);
  // Sessions are not resumed: each connection shows its certificate, and is judged by the list of today.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(raw, choose_protocol, nullptr);
  if (SSL_CTX_use_certificate_chain_file(raw, options.certificate.c_str()) != 1)
    return unusable("tls certificate", options.certificate);
  if (SSL_CTX_use_PrivateKey_file(raw, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return unusable("tls key", options.key);
  if (SSL_CTX_check_private_key(raw) != 1) return unusable("tls key is not that of the certificate", options.key);
  REDOUBT_CHECK(load_clients(raw, options));
  return context;
}

// When the first of the revocation lists in the file ends that ends after that; 0: there is none that does.
int64_t list_end(const std::filesystem::path& file, int64_t after_s = 0) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> in(BIO_new_file(file.c_str(), "r"), BIO_free);
  int64_t first = 0;
  while (in != nullptr) {
    const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(
        PEM_read_bio_X509_CRL(in.get(), nullptr, nullptr, nullptr), X509_CRL_free);
    if (list == nullptr) break;
    tm end{};
    const ASN1_TIME* next = X509_CRL_get0_nextUpdate(list.get());
    if (next == nullptr || ASN1_TIME_to_tm(next, &end) != 1) continue;
    const int64_t at_s = timegm(&end);
    if (at_s <= after_s) continue;
    first = first == 0 ? at_s : std::min(first, at_s);
  }
  ERR_clear_error();
  return first;
}

std::string bio_text(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(std::max(size, 0L)));
}

std::string ia5_text(const ASN1_STRING* text) {
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
                     static_cast<size_t>(ASN1_STRING_length(text)));
}

}  // namespace

Status TlsOptions::validate() const {
  if (certificate.empty() || key.empty()) return invalid("tls: expected certificate and key");
  if ((clients != ClientCertificates::none) != !client_ca.empty())
    return invalid("tls: client certificates (request, require) and client_ca go together");
  if (!client_crl.empty() && client_ca.empty()) return invalid("tls: client_crl goes with client_ca");
  return ok();
}

Result<std::shared_ptr<TlsContext>> TlsContext::open(TlsOptions options) {
  REDOUBT_CHECK(options.validate());
  std::shared_ptr<TlsContext> result(new TlsContext(std::move(options)));
  result->loaded_ = result->fingerprint();
  REDOUBT_TRY(result->context_, load(result->options_));
  result->list_ends_at_s_ = list_end(result->options_.client_crl);
  result->tell_expired_list();
  return result;
}

std::shared_ptr<ssl_ctx_st> TlsContext::current() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

std::string TlsContext::fingerprint() const {
  std::string result;
  for (const auto* file : {&options_.certificate, &options_.key, &options_.client_ca, &options_.client_crl}) {
    struct stat info {};
    if (file->empty() || stat(file->c_str(), &info) != 0) {
      result += "-;";
      continue;
    }
    result += fmt::format("{}.{}.{}.{};", info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  }
  return result;
}

void TlsContext::tell_expired_list() {
  {
    const std::lock_guard lock(mutex_);
    const int64_t now_s = std::time(nullptr);
    if (list_ends_at_s_ == 0 || now_s <= list_ends_at_s_) return;
    list_ends_at_s_ = list_end(options_.client_crl, now_s);  // the next authority's
  }
  log::error("client_crl {}: expired: every certificate of its authority is refused until a new list is there",
             options_.client_crl.string());
}

Result<bool> TlsContext::reload_if_changed() {
  const auto list_ends_at_s = [this] {
    const std::lock_guard lock(mutex_);
    return list_ends_at_s_;
  };
  const int64_t before_s = list_ends_at_s();
  tell_expired_list();
  const bool list_ended = list_ends_at_s() != before_s;
  const std::string now = fingerprint();
  {
    const std::lock_guard lock(mutex_);
    if (list_ended || now == loaded_ || now == failed_) return list_ended;
  }
  auto loaded = load(options_);
  const int64_t ends_at_s = list_end(options_.client_crl);
  {
    const std::lock_guard lock(mutex_);
    if (!loaded) {
      failed_ = now;
      return std::move(loaded).error();
    }
    context_ = std::move(*loaded);
    list_ends_at_s_ = ends_at_s;
    loaded_ = now;
    failed_.clear();
  }
  tell_expired_list();
  return true;
}

bool TlsContext::still_trusted(ssl_st* connection) const {
  const std::shared_ptr<SSL_CTX> context = current();
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(connection), X509_free);
  if (certificate == nullptr) return true;
  const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> check(X509_STORE_CTX_new(),
                                                                              X509_STORE_CTX_free);
  if (check == nullptr || X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context.get()), certificate.get(),
                                              SSL_get_peer_cert_chain(connection)) != 1) {
    return false;
  }
  X509_STORE_CTX_set_default(check.get(), "ssl_client");
  const bool good = X509_verify_cert(check.get()) == 1;
  ERR_clear_error();
  return good;
}

TlsPeer describe_certificate(x509_st* certificate) {
  TlsPeer peer;
  const std::unique_ptr<BIO, decltype(&BIO_free)> text(BIO_new(BIO_s_mem()), BIO_free);
  X509_NAME_print_ex(text.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  peer.subject = bio_text(text.get());
  tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1) peer.expires_at_s = timegm(&end);
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
      GENERAL_NAMES_free);
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) peer.names.push_back("DNS:" + ia5_text(name->d.dNSName));
    if (name->type == GEN_URI) peer.names.push_back("URI:" + ia5_text(name->d.uniformResourceIdentifier));
    if (name->type == GEN_EMAIL) peer.names.push_back("EMAIL:" + ia5_text(name->d.rfc822Name));
  }
  return peer;
}

}  // namespace redoubt
