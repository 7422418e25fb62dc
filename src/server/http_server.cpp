// Sockets: the one file that sees Boost.Asio and Beast (a translation unit with Beast costs half a minute to compile).
//
// One loop, on the thread that calls run(), owns every connection; handlers run on workers and answer through an
// HttpExchange, which posts back. A connection is one coroutine that reads (and, while an answer is computed, watches
// for the client leaving), plus a chain of writes. All time limits are checked by one ticker, four times a second, so
// that an open stream costs no timer; buffers and parser exist only while a request is being read.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <cctype>
#include <unordered_map>

#include "core/clock.h"
#include "core/log.h"
#include "server/api_error.h"
#include "server/gate.h"
#include "server/http_exchange.h"
#include "server/http_parse.h"
#include "server/http_workers.h"
#include "server/router.h"

namespace redoubt {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Executor = asio::io_context::executor_type;
using Socket = asio::basic_stream_socket<tcp, Executor>;
using Acceptor = asio::basic_socket_acceptor<tcp, Executor>;
using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;
template <class T>
using Awaitable = asio::awaitable<T, Executor>;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable_t<Executor>{});

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr auto kTick = std::chrono::milliseconds(250);
constexpr size_t kReadBytes = 16 << 10;          // of a body at a time
constexpr size_t kMaxPipelined = 64 << 10;       // sent ahead while an answer is under way; more: the connection is cut
constexpr size_t kMaxChunkOverhead = 64 << 10;   // unread bytes that make no progress: an endless chunk extension
constexpr int kSendBufferBytes = 64 << 10;       // in the kernel (it doubles it); unset, megabytes hide a slow reader
constexpr int64_t kLingerNs = 2 * kNsPerSecond;  // reading on after a refusal, so that the client gets to read it
constexpr double kMinBodyBytesPerSecond = 1024;

// Grows as bytes come. The library's own string_body reserves what Content-Length claims.
struct GrowingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool is_request, class Fields>
    reader(http::header<is_request, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<std::uint64_t>&, beast::error_code& ec) { ec = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, beast::error_code& ec) {
      ec = {};
      size_t size = 0;
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers); ++it) {
        const asio::const_buffer piece(*it);
        body_.append(static_cast<const char*>(piece.data()), piece.size());
        size += piece.size();
      }
      return size;
    }
    void finish(beast::error_code& ec) { ec = {}; }

   private:
    value_type& body_;
  };
};

using Parser = http::request_parser<GrowingBody>;

class Loop final : public HttpLoop {
 public:
  explicit Loop(asio::io_context& context) : context_(&context) {}
  void post(std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    if (context_ != nullptr) asio::post(*context_, std::move(task));
  }
  void close() {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  }

 private:
  std::mutex mutex_;
  asio::io_context* context_;
};

class Connection;

class Server final : public HttpServer {
 public:
  Server(HttpOptions options, std::vector<Route> routes)
      : options_(std::move(options)),
        router_(std::move(routes)),
        acceptor_(context_),
        timer_(context_),
        loop_(std::make_shared<Loop>(context_)) {}
  ~Server() override;

  Status open();
  uint16_t port() const override { return port_; }
  void run() override;
  void drain(int seconds) override;
  void stop() override;
  int64_t open_connections() const override { return open_connections_; }

  // For connections; loop thread.
  const HttpOptions& options() const { return options_; }
  const Router& router() const { return router_; }
  const std::shared_ptr<HttpLoop> loop() const { return loop_; }
  bool draining() const { return draining_; }
  int64_t now_ns() const { return clock_.now_ns(); }
  void dispatch(const Route& route, std::shared_ptr<const HttpRequest> request, std::shared_ptr<ResponseWriter> writer);
  void remove(Connection* connection);

 private:
  Awaitable<void> accept();
  Awaitable<void> tick();
  void begin_drain(int seconds);
  void begin_stop();
  void finish_if_idle();

  const HttpOptions options_;
  const Router router_;
  const SteadyClock clock_;
  asio::io_context context_{1};
  Acceptor acceptor_;
  Timer timer_;
  std::shared_ptr<Loop> loop_;
  uint16_t port_ = 0;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::atomic<int64_t> open_connections_{0};
  bool draining_ = false, stopping_ = false;
  int64_t drain_deadline_ns_ = 0;
  std::unique_ptr<HttpWorkers> workers_, quick_workers_;
};

