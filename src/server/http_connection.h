// One connection: one coroutine that reads (and, while an answer is computed, watches for the client leaving), plus a
// chain of writes. Plain or TLS is its transport's matter. Loop thread only.
//
// Time limits are checked by the server's ticker (tick), so that an open stream costs no timer; the reader exists only
// while a request is being read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_asio.h"
#include "server/http_judge.h"
#include "server/known_callers.h"
#include "server/transport.h"

namespace redoubt {

class BodyBudget;
class HttpConnection;
struct Principal;

// What a connection needs of its server.
class HttpConnectionHost {
 public:
  virtual const HttpOptions& options() const = 0;
  virtual HttpDoor door(RouteListener listener) const = 0;
  virtual std::shared_ptr<HttpLoop> loop() const = 0;
  virtual std::shared_ptr<BodyBudget> bodies() const = 0;
  virtual bool draining() const = 0;
  virtual int64_t now_ns() const = 0;
  // A request was let in on it; worked on until rests().
  virtual KnownCallers::Use recognised(HttpConnection* connection, const Principal& caller) = 0;
  virtual void rests(HttpConnection* connection) = 0;
  virtual void unknown(HttpConnection* connection) = 0;  // a request came that shows no key and needs none
  virtual void named(HttpConnection* connection) = 0;    // by a trusted proxy's header: client_address() is another
  virtual void remove(HttpConnection* connection) = 0;

 protected:
  ~HttpConnectionHost() = default;
};

class HttpConnection final : public HttpOutlet, public std::enable_shared_from_this<HttpConnection> {
 public:
  // Where it was accepted, and what it has to say before the first request.
  struct Arrival {
    RouteListener listener = RouteListener::client;
    std::string peer_address;
    std::shared_ptr<TlsContext> tls;  // null: plain
    bool proxy_header = false;        // a trusted proxy's, which begins with whom it speaks for
  };
  HttpConnection(HttpConnectionHost& host, Socket socket, Arrival arrival);

  static Awaitable<void> serve(std::shared_ptr<HttpConnection> self);
  RouteListener listener() const { return arrival_.listener; }
  const std::string& client_address() const { return peer_.address; }  // its own, or what a PROXY header says
  void tick(int64_t now);
  void drain();
  void look_at_certificate();  // the revocation list changed
  void pump() override;
  void cut() override { lost(); }
  bool waits() const { return phase_ == Phase::idle; }  // for its client to say something

 private:
  enum class Phase : uint8_t { idle, header, body, responding, lingering };

  Awaitable<void> session();
  Awaitable<bool> arrive();
  Awaitable<bool> read_proxy_header();
  Awaitable<bool> ready(Socket::wait_type what);
  Awaitable<bool> wait_idle();
  Awaitable<bool> read_more(size_t bytes);
  Awaitable<bool> write_all(std::string_view bytes);  // which stays where it is
  Awaitable<Incoming> read_request();
  Awaitable<bool> read_header(HttpReader& reader, Incoming& incoming);
  Awaitable<bool> read_body(HttpReader& reader, Incoming& incoming);
  bool is_slow_body(int64_t now);
  Awaitable<void> watch();
  Awaitable<void> linger();
  bool refuse_slow(Incoming& incoming);
  void answer(Incoming& incoming);
  void lost();
  void close_socket();
  void enter(Phase phase, int64_t seconds);
  void forget(size_t bytes) { in_.erase(0, bytes); }

  HttpConnectionHost& host_;
  Socket socket_;
  const Arrival arrival_;
  std::unique_ptr<Transport> transport_;
  HttpPeer peer_;
  std::string in_;  // received, not yet read as HTTP
  std::shared_ptr<HttpExchange> exchange_;
  std::string out_;
  size_t out_sent_ = 0;
  int64_t deadline_ns_ = 0, phase_began_ns_ = 0, progress_ns_ = 0;
  uint64_t body_bytes_ = 0;
  int64_t stretch_began_ns_ = 0;     // of the body, in which it is to come at the least rate
  uint64_t stretch_body_bytes_ = 0;  // when it began
  Phase phase_ = Phase::idle;
  bool writing_ = false, done_ = false, lost_ = false, timed_out_ = false, close_after_ = false;
  bool unread_ = false;  // bytes of the request may still be on their way
  bool first_ = true;
};

}  // namespace redoubt
