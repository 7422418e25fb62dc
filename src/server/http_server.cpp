// The server: one loop, on the thread that calls run(), owns every connection of both listeners; handlers run on
// workers and answer through an HttpExchange, which posts back. All time limits are checked by one ticker, four times a
// second.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <iterator>
#include <mutex>
#include <unordered_map>

#include "core/clock.h"
#include "core/log.h"
#include "server/api_error.h"
#include "server/body_room.h"
#include "server/client_address.h"
#include "server/gate.h"
#include "server/http_connection.h"
#include "server/http_listener.h"
#include "server/http_workers.h"
#include "server/known_callers.h"
#include "server/strangers.h"

namespace redoubt {
namespace {

constexpr auto kTick = std::chrono::milliseconds(250);
constexpr int64_t kLookAtFilesNs = kNsPerSecond;  // certificates, keys and revocation lists
constexpr int kMaxAdminConnections = 64;          // beside the clients': administration gets in when those are full
constexpr int64_t kTellFullNs = 10 * kNsPerSecond;

class Loop final : public HttpLoop, public std::enable_shared_from_this<Loop> {
 public:
  explicit Loop(asio::io_context& context) : context_(&context) {}
  void post(std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    if (context_ != nullptr) asio::post(*context_, std::move(task));
  }
  void post_after(std::chrono::milliseconds after, std::function<void()> task) override {
    post([self = shared_from_this(), task = std::move(task), after] { self->wait(task, after); });
  }
  void post_to_worker(Workers workers, uint64_t number, std::function<void()> task) override {
    const std::lock_guard lock(mutex_);
    HttpWorkers* const chosen = workers == Workers::quick ? quick_workers_ : workers_;
    if (chosen != nullptr) chosen->post(number, std::move(task));
  }
  void take_back_from_workers(uint64_t number) override {
    std::function<void()> usual, quick;  // they go without the lock: they may hold a writer
    const std::lock_guard lock(mutex_);
    if (workers_ != nullptr) usual = workers_->take_back(number);
    if (quick_workers_ != nullptr) quick = quick_workers_->take_back(number);
  }
  void set_workers(HttpWorkers* usual, HttpWorkers* quick) {
    const std::lock_guard lock(mutex_);
    workers_ = usual;
    quick_workers_ = quick;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  }

 private:
  void wait(const std::function<void()>& task, std::chrono::milliseconds after) {
    const std::lock_guard lock(mutex_);
    if (context_ == nullptr) return;
    const auto timer = std::make_shared<Timer>(*context_, after);
    timer->async_wait([timer, task](error_code ec) {
      if (!ec) task();
    });
  }

  std::mutex mutex_;
  asio::io_context* context_;
  HttpWorkers *workers_ = nullptr, *quick_workers_ = nullptr;
};

std::vector<Route> routes_of(const std::vector<Route>& all, RouteListener listener) {
  std::vector<Route> result;
  std::copy_if(all.begin(), all.end(), std::back_inserter(result),
               [&](const Route& route) { return route.rule && route.rule->on(listener); });
  return result;
}

class Server final : public HttpServer, private HttpConnectionHost {
 public:
  Server(HttpOptions options, const std::vector<Route>& routes)
      : options_(std::move(options)),
        client_routes_(routes_of(routes, RouteListener::client)),
        admin_routes_(routes_of(routes, RouteListener::admin)),
        client_(context_),
        admin_(context_),
        timer_(context_),
        bodies_(std::make_shared<BodyBudget>(options_.limits.max_bodies_bytes)),
        loop_(std::make_shared<Loop>(context_)),
        client_crowd_("", options_.limits.max_connections, options_.limits.max_strangers_per_address),
        admin_crowd_(" of administration", kMaxAdminConnections, options_.limits.max_strangers_per_address) {}
  ~Server() override;

  Status open();
  uint16_t port() const override { return client_.port(); }
  uint16_t admin_port() const override { return admin_.port(); }
  void run() override;
  void drain(int seconds) override;
  void stop() override;
  int64_t open_connections() const override { return open_connections_; }
  int64_t bodies_bytes() const override { return bodies_->used_bytes(); }