class Connection final : public HttpOutlet, public std::enable_shared_from_this<Connection> {
 public:
  Connection(Server& server, Socket socket, std::string remote)
      : server_(server), socket_(std::move(socket)), remote_(std::move(remote)) {}

  static Awaitable<void> serve(std::shared_ptr<Connection> self);
  void tick(int64_t now);
  void drain();
  void pump() override;
  void cut() override { lost(); }

 private:
  enum class Phase : uint8_t { idle, header, body, responding, lingering };

  // A request that was read, or the refusal it earns; neither: the connection is to be closed without a word.
  struct Incoming {
    std::shared_ptr<HttpRequest> request;
    const Route* route = nullptr;
    std::optional<ApiError> refusal;
    bool preflight = false;
    HttpExchange::Setup setup;
  };

  Awaitable<void> session();
  Awaitable<Incoming> read_request();
  Awaitable<bool> read_more(size_t bytes);
  Awaitable<void> watch();
  Awaitable<void> linger();
  void judge(Parser& parser, Incoming& incoming);
  void answer(Incoming& incoming);
  void write_some();
  void lost();
  void close_socket();
  void enter(Phase phase, int64_t seconds);

  Server& server_;
  Socket socket_;
  const std::string remote_;
  beast::flat_buffer buffer_;
  std::shared_ptr<HttpExchange> exchange_;
  std::string out_;
  size_t out_sent_ = 0;
  int64_t deadline_ns_ = 0, phase_began_ns_ = 0, progress_ns_ = 0;
  uint64_t body_bytes_ = 0;
  Phase phase_ = Phase::idle;
  bool writing_ = false, done_ = false, lost_ = false, timed_out_ = false, close_after_ = false;
  bool unread_ = false;  // bytes of the request may still be on their way
  bool first_ = true;
};

// ---- the connection -------------------------------------------------------------------------------------------------

void Connection::enter(Phase phase, int64_t seconds) {
  phase_ = phase;
  phase_began_ns_ = progress_ns_ = server_.now_ns();
  deadline_ns_ = phase_began_ns_ + seconds * kNsPerSecond;
}

Awaitable<void> Connection::serve(std::shared_ptr<Connection> self) {
  co_await self->session();
  self->close_socket();
  self->server_.remove(self.get());
}

Awaitable<void> Connection::session() {
  while (!lost_) {
    if (buffer_.size() == 0) {
      buffer_.clear();
      buffer_.shrink_to_fit();
      if (server_.draining()) co_return;
      // A connection that never spoke has as long as a header has.
      enter(Phase::idle, first_ ? server_.options().limits.header_timeout_s : server_.options().limits.idle_timeout_s);
      auto [ec] = co_await socket_.async_wait(Socket::wait_read, kAwait);
      if (ec || timed_out_) co_return;
    }
    first_ = false;
    Incoming incoming = co_await read_request();
    if (lost_ || (incoming.request == nullptr && !incoming.refusal)) co_return;
    answer(incoming);
    incoming = {};  // what the handler needs it holds itself
    co_await watch();
    if (lost_) co_return;
    if (close_after_) {
      co_await linger();
      co_return;
    }
  }
}

// False: the client left, or a time limit passed (timed_out_).
Awaitable<bool> Connection::read_more(size_t bytes) {
  auto [ec, count] = co_await socket_.async_read_some(buffer_.prepare(bytes), kAwait);
  if (ec || timed_out_) co_return false;
  buffer_.commit(count);
  progress_ns_ = server_.now_ns();
  co_return true;
}

