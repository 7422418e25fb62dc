#include "server/peer_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <memory>

#include "core/lower_case.h"

namespace redoubt {
namespace {

using Deadline = std::chrono::steady_clock::time_point;
constexpr size_t kMaxHeadBytes = 64 << 10;

struct FreeContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};
struct FreeAddresses {
  void operator()(addrinfo* addresses) const { freeaddrinfo(addresses); }
};

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  // False when the time is out.
  bool wait(short events, Deadline deadline) const {
    pollfd entry{fd_, events, 0};
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    return left.count() > 0 && poll(&entry, 1, static_cast<int>(left.count())) > 0;
  }

 private:
  int fd_;
};

Error too_late(const PeerUrl& url) { return unavailable(fmt::format("{}: no answer in time", url.host)); }

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET)
    return ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24 == 127;
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

Result<Socket> connect_to(const PeerUrl& url, Deadline deadline) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(url.host.c_str(), url.port.c_str(), &hints, &found); code != 0)
    return unavailable(fmt::format("{}: {}", url.host, gai_strerror(code)));
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  Error last = unavailable(fmt::format("{}: has no address", url.host));
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    if (!url.tls && !is_loopback(one->ai_addr))
      return invalid(fmt::format("{}: http:// is for loopback addresses; use https://", url.host));
    Socket socket(::socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (socket.fd() < 0) continue;
    int failed = ::connect(socket.fd(), one->ai_addr, one->ai_addrlen) == 0 ? 0 : errno;
    if (failed == EINPROGRESS) {
      if (!socket.wait(POLLOUT, deadline)) return too_late(url);
      socklen_t size = sizeof failed;
      getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &failed, &size);
    }
    if (failed == 0) return socket;
    last = unavailable(fmt::format("{} port {}: {}", url.host, url.port, std::strerror(failed)));
  }
  return last;
}

// A connection that carries bytes, by TLS or plainly.
class Stream {
 public:
  Stream(Socket socket, const PeerUrl& url, Deadline deadline)
      : socket_(std::move(socket)), url_(url), deadline_(deadline) {}

  Status begin_tls(const std::string& ca_file) {
    ERR_clear_error();  // another's on this thread
    context_.reset(SSL_CTX_new(TLS_client_method()));
    if (context_ == nullptr) return unavailable("TLS: no memory");
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    const int loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(context_.get())
                                       : SSL_CTX_load_verify_locations(context_.get(), ca_file.c_str(), nullptr);
    if (loaded != 1) return unavailable(fmt::format("{}: no certificate authorities could be read", ca_file));
    ssl_.reset(SSL_new(context_.get()));
    in6_addr parsed{};
    const bool numeric =
        inet_pton(AF_INET, url_.host.c_str(), &parsed) == 1 || inet_pton(AF_INET6, url_.host.c_str(), &parsed) == 1;
    const bool named = numeric ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), url_.host.c_str()) == 1
                               : SSL_set1_host(ssl_.get(), url_.host.c_str()) == 1 &&
                                     SSL_set_tlsext_host_name(ssl_.get(), url_.host.c_str()) == 1;
    if (!named || SSL_set_fd(ssl_.get(), socket_.fd()) != 1) return unavailable("TLS: no memory");
    for (int done = SSL_connect(ssl_.get()); done != 1; done = SSL_connect(ssl_.get())) {
      REDOUBT_CHECK(wait_after(done));
    }
    return ok();
  }

  Status write(std::string_view bytes) {
    while (!bytes.empty()) {
      const int sent = ssl_ != nullptr
                           ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                           : static_cast<int>(::send(socket_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
      if (sent > 0) {
        bytes.remove_prefix(static_cast<size_t>(sent));
        continue;
      }
      REDOUBT_CHECK(wait_after(sent, POLLOUT));
    }
    return ok();
  }

  // Until the peer closes. A cut is found by the parser, which knows how long the answer should be.
  Result<std::string> read_all(size_t most) {
    std::string all;
    char buffer[16 << 10];
    for (;;) {
      const int got = ssl_ != nullptr ? SSL_read(ssl_.get(), buffer, sizeof buffer)
                                      : static_cast<int>(::recv(socket_.fd(), buffer, sizeof buffer, 0));
      if (got > 0) {
        all.append(buffer, static_cast<size_t>(got));
        if (all.size() > most) return corrupt(fmt::format("{}: the answer is too long", url_.host));
        continue;
      }
      if (ssl_ == nullptr ? got == 0 : SSL_get_error(ssl_.get(), got) == SSL_ERROR_ZERO_RETURN) return all;
      if (ssl_ != nullptr && SSL_get_error(ssl_.get(), got) != SSL_ERROR_WANT_READ &&
          SSL_get_error(ssl_.get(), got) != SSL_ERROR_WANT_WRITE)
        return all;
      REDOUBT_CHECK(wait_after(got));
    }
  }

 private:
  Status wait_after(int result, short plain_events = POLLIN) {
    short events = plain_events;
    if (ssl_ != nullptr) {
      const int why = SSL_get_error(ssl_.get(), result);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) return failed();
      events = why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT;
    } else if (errno != EAGAIN && errno != EWOULDBLOCK) {
      return unavailable(fmt::format("{}: {}", url_.host, std::strerror(errno)));
    }
    return socket_.wait(events, deadline_) ? ok() : too_late(url_);
  }
  Error failed() const {
    const long verdict = SSL_get_verify_result(ssl_.get());
    if (verdict != X509_V_OK)
      return unavailable(
          fmt::format("{}: its certificate is not trusted: {}", url_.host, X509_verify_cert_error_string(verdict)));
    char text[256] = "the connection was closed";
    if (const unsigned long code = ERR_get_error(); code != 0) ERR_error_string_n(code, text, sizeof text);
    return unavailable(fmt::format("{}: TLS: {}", url_.host, text));
  }

  Socket socket_;
  const PeerUrl& url_;
  Deadline deadline_;
  std::unique_ptr<SSL_CTX, FreeContext> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
};

