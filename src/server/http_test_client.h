// A client for tests: one blocking socket, raw bytes out, what came back in.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "server/gate.h"
#include "server/http.h"

namespace redoubt {

class RawClient {
 public:
  explicit RawClient(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  RawClient(RawClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_) {}
  RawClient& operator=(RawClient&&) = delete;
  ~RawClient() { close(); }

  bool connected() const { return connected_; }
  int fd() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // Appends what arrives within the time; false: the server closed.
  bool read_some(std::string& out, int timeout_ms) {
    pollfd poll_fd{fd_, POLLIN, 0};
    if (::poll(&poll_fd, 1, timeout_ms) <= 0) return true;
    char buffer[16384];
    const ssize_t n = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) return false;
    out.append(buffer, static_cast<size_t>(n));
    return true;
  }
  // Until the server closes, or the time is over.
  std::string read_all(int timeout_ms = 3000) {
    std::string out;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (std::chrono::steady_clock::now() < end) {
      if (!read_some(out, 50)) return out;
    }
    timed_out = true;
    return out;
  }
  std::string read_until(std::string_view text, int timeout_ms = 3000) {
    std::string out;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (std::chrono::steady_clock::now() < end && out.find(text) == std::string::npos) {
      if (!read_some(out, 50)) break;
    }
    return out;
  }
  bool timed_out = false;

 private:
  int fd_ = -1;
  bool connected_ = false;
};

// A server on a free port, running on its own thread until the test ends.
class RunningServer {
 public:
  explicit RunningServer(std::vector<Route> routes, HttpOptions options = {}) {
    options.port = 0;
    if (options.gate == nullptr) options.gate = make_open_gate();
    if (options.gate->open()) options.host_names.emplace_back("x");  // whom these tests' requests are for
    auto made = HttpServer::listen(std::move(options), std::move(routes));
    EXPECT_TRUE(made.has_value()) << (made ? std::string() : made.error().message);
    server = std::move(made).value();
    thread_ = std::thread([this] { server->run(); });
  }
  ~RunningServer() {
    server->stop();
    if (thread_.joinable()) thread_.join();
  }
  void join() { thread_.join(); }
  uint16_t port() const { return server->port(); }
  // One request on its own connection, closed by the server.
  std::string ask(std::string_view request, int timeout_ms = 3000) const {
    RawClient client(port());
    client.send(request);
    return client.read_all(timeout_ms);
  }

  std::unique_ptr<HttpServer> server;

 private:
  std::thread thread_;
};

inline bool eventually(const std::function<bool()>& condition, int timeout_ms = 3000) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

inline int status_of(std::string_view response) {
  return response.size() > 12 && response.starts_with("HTTP/1.1 ") ? std::atoi(response.data() + 9) : 0;
}

}  // namespace redoubt