Awaitable<Connection::Incoming> Connection::read_request() {
  const HttpLimits& limits = server_.options().limits;
  Incoming incoming;
  incoming.setup.request_id = make_request_id();
  incoming.setup.keep_alive = false;
  enter(Phase::header, limits.header_timeout_s);
  unread_ = true;

  const auto refuse = [&](int status, std::string message) {
    incoming.refusal = status_error(status, std::move(message));
  };
  const auto refuse_slow = [&] {
    if (timed_out_ && !lost_) refuse(408, "request: the client took too long to send it");
    timed_out_ = false;
  };

  Parser parser;
  parser.header_limit(static_cast<std::uint32_t>(limits.max_header_bytes));
  parser.body_limit(boost::none);
  beast::error_code ec;
  while (!parser.is_header_done()) {
    if (buffer_.size() > 0) {
      buffer_.consume(parser.put(buffer_.data(), ec));
      if (ec == http::error::header_limit) {
        refuse(431, fmt::format("request header: expected at most {} bytes", limits.max_header_bytes));
        co_return incoming;
      }
      if (ec && ec != http::error::need_more) {
        refuse(400, "request: not HTTP/1.1 (" + ec.message() + ")");
        co_return incoming;
      }
      if (parser.is_header_done()) break;
      if (buffer_.size() > limits.max_header_bytes) {
        refuse(431, fmt::format("request header: expected at most {} bytes", limits.max_header_bytes));
        co_return incoming;
      }
    }
    if (!co_await read_more(4096)) {
      refuse_slow();
      co_return incoming;
    }
  }

  judge(parser, incoming);
  if (incoming.refusal || incoming.preflight) {
    unread_ = !parser.is_done();
    if (unread_) incoming.setup.keep_alive = false;
    co_return incoming;
  }

  const size_t max_body = incoming.route->max_body_bytes;
  const auto too_large = [&] {
    refuse(413, fmt::format("request body: expected at most {} bytes", max_body));
    incoming.setup.keep_alive = false;
  };
  if (parser.content_length() && *parser.content_length() > max_body) {
    too_large();
    co_return incoming;
  }
  if (!parser.is_done()) {
    const std::string_view expect = incoming.request->header("expect");
    if (!expect.empty()) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      auto [write_ec, count] = co_await asio::async_write(socket_, asio::buffer(kContinue), kAwait);
      if (write_ec) co_return Incoming{};
    }
  }
  enter(Phase::body, limits.body_timeout_s);
  body_bytes_ = 0;
  while (!parser.is_done()) {
    if (buffer_.size() > 0) {
      const size_t used = parser.put(buffer_.data(), ec);
      buffer_.consume(used);
      body_bytes_ = parser.get().body().size();
      if (body_bytes_ > max_body) {
        too_large();
        co_return incoming;
      }
      if (ec && ec != http::error::need_more) {
        refuse(400, "request body: not as its headers say (" + ec.message() + ")");
        incoming.setup.keep_alive = false;
        co_return incoming;
      }
      if (parser.is_done()) break;
      if (!ec && used > 0) continue;
      if (buffer_.size() > kMaxChunkOverhead) {
        refuse(400, "request body: expected the end of a chunk header");
        incoming.setup.keep_alive = false;
        co_return incoming;
      }
    }
    if (!co_await read_more(kReadBytes)) {
      incoming.setup.keep_alive = false;
      const bool slow = timed_out_;
      refuse_slow();
      if (!slow) co_return Incoming{};
      co_return incoming;
    }
  }
  unread_ = false;
  incoming.request->body = std::move(parser.get().body());
  co_return incoming;
}