Error not_http(std::string_view what) { return corrupt(fmt::format("the peer's answer: {}", what)); }

Result<std::string> unchunked(std::string_view body, size_t max_bytes) {
  std::string whole;
  for (;;) {
    const size_t line = body.find("\r\n");
    size_t size = 0;
    const auto [end, error] = std::from_chars(body.data(), body.data() + std::min(line, body.size()), size, 16);
    if (line == std::string_view::npos || error != std::errc() || end == body.data())
      return not_http("a chunk cannot be read");
    body.remove_prefix(line + 2);
    if (size == 0) return whole;
    if (size > max_bytes - whole.size()) return not_http("is too long");
    if (body.size() < size + 2) return not_http("is cut off");
    whole += body.substr(0, size);
    body.remove_prefix(size + 2);
  }
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

}  // namespace

Result<PeerUrl> parse_peer_url(std::string_view url) {
  const auto wrong = [] { return invalid("expected a URL like https://host:port/path"); };
  PeerUrl parsed;
  if (url.starts_with("https://")) {
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
    parsed.tls = false;
  } else {
    return wrong();
  }
  for (const char c : url) {
    if (c <= 0x20 || c == 0x7f || c == '#' || c == '\\') return wrong();
  }
  const size_t slash = std::min(url.find_first_of("/?"), url.size());
  std::string_view authority = url.substr(0, slash);
  parsed.path = url.substr(slash);
  if (!parsed.path.starts_with('/')) parsed.path.insert(0, "/");
  if (authority.find('@') != std::string_view::npos) return wrong();  // a password in a URL ends in logs
  parsed.port = parsed.tls ? "443" : "80";
  size_t colon = authority.rfind(':');
  if (authority.starts_with('[')) {  // [::1]:8000
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return wrong();
    parsed.host = authority.substr(1, close - 1);
    colon = close + 1 < authority.size() ? close + 1 : std::string_view::npos;
    if (colon != std::string_view::npos && authority[colon] != ':') return wrong();
  } else {
    parsed.host = authority.substr(0, colon);
  }
  if (colon != std::string_view::npos) {
    parsed.port = authority.substr(colon + 1);
    if (parsed.port.empty() || parsed.port.size() > 5 ||
        !std::ranges::all_of(parsed.port, [](unsigned char c) { return std::isdigit(c) != 0; }))
      return wrong();
  }
  if (parsed.host.empty()) return wrong();
  return parsed;
}

Result<PeerResponse> parse_peer_response(std::string_view bytes, size_t max_bytes) {
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos || end > kMaxHeadBytes) return not_http("its head cannot be read");
  std::string_view head = bytes.substr(0, end);
  const std::string_view body = bytes.substr(end + 4);
  PeerResponse response;
  if (!head.starts_with("HTTP/1.") || head.size() < 12) return not_http("is not HTTP/1");
  if (std::from_chars(head.data() + 9, head.data() + 12, response.status).ptr != head.data() + 12 ||
      response.status < 200)
    return not_http("its status cannot be read");
  bool chunked = false;
  size_t length = std::string_view::npos;
  for (size_t line = head.find("\r\n"); line != std::string_view::npos; line = head.find("\r\n")) {
    head.remove_prefix(line + 2);
    const std::string_view field = head.substr(0, head.find("\r\n"));
    const size_t colon = field.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string name = lower_case(field.substr(0, colon));
    const std::string_view value = trimmed(field.substr(colon + 1));
    if (name == "transfer-encoding") chunked = lower_case(value) == "chunked";
    if (name == "content-length" &&
        (value.empty() ||
         std::from_chars(value.data(), value.data() + value.size(), length).ptr != value.data() + value.size()))
      return not_http("its length cannot be read");
  }
  if (chunked) {
    REDOUBT_TRY(response.body, unchunked(body, max_bytes));
    return response;
  }
  if (length != std::string_view::npos && body.size() < length) return not_http("is cut off");
  response.body = body.substr(0, std::min(length, body.size()));
  if (response.body.size() > max_bytes) return not_http("is too long");
  return response;
}

Result<PeerResponse> ask_peer(const PeerRequest& request) {
  REDOUBT_TRY(const PeerUrl url, parse_peer_url(request.url));
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(request.timeout_ms);
  REDOUBT_TRY(Socket socket, connect_to(url, deadline));
  Stream stream(std::move(socket), url, deadline);
  if (url.tls) {
    REDOUBT_CHECK(stream.begin_tls(request.ca_file));
  }
  const bool six = url.host.find(':') != std::string::npos;
  std::string text = fmt::format("{} {} HTTP/1.1\r\nHost: {}{}{}:{}\r\nConnection: close\r\nUser-Agent: redoubt\r\n",
                                 request.method, url.path, six ? "[" : "", url.host, six ? "]" : "", url.port);
  for (const auto& [name, value] : request.headers) {
    if (name.find_first_of("\r\n:") != std::string::npos || value.find_first_of("\r\n") != std::string::npos)
      return invalid("a header may not hold a line's end");
    text += fmt::format("{}: {}\r\n", name, value);
  }
  if (!request.body.empty() || request.method == "POST" || request.method == "PATCH")
    text += fmt::format("Content-Length: {}\r\n", request.body.size());
  REDOUBT_CHECK(stream.write(text + "\r\n" + request.body));
  REDOUBT_TRY(const std::string bytes, stream.read_all(request.max_bytes * 2 + kMaxHeadBytes));
  return parse_peer_response(bytes, request.max_bytes);
}

}  // namespace redoubt
