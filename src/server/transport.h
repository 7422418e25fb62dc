// The bytes of one connection, plain or over TLS. Never waits: what can't go on says whether it needs to read or to
// write, and the connection waits for its socket to be ready. Try first and wait
// after: what TLS has already taken from the socket no readiness announces. So one coroutine serves both, and no HTTP
// code is compiled twice.
//
// Used from the loop's thread only. The socket is borrowed and non-blocking.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "server/tls_context.h"

namespace redoubt {

class Transport {
 public:
  enum class Outcome : uint8_t {
    done,
    want_read,   // again when the socket can be read
    want_write,  // again when it can be written
    closed,      // the peer said that it sends no more
    failed,
  };
  struct Io {
    Outcome outcome = Outcome::failed;
    size_t bytes = 0;
  };

  virtual ~Transport() = default;
  virtual Io handshake() { return {Outcome::done}; }
  virtual Io read_some(char* data, size_t size) = 0;
  virtual Io write_some(const char* data, size_t size) = 0;
  virtual void say_end() = 0;  // we send no more
  // After the handshake: whose certificate was shown and verified.
  virtual std::optional<TlsPeer> peer() const { return std::nullopt; }
  // False: by what the context says now, the client's certificate is none any more.
  virtual bool still_trusted() const { return true; }
};

std::unique_ptr<Transport> plain_transport(int fd);
std::unique_ptr<Transport> tls_transport(int fd, std::shared_ptr<TlsContext> context);

}  // namespace redoubt