// From a parsed header: the request without its body, its route, and whether it may go on.
void Connection::judge(Parser& parser, Incoming& incoming) {
  const auto& message = parser.get();
  const HttpOptions& options = server_.options();
  HttpExchange::Setup& setup = incoming.setup;
  const auto refuse = [&](int status, std::string text) {
    incoming.refusal = status_error(status, std::move(text));
    if (status == 400) setup.keep_alive = false;
  };

  auto request = std::make_shared<HttpRequest>();
  request->remote_address = remote_;
  request->method = std::string(message.method_string());
  for (const auto& field : message) {
    std::string name(field.name_string());
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    request->headers.emplace_back(std::move(name), std::string(field.value()));
  }
  if (is_sane_request_id(request->header("x-request-id")))
    setup.request_id = std::string(request->header("x-request-id"));
  request->request_id = setup.request_id;
  setup.http_1_0 = message.version() < 11;
  setup.head = request->method == "HEAD";
  setup.keep_alive = message.keep_alive() && !server_.draining();
  incoming.request = request;

  if (message.version() != 10 && message.version() != 11) return refuse(400, "request: expected HTTP/1.1");
  if (request->headers.size() > options.limits.max_headers) {
    refuse(431, fmt::format("request: expected at most {} headers", options.limits.max_headers));
    setup.keep_alive = false;
    return;
  }
  if (Status status = check_headers(request->headers, setup.http_1_0); !status) {
    return refuse(400, status.error().message);
  }
  if (request->method == "TRACE" || request->method == "CONNECT") {
    return refuse(400, "method: TRACE and CONNECT are not served");
  }
  Result<RequestTarget> target = parse_request_target(std::string_view(message.target()));
  if (!target) return refuse(400, target.error().message);
  request->path = std::move(target->path);
  request->query = std::move(target->query);

  const std::string_view origin = request->header("origin");
  const bool origin_ok = origin_allowed(origin, options.cors_origins);
  if (origin_ok) {
    setup.headers = {{"Access-Control-Allow-Origin", std::string(origin)},
                     {"Vary", "Origin"},
                     {"Access-Control-Expose-Headers", "x-request-id, retry-after"}};
  }
  Router::Match match = server_.router().find(request->method, request->path);
  if (request->method == "OPTIONS" && origin_ok && !request->header("access-control-request-method").empty() &&
      !match.allow.empty()) {
    setup.headers.emplace_back("Access-Control-Allow-Methods", match.allow);
    const std::string names = allowed_cors_headers(request->header("access-control-request-headers"));
    if (!names.empty()) setup.headers.emplace_back("Access-Control-Allow-Headers", names);
    setup.headers.emplace_back("Access-Control-Max-Age", "600");
    incoming.preflight = true;
    return;
  }
  // Before paths are told from one another: without a key nobody learns which exist.
  if (match.route == nullptr || !match.route->rule->strangers) {
    auto entered = options.gate->enter(*request, match.route);
    if (ApiError* error = std::get_if<ApiError>(&entered)) {
      incoming.refusal = std::move(*error);
      return;
    }
    request->permit = std::get<std::shared_ptr<Permit>>(std::move(entered));
  }
  if (match.allow.empty()) return refuse(404, "path: no such route");
  if (match.route == nullptr) {
    refuse(405, "method: expected one of " + match.allow);
    incoming.refusal->headers.emplace_back("Allow", match.allow);
    return;
  }
  const std::string_view expect = request->header("expect");
  std::string lower_expect(expect);
  for (char& c : lower_expect) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!expect.empty() && lower_expect != "100-continue") return refuse(417, "expect: only 100-continue is known");
  request->path_params = std::move(match.params);
  request->action = match.route->rule->action;
  incoming.route = match.route;
}

void Connection::answer(Incoming& incoming) {
  const HttpLimits& limits = server_.options().limits;
  incoming.setup.buffer_bytes = limits.stream_buffer_bytes;
  incoming.setup.slow_reader_timeout_s = limits.slow_reader_timeout_s;
  incoming.setup.idle_comment_s = limits.idle_comment_s;
  if (incoming.request && !incoming.preflight) incoming.setup.permit = incoming.request->permit;
  enter(Phase::responding, 0);
  if (unread_) buffer_.clear();  // what is left of a refused request
  done_ = false;
  exchange_ = std::make_shared<HttpExchange>(server_.loop(), *this, std::move(incoming.setup));
  if (incoming.refusal) {
    const std::string path = incoming.request ? incoming.request->path : std::string();
    exchange_->send(incoming.refusal->status, "application/json", error_body_for_path(path, *incoming.refusal),
                    incoming.refusal->headers);
  } else if (incoming.preflight) {
    exchange_->send(204, "", {}, {});
  } else {
    server_.dispatch(*incoming.route, std::move(incoming.request), exchange_->writer());
  }
}

// Until the answer is sent: notices a client that leaves, and keeps what it sends ahead.
Awaitable<void> Connection::watch() {
  while (!done_) {
    auto [ec] = co_await socket_.async_wait(Socket::wait_read, kAwait);
    if (done_) break;
    if (ec) {
      lost();
      break;
    }
    beast::error_code read_ec;
    const size_t count = socket_.read_some(buffer_.prepare(4096), read_ec);
    if (!read_ec) {
      buffer_.commit(count);
      // Part of a refused body is thrown away; a next request is kept, up to a limit.
      if (unread_) buffer_.consume(count);
      if (buffer_.size() > kMaxPipelined) lost();
    } else if (read_ec == asio::error::would_block || read_ec == asio::error::try_again) {
      continue;
    } else if (unread_ && read_ec == asio::error::eof) {
      break;  // it shut its side and still reads our refusal
    } else {
      lost();
    }
  }
  // Only a refusal's last bytes are still on their way here.
  while (!done_) {
    Timer timer(socket_.get_executor(), std::chrono::milliseconds(10));
    co_await timer.async_wait(kAwait);
  }
}

