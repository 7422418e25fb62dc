// HTTP/1.1 as the routes see it: a request with its body read, and a writer for the answer. The files that know the
// libraries behind it are listed in README.md.
//
// Handlers run on a worker thread, never on the socket's loop: they may tokenise and render. One that has to wait
// returns and has its rest resumed. A ResponseWriter may be used from any thread, also after its handler returned; its
// callbacks run on the socket's loop and must be short. Limits (HttpLimits) are enforced before a handler is called:
// header and body size, number of headers, time to send them.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "core/result.h"
#include "server/route_rule.h"
#include "server/tls_context.h"

namespace redoubt {

class BodyRoom;
class Gate;
class Permit;
class Reservation;

struct HttpRequest {
  std::string method;  // "GET", upper case
  std::string path;    // percent-decoded, without the query
  std::vector<std::pair<std::string, std::string>> query;
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::map<std::string, std::string> path_params;            // of a route "/v1/models/{id}"
  std::string body;
  std::shared_ptr<BodyRoom> body_room;  // what the server counts of the body, as long as the request is kept
  std::string remote_address;           // the client's: the peer's, or what a trusted proxy says
  std::optional<TlsPeer> tls_peer;      // of a verified client certificate
  std::shared_ptr<Permit> permit;       // the gate's; null on a route that answers strangers
  std::string action;                   // of the route's rule
  RateClass rate = RateClass::none;     // of the route's rule
  // A generate route's: the request, taken from its caller's limits (count_requests) until the answer's reservation
  // takes it over or it is settled.
  mutable std::shared_ptr<Reservation> taken;
  std::string request_id;  // from x-request-id if it was given and is sane, else made; sent back in every response

  std::string_view header(std::string_view lower_case_name) const {
    for (const auto& [name, value] : headers) {
      if (name == lower_case_name) return value;
    }
    return {};
  }
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  // A whole response. Exactly one of send or start_stream is called, once.
  virtual void send(int status, std::string_view content_type, std::string body, HttpHeaders headers = {}) = 0;
  // A streamed response (chunked). `idle_comment` is written whenever nothing was sent for 10 s ("" for none).
  virtual void start_stream(int status, std::string_view content_type, HttpHeaders headers = {},
                            std::string idle_comment = {}) = 0;
  virtual void write(std::string bytes) = 0;
  virtual void end() = 0;
  // Called once when the client left (also for a whole response that is still being computed), was cut for reading too
  // slowly (256 KB behind for 60 s), or the response was sent. If it is over already, called at once.
  virtual void on_close(std::function<void(bool client_left)> callback) = 0;
  // Called with true when 256 KB are waiting for a slow reader, with false when under 64 KB again.
  virtual void on_backpressure(std::function<void(bool behind)> callback) = 0;
  // The rest of a handler, on a worker after a while; dropped if the client left or the server is gone. Here and now,
  // unless this is a server's writer.
  virtual void resume(std::function<void()> rest, std::chrono::milliseconds /*after*/ = {}) { rest(); }
};

using Handler = std::function<void(std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter>)>;

// The route table is data: what is not in it does not exist, and the OpenAPI document is made from it.
struct Route {
  std::string method;
  std::string path;               // "/v1/models/{id}"
  std::optional<RouteRule> rule;  // what it asks of its caller; without one it can't be registered
  size_t max_body_bytes = size_t{32} << 20;
  std::string summary;
  Json request_schema;           // null if it takes no body
  Json response_schema;          // of the 200 answer; null if free
  std::vector<Json> parameters;  // OpenAPI parameter objects (path and query)
  bool streams = false;          // may answer text/event-stream or NDJSON
  bool quick = false;            // short: has a thread of its own, so that health is told and metrics are read while
                                 // every worker is busy
  bool counted = false;          // count_requests put the question of the caller's limits before the handler
  Handler handler;
};

struct HttpLimits {
  size_t max_header_bytes = 32 << 10;
  size_t max_headers = 200;
  int header_timeout_s = 10;  // to send the request line and headers
  int body_timeout_s = 60;    // without a byte of progress, or with less than 1 KB/s in so long
  int idle_timeout_s = 120;   // keep-alive connection without a request
  int max_connections = 4096;
  // Of one address, on which nobody showed a key; 0: an eighth of max_connections. Counts once half of those are taken.
  int max_strangers_per_address = 0;
  int64_t max_bodies_bytes = int64_t{512} << 20;  // of request bodies, all connections together (body_room.h)
  size_t stream_buffer_bytes = 256 << 10;
  int slow_reader_timeout_s = 60;
  int idle_comment_s = 10;  // ResponseWriter::start_stream's comment
};

// Where administration is reached. It has the TLS of the other listener, if that has any, and connections of its own.
struct AdminListener {
  std::string host = "127.0.0.1";
  uint16_t port = 0;         // 0: any free one
  bool or_any_port = false;  // if the port is taken, any free one
};

struct HttpOptions {
  std::string host = "127.0.0.1";
  uint16_t port = 8000;  // 0: any free one
  HttpLimits limits;
  std::shared_ptr<Gate> gate;  // who may come in; one that asks nobody (Gate::open) is for loopback only
  // Names that requests may be for beside loopback's where the gate is open (foreign_page.h), in lower case.
  std::vector<std::string> host_names;
  std::vector<std::string> cors_origins;  // of the client listener; empty: closed. The admin listener is never open
  int worker_threads = 4;
  std::optional<AdminListener> admin;  // without one, routes of administration are not reached at all
  std::optional<TlsOptions> tls;
  bool behind_tls_proxy = false;  // beyond loopback without TLS: somebody else ends it
  // Peers that may say whom they speak for, by X-Forwarded-For or, with proxy_protocol, by a header of that protocol,
  // which they then must send, but not on the admin listener. Everybody else's source address is their own.
  std::vector<std::string> trusted_proxies;
  bool proxy_protocol = false;
};

class HttpServer {
 public:
  // Binds and listens; does not serve yet. Errors: io (port in use: says which), invalid_argument (no gate, one that
  // asks nobody beyond loopback, a route without a rule).
  static Result<std::unique_ptr<HttpServer>> listen(HttpOptions options, std::vector<Route> routes);
  virtual ~HttpServer() = default;
  virtual uint16_t port() const = 0;
  virtual uint16_t admin_port() const = 0;  // 0: no such listener
  virtual void run() = 0;                   // until stop(); call from one thread
  virtual void drain(int seconds) = 0;      // accept no more, let open responses end for so long, then stop; any thread
  virtual void stop() = 0;                  // any thread
  virtual int64_t open_connections() const = 0;
  virtual int64_t bodies_bytes() const = 0;  // counted of max_bodies_bytes
};

// Error envelope {"error":{"message","type","param","code"}} and its HTTP status.
struct ApiError {
  int status = 500;
  std::string message, type, param, code;
  HttpHeaders headers;  // Retry-After and the like
};
ApiError api_error(const Error& error);
std::string error_body(const ApiError& error);
void send_error(ResponseWriter& writer, const ApiError& error);

}  // namespace redoubt
