#include "server/http_listener.h"

#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <utility>

#include "server/client_address.h"

namespace redoubt {
namespace {

constexpr int kSendBufferBytes = 64 << 10;  // in the kernel (it doubles it); unset, megabytes hide a slow reader

std::string address_text(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

// An IPv4 peer of an IPv6 socket is that IPv4 peer.
std::string peer_text(const Socket& socket) {
  error_code ec;
  const tcp::endpoint remote = socket.remote_endpoint(ec);
  if (ec) return {};
  const std::string text = remote.address().to_string();
  const auto address = IpAddress::parse(text);
  return address ? address->text() : text;
}

}  // namespace

Status HttpListener::open(const std::string& host, uint16_t port) {
  error_code ec;
  const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, ec);
  if (ec) return invalid("host: expected an IP address or localhost, found " + host, "host");
  const tcp::endpoint endpoint(address, port);
  const auto failed = [&](std::string_view what) {
    error_code ignored;
    acceptor_.close(ignored);
    return io_error(fmt::format("{}: cannot {}: {}", address_text(host, port), what, ec.message()));
  };
  if (acceptor_.open(endpoint.protocol(), ec); ec) return failed("open a socket");
  acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
  if (acceptor_.bind(endpoint, ec); ec) return failed("bind");
  if (acceptor_.listen(asio::socket_base::max_listen_connections, ec); ec) return failed("listen");
  const tcp::endpoint bound = acceptor_.local_endpoint(ec);
  if (ec) return failed("read the port");
  port_ = bound.port();
  return ok();
}

void HttpListener::run(Accepted accepted) { asio::co_spawn(context_, accept(std::move(accepted)), asio::detached); }

void HttpListener::close() {
  error_code ec;
  acceptor_.close(ec);
}

Awaitable<void> HttpListener::accept(Accepted accepted) {
  for (;;) {
    auto [ec, socket] = co_await acceptor_.async_accept(kAwait);
    if (!acceptor_.is_open() || ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor) co_return;
    if (ec) {  // out of descriptors, most likely: they come back as connections end
      Timer pause(context_, std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
      continue;
    }
    error_code ignored;
    socket.non_blocking(true, ignored);
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
    std::string peer = peer_text(socket);
    accepted(std::move(socket), std::move(peer));
  }
}

}  // namespace redoubt