// A close with unread bytes would reset the connection and with it our answer: say that we are done, read on a little.
Awaitable<void> Connection::linger() {
  beast::error_code ec;
  socket_.shutdown(Socket::shutdown_send, ec);
  if (ec || !unread_) co_return;
  enter(Phase::lingering, 0);
  deadline_ns_ = phase_began_ns_ + kLingerNs;
  for (;;) {
    buffer_.clear();
    auto [read_ec, count] = co_await socket_.async_read_some(buffer_.prepare(4096), kAwait);
    if (read_ec || timed_out_) co_return;
  }
}

void Connection::pump() {
  if (writing_ || exchange_ == nullptr) return;
  out_ = exchange_->take();
  out_sent_ = 0;
  if (!out_.empty()) return write_some();
  if (!exchange_->complete()) return;
  close_after_ = !exchange_->keeps_alive() || server_.draining();
  done_ = true;
  std::exchange(exchange_, nullptr)->close(/*client_left=*/false);
  if (lost_) return;
  beast::error_code ec;
  socket_.cancel(ec);  // wakes watch()
}

void Connection::write_some() {
  writing_ = true;
  socket_.async_write_some(asio::buffer(out_.data() + out_sent_, out_.size() - out_sent_),
                           [self = shared_from_this()](beast::error_code ec, size_t count) {
                             Connection& c = *self;
                             c.writing_ = false;
                             if (ec || c.exchange_ == nullptr) return c.lost();
                             c.out_sent_ += count;
                             c.exchange_->sent(count);
                             if (c.out_sent_ < c.out_.size()) return c.write_some();
                             c.out_ = {};
                             c.pump();
                           });
}

// The client left, was too slow, or the server stops. The coroutine wakes with an error and ends.
void Connection::lost() {
  if (lost_) return;
  lost_ = done_ = true;
  if (exchange_ != nullptr) std::exchange(exchange_, nullptr)->close(/*client_left=*/true);
  close_socket();
}

void Connection::close_socket() {
  beast::error_code ec;
  socket_.close(ec);
}

void Connection::drain() {
  if (exchange_ != nullptr) exchange_->close_connection_after();
  if (phase_ == Phase::idle) lost();
}

void Connection::tick(int64_t now) {
  if (lost_ || timed_out_) return;
  const HttpLimits& limits = server_.options().limits;
  bool expired = false;
  switch (phase_) {
    case Phase::idle:
    case Phase::header:
    case Phase::lingering:
      expired = now > deadline_ns_;
      break;
    case Phase::body: {
      const double elapsed_s = static_cast<double>(now - phase_began_ns_) / 1e9;
      expired =
          now - progress_ns_ > limits.body_timeout_s * kNsPerSecond ||
          (elapsed_s > limits.body_timeout_s && static_cast<double>(body_bytes_) < elapsed_s * kMinBodyBytesPerSecond);
      break;
    }
    case Phase::responding:
      if (exchange_ != nullptr && exchange_->tick(now)) lost();
      return;
  }
  if (!expired) return;
  timed_out_ = true;
  beast::error_code ec;
  socket_.cancel(ec);
}

// ---- the server -----------------------------------------------------------------------------------------------------

std::string address_text(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Status Server::open() {
  beast::error_code ec;
  asio::ip::address address = asio::ip::make_address(options_.host == "localhost" ? "127.0.0.1" : options_.host, ec);
  if (ec) return invalid("host: expected an IP address or localhost, found " + options_.host, "host");
  const bool loopback =
      address.is_loopback() || (address.is_v6() && address.to_v6().is_v4_mapped() &&
                                asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).is_loopback());
  if (options_.gate == nullptr) return invalid("gate: expected one, found none");
  REDOUBT_CHECK(check_rules(router_.routes()));
  if (!loopback && options_.gate->open()) {
    return invalid("host " + options_.host + ": beyond loopback callers are asked for keys; auth: off is for loopback",
                   "host");
  }
  // Every stream is a descriptor; the usual soft limit is 1024. The hard limit stays the administrator's.
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    const rlim_t wanted = static_cast<rlim_t>(options_.limits.max_connections) + 256;
    if (files.rlim_cur < wanted) {
      files.rlim_cur = std::min(wanted, files.rlim_max);
      setrlimit(RLIMIT_NOFILE, &files);
    }
  }
  const tcp::endpoint endpoint(address, options_.port);
  const auto failed = [&](std::string_view what) {
    return io_error(fmt::format("{}: cannot {}: {}", address_text(options_.host, options_.port), what, ec.message()));
  };
  if (acceptor_.open(endpoint.protocol(), ec); ec) return failed("open a socket");
  acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
  if (acceptor_.bind(endpoint, ec); ec) return failed("bind");
  if (acceptor_.listen(asio::socket_base::max_listen_connections, ec); ec) return failed("listen");
  const tcp::endpoint bound = acceptor_.local_endpoint(ec);
  if (ec) return failed("read the port");
  port_ = bound.port();
  workers_ = std::make_unique<HttpWorkers>(std::max(1, options_.worker_threads));
  quick_workers_ = std::make_unique<HttpWorkers>(1);
  return ok();
}

