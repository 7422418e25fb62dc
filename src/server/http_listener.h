// One listening socket: binds, and accepts until it is closed. Loop thread only, once it runs.
#pragma once

#include <functional>
#include <string>

#include "core/result.h"
#include "server/http_asio.h"

namespace redoubt {

class HttpListener {
 public:
  // Gets an accepted socket, non-blocking, and the address of its peer.
  using Accepted = std::function<void(Socket socket, std::string peer_address)>;

  explicit HttpListener(asio::io_context& context) : context_(context), acceptor_(context) {}

  // `host` is an address or "localhost"; port 0: any free one. Errors: invalid_argument, io (port in use: says which).
  Status open(const std::string& host, uint16_t port);
  uint16_t port() const { return port_; }
  void run(Accepted accepted);
  void close();

 private:
  Awaitable<void> accept(Accepted accepted);

  asio::io_context& context_;
  Acceptor acceptor_;
  uint16_t port_ = 0;
};

}  // namespace redoubt
