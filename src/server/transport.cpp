#include "server/transport.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

namespace redoubt {
namespace {

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(int fd) : fd_(fd) {}
  Io read_some(char* data, size_t size) override {
    for (;;) {
      const ssize_t count = recv(fd_, data, size, 0);
      if (count > 0) return {Outcome::done, static_cast<size_t>(count)};
      if (count == 0) return {Outcome::closed};
      if (errno == EINTR) continue;
      return {errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::want_read : Outcome::failed};
    }
  }
  Io write_some(const char* data, size_t size) override {
    for (;;) {
      const ssize_t count = send(fd_, data, size, MSG_NOSIGNAL);
      if (count >= 0) return {Outcome::done, static_cast<size_t>(count)};
      if (errno == EINTR) continue;
      return {errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::want_write : Outcome::failed};
    }
  }
  void say_end() override { shutdown(fd_, SHUT_WR); }

 private:
  const int fd_;
};

class TlsTransport final : public Transport {
 public:
  TlsTransport(int fd, std::shared_ptr<TlsContext> context)
      : fd_(fd), context_(std::move(context)), ssl_(SSL_new(context_->current().get()), SSL_free) {
    if (ssl_ == nullptr) return;
    SSL_set_fd(ssl_.get(), fd);
    SSL_set_accept_state(ssl_.get());
  }
  // OpenSSL's errors are a thread's, not a connection's: what another call on this thread left behind (a token whose
  // signature was wrong) would be taken for an end of this connection.
  Io handshake() override {
    ERR_clear_error();
    return ssl_ == nullptr ? Io{} : finish(SSL_do_handshake(ssl_.get()), 0);
  }
  Io read_some(char* data, size_t size) override {
    ERR_clear_error();
    size_t count = 0;
    const int result = SSL_read_ex(ssl_.get(), data, size, &count);
    return finish(result, count);
  }
  Io write_some(const char* data, size_t size) override {
    ERR_clear_error();
    size_t count = 0;
    const int result = SSL_write_ex(ssl_.get(), data, size, &count);
    return finish(result, count);
  }
  void say_end() override {
    if (ssl_ != nullptr && SSL_is_init_finished(ssl_.get()) != 0) SSL_shutdown(ssl_.get());
    ERR_clear_error();
    shutdown(fd_, SHUT_WR);
  }
  std::optional<TlsPeer> peer() const override {
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl_.get()), X509_free);
    if (certificate == nullptr || SSL_get_verify_result(ssl_.get()) != X509_V_OK) return std::nullopt;
    return describe_certificate(certificate.get());
  }
  bool still_trusted() const override { return context_->still_trusted(ssl_.get()); }

 private:
  Io finish(int result, size_t count) {
    if (result == 1) return {Outcome::done, count};
    const int error = SSL_get_error(ssl_.get(), result);
    ERR_clear_error();
    switch (error) {
      case SSL_ERROR_WANT_READ:
        return {Outcome::want_read};
      case SSL_ERROR_WANT_WRITE:
        return {Outcome::want_write};
      case SSL_ERROR_ZERO_RETURN:
        return {Outcome::closed};
      default:  // an end without the word for it is a cut
        return {Outcome::failed};
    }
  }

  const int fd_;
  const std::shared_ptr<TlsContext> context_;
  const std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
};

}  // namespace

std::unique_ptr<Transport> plain_transport(int fd) { return std::make_unique<PlainTransport>(fd); }

std::unique_ptr<Transport> tls_transport(int fd, std::shared_ptr<TlsContext> context) {
  return std::make_unique<TlsTransport>(fd, std::move(context));
}

}  // namespace redoubt