Server::~Server() {
  workers_.reset();
  quick_workers_.reset();
  loop_->close();
}

void Server::run() {
  asio::co_spawn(context_, accept(), asio::detached);
  asio::co_spawn(context_, tick(), asio::detached);
  context_.run();
}

Awaitable<void> Server::accept() {
  for (;;) {
    auto [ec, socket] = co_await acceptor_.async_accept(kAwait);
    if (stopping_ || draining_) co_return;
    if (ec == asio::error::operation_aborted || ec == asio::error::bad_descriptor) co_return;
    if (ec) {  // out of descriptors, most likely: they come back as connections end
      Timer pause(context_, std::chrono::milliseconds(50));
      co_await pause.async_wait(kAwait);
      continue;
    }
    beast::error_code ignored;
    socket.non_blocking(true, ignored);
    if (std::ssize(connections_) >= options_.limits.max_connections) {
      const std::string body = error_body(status_error(503, "connections: the server holds as many as it may"));
      const std::string full = fmt::format(
          "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
          "Connection: close\r\nx-request-id: {}\r\nContent-Length: {}\r\n\r\n{}",
          make_request_id(), body.size(), body);
      socket.write_some(asio::buffer(full), ignored);
      socket.shutdown(Socket::shutdown_send, ignored);
      continue;
    }
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::send_buffer_size(kSendBufferBytes), ignored);
    const tcp::endpoint remote = socket.remote_endpoint(ignored);
    auto connection =
        std::make_shared<Connection>(*this, std::move(socket), ignored ? std::string() : remote.address().to_string());
    connections_.emplace(connection.get(), connection);
    open_connections_ = std::ssize(connections_);
    asio::co_spawn(context_, Connection::serve(connection), asio::detached);
  }
}

Awaitable<void> Server::tick() {
  while (!stopping_) {
    timer_.expires_after(kTick);
    co_await timer_.async_wait(kAwait);
    if (stopping_) break;
    const int64_t now = now_ns();
    for (const auto& [connection, owner] : connections_) connection->tick(now);
    if (draining_ && now >= drain_deadline_ns_) begin_stop();
  }
}

void Server::dispatch(const Route& route, std::shared_ptr<const HttpRequest> request,
                      std::shared_ptr<ResponseWriter> writer) {
  HttpWorkers& workers = route.quick ? *quick_workers_ : *workers_;
  workers.post([&route, request = std::move(request), writer = std::move(writer)] {
    // Our own code throws nothing; what a library throws through a handler costs that request alone.
    try {
      route.handler(request, writer);
    } catch (const std::exception& e) {
      log::error("request {}: {} {}: the handler failed: {}", request->request_id, request->method, route.path,
                 e.what());
      send_error(*writer, status_error(500, "the request failed inside the server"));
    }
  });
}

void Server::remove(Connection* connection) {
  connections_.erase(connection);
  open_connections_ = std::ssize(connections_);
  finish_if_idle();
}

void Server::finish_if_idle() {
  if (draining_ && connections_.empty()) begin_stop();
}

void Server::drain(int seconds) {
  loop_->post([this, seconds] { begin_drain(seconds); });
}

void Server::stop() {
  loop_->post([this] { begin_stop(); });
}

void Server::begin_drain(int seconds) {
  if (draining_ || stopping_) return;
  draining_ = true;
  drain_deadline_ns_ = now_ns() + seconds * kNsPerSecond;
  beast::error_code ec;
  acceptor_.close(ec);
  for (const auto& [connection, owner] : connections_) connection->drain();
  finish_if_idle();
}

void Server::begin_stop() {
  if (stopping_) return;
  stopping_ = draining_ = true;
  beast::error_code ec;
  acceptor_.close(ec);
  timer_.cancel();
  for (const auto& [connection, owner] : connections_) connection->cut();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(HttpOptions options, std::vector<Route> routes) {
  auto server = std::make_unique<Server>(std::move(options), std::move(routes));
  REDOUBT_CHECK(server->open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace redoubt