 private:
  // The connections of one listener.
  struct Crowd {
    // An eighth is left to strangers at least.
    Crowd(std::string_view name_of_it, int64_t most, int64_t strangers_of_an_address)
        : name(name_of_it),
          strangers_limits{.most = most,
                           .per_address = strangers_of_an_address > 0 ? strangers_of_an_address : eighth(most)},
          known(std::max<int64_t>(1, most - eighth(most))) {}
    static int64_t eighth(int64_t most) { return std::max<int64_t>(1, most / 8); }

    std::string_view name;
    int64_t size = 0;
    Strangers::Limits strangers_limits;
    Strangers strangers;
    KnownCallers known;
    int64_t next_word_ns = 0;
  };

  const HttpOptions& options() const override { return options_; }
  HttpDoor door(RouteListener listener) const override {
    return {.options = options_,
            .router = listener == RouteListener::admin ? admin_routes_ : client_routes_,
            .trusted = trusted_,
            .unread_forwarded = *unread_forwarded_,
            .listener = listener,
            .draining = draining_};
  }
  std::shared_ptr<HttpLoop> loop() const override { return loop_; }
  std::shared_ptr<BodyBudget> bodies() const override { return bodies_; }
  bool draining() const override { return draining_; }
  int64_t now_ns() const override { return clock_.now_ns(); }
  KnownCallers::Use recognised(HttpConnection* connection, const Principal& caller) override;
  void rests(HttpConnection* connection) override;
  void unknown(HttpConnection* connection) override;
  void named(HttpConnection* connection) override;
  void remove(HttpConnection* connection) override;

  Crowd& crowd_of(RouteListener listener) { return listener == RouteListener::admin ? admin_crowd_ : client_crowd_; }
  Status check_listener(const std::string& host) const;
  Status open_admin();
  void take(Socket socket, std::string peer, RouteListener listener);
  bool make_room(Crowd& crowd, std::string_view address);
  static void cut(Crowd& crowd, HttpConnection* connection);
  void refuse_full(Socket& socket);
  Awaitable<void> tick();
  void look_at_files();
  void begin_drain(int seconds);
  void begin_stop();
  void finish_if_idle();

  const HttpOptions options_;
  const Router client_routes_, admin_routes_;
  TrustedProxies trusted_;
  std::shared_ptr<TlsContext> tls_;
  const SteadyClock clock_;
  const std::unique_ptr<UnreadForwarded> unread_forwarded_ = std::make_unique<UnreadForwarded>(clock_);
  asio::io_context context_{1};
  HttpListener client_, admin_;
  Timer timer_;
  const std::shared_ptr<BodyBudget> bodies_;
  std::shared_ptr<Loop> loop_;
  std::unordered_map<HttpConnection*, std::shared_ptr<HttpConnection>> connections_;
  Crowd client_crowd_, admin_crowd_;
  std::atomic<int64_t> open_connections_{0};
  bool draining_ = false, stopping_ = false;
  int64_t drain_deadline_ns_ = 0, looked_at_files_ns_ = 0;
  std::unique_ptr<HttpWorkers> workers_, quick_workers_, file_worker_;
};

// Every stream is a descriptor; the usual soft limit is 1024. The hard limit stays the administrator's.
void raise_descriptor_limit(int connections) {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  const rlim_t wanted = static_cast<rlim_t>(connections) + kMaxAdminConnections + 256;
  if (files.rlim_cur >= wanted) return;
  files.rlim_cur = std::min(wanted, files.rlim_max);
  setrlimit(RLIMIT_NOFILE, &files);
}

Status Server::check_listener(const std::string& host) const {
  REDOUBT_TRY(const bool loopback, is_loopback_host(host));
  if (loopback) return ok();
  if (options_.gate->open()) {
    return invalid("host " + host + ": beyond loopback callers are asked for keys; auth: off is for loopback", "host");
  }
  if (!options_.tls && !options_.behind_tls_proxy) {
    return invalid("host " + host + ": beyond loopback it needs TLS (tls: certificate, key) or --behind-tls-proxy",
                   "host");
  }
  return ok();
}

Status Server::open() {
  if (options_.gate == nullptr) return invalid("gate: expected one, found none");
  REDOUBT_CHECK(check_listener(options_.host));
  if (options_.admin) REDOUBT_CHECK(check_listener(options_.admin->host));
  REDOUBT_TRY(trusted_, TrustedProxies::parse(options_.trusted_proxies));
  if (options_.proxy_protocol && trusted_.empty())
    return invalid("proxy_protocol: it is taken from trusted_proxies alone; name them");
  if (options_.tls) {
    REDOUBT_TRY(tls_, TlsContext::open(*options_.tls));
  }
  raise_descriptor_limit(options_.limits.max_connections);
  REDOUBT_CHECK(client_.open(options_.host, options_.port));
  if (options_.admin) REDOUBT_CHECK(open_admin());
  workers_ = std::make_unique<HttpWorkers>(std::max(1, options_.worker_threads));
  quick_workers_ = std::make_unique<HttpWorkers>(1);
  loop_->set_workers(workers_.get(), quick_workers_.get());
  if (tls_ != nullptr) file_worker_ = std::make_unique<HttpWorkers>(1);
  return ok();
}

Status Server::open_admin() {
  Status opened = admin_.open(options_.admin->host, options_.admin->port);
  if (!opened && opened.error().code == ErrorCode::io && options_.admin->or_any_port)
    opened = admin_.open(options_.admin->host, 0);
  return opened;
}

Server::~Server() {
  file_worker_.reset();
  loop_->set_workers(nullptr, nullptr);
  workers_.reset();
  quick_workers_.reset();
  loop_->close();
}

void Server::run() {
  client_.run(
      [this](Socket socket, std::string peer) { take(std::move(socket), std::move(peer), RouteListener::client); });
  if (options_.admin) {
    admin_.run(
        [this](Socket socket, std::string peer) { take(std::move(socket), std::move(peer), RouteListener::admin); });
  }
  asio::co_spawn(context_, tick(), asio::detached);
  context_.run();
}

void Server::take(Socket socket, std::string peer, RouteListener listener) {
  if (stopping_ || draining_) return;
  const bool admin = listener == RouteListener::admin;
  Crowd& crowd = crowd_of(listener);
  std::string share = share_address(peer, trusted_);
  if (!make_room(crowd, share)) return refuse_full(socket);
  const bool proxy_header = !admin && options_.proxy_protocol && trusted_.contains(peer);
  auto connection = std::make_shared<HttpConnection>(
      static_cast<HttpConnectionHost&>(*this), std::move(socket),
      HttpConnection::Arrival{
          .listener = listener, .peer_address = std::move(peer), .tls = tls_, .proxy_header = proxy_header});
  connections_.emplace(connection.get(), connection);
  crowd.strangers.add(connection.get(), std::move(share));
  ++crowd.size;
  open_connections_ = std::ssize(connections_);
  asio::co_spawn(context_, HttpConnection::serve(connection), asio::detached);
}

// The oldest stranger gives way, so that who holds connections without a key keeps nobody out. Those with a key leave
// an eighth to strangers at least (Crowd), which is where everybody begins.
bool Server::make_room(Crowd& crowd, std::string_view address) {
  const auto [room, leaves] = crowd.strangers.room_for(address, crowd.size, crowd.strangers_limits);
  if (room == Strangers::Room::free) return true;
  if (const int64_t now = now_ns(); now >= crowd.next_word_ns) {
    crowd.next_word_ns = now + kTellFullNs;
    log::warn("connections{}: {} of {} are taken, {} of them by callers who showed no key: {}", crowd.name, crowd.size,
              crowd.strangers_limits.most, crowd.strangers.size(),
              leaves == nullptr ? "new ones are refused" : "the oldest of those gives way to a new one");
  }
  if (leaves == nullptr) return false;
  cut(crowd, leaves);
  return true;
}

void Server::cut(Crowd& crowd, HttpConnection* connection) {
  crowd.strangers.forget(connection);
  crowd.known.forget(connection);
  connection->cut();
}

KnownCallers::Use Server::recognised(HttpConnection* connection, const Principal& caller) {
  Crowd& crowd = crowd_of(connection->listener());
  const KnownCallers::Use use = crowd.known.use(connection, caller_name(caller));
  if (use != KnownCallers::Use::taken) return use;
  crowd.strangers.forget(connection);
  HttpConnection* surplus = crowd.known.surplus([](const HttpConnection& one) { return one.waits(); });
  if (surplus != nullptr) cut(crowd, surplus);
  return use;
}

void Server::rests(HttpConnection* connection) { crowd_of(connection->listener()).known.rest(connection); }

void Server::unknown(HttpConnection* connection) {
  Crowd& crowd = crowd_of(connection->listener());
  crowd.known.forget(connection);
  if (!crowd.strangers.contains(connection))
    crowd.strangers.add(connection, share_address(connection->client_address(), trusted_));
}

// Until its header was read it was one of the proxy's, which are not counted.
void Server::named(HttpConnection* connection) {
  Crowd& crowd = crowd_of(connection->listener());
  std::string address = share_address(connection->client_address(), trusted_);
  HttpConnection* leaves = crowd.strangers.beyond_share(address, crowd.size, crowd.strangers_limits);
  if (leaves != nullptr) cut(crowd, leaves);
  crowd.strangers.forget(connection);
  crowd.strangers.add(connection, std::move(address));
}

void Server::refuse_full(Socket& socket) {
  error_code ignored;
  if (tls_ == nullptr) {
    const std::string body = error_body(status_error(503, "connections: the server holds as many as it may"));
    const std::string full = fmt::format(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n"
        "Connection: close\r\nx-request-id: {}\r\nContent-Length: {}\r\n\r\n{}",
        make_request_id(), body.size(), body);
    socket.write_some(asio::buffer(full), ignored);
  }
  socket.shutdown(Socket::shutdown_send, ignored);
}

Awaitable<void> Server::tick() {
  while (!stopping_) {
    timer_.expires_after(kTick);
    co_await timer_.async_wait(kAwait);
    if (stopping_) break;
    const int64_t now = now_ns();
    for (const auto& [connection, owner] : connections_) connection->tick(now);
    if (tls_ != nullptr && now - looked_at_files_ns_ >= kLookAtFilesNs) {
      looked_at_files_ns_ = now;
      file_worker_->post([this] { look_at_files(); });
    }
    if (draining_ && now >= drain_deadline_ns_) begin_stop();
  }
}

// On a thread of its own: files may be on a slow disk.
void Server::look_at_files() {
  const Result<bool> changed = tls_->reload_if_changed();
  if (!changed) return log::error("TLS goes on with what it had: {}", changed.error().message);
  if (!*changed) return;
  log::info("TLS: files changed or a revocation list ended; the certificates of open connections are judged anew");
  loop_->post([this] {
    for (const auto& [connection, owner] : connections_) connection->look_at_certificate();
  });
}

void Server::remove(HttpConnection* connection) {
  Crowd& crowd = crowd_of(connection->listener());
  crowd.strangers.forget(connection);
  crowd.known.forget(connection);
  --crowd.size;
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
  client_.close();
  admin_.close();
  for (const auto& [connection, owner] : connections_) connection->drain();
  finish_if_idle();
}

void Server::begin_stop() {
  if (stopping_) return;
  stopping_ = draining_ = true;
  client_.close();
  admin_.close();
  timer_.cancel();
  for (const auto& [connection, owner] : connections_) connection->cut();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::listen(HttpOptions options, std::vector<Route> routes) {
  // Before routes are told apart by their listeners: one without a rule has none.
  REDOUBT_CHECK(check_rules(routes));
  auto server = std::make_unique<Server>(std::move(options), routes);
  REDOUBT_CHECK(server->open());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace redoubt
