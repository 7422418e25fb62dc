#include "server/http_connection.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "core/log.h"
#include "governance/permit.h"
#include "server/api_error.h"
#include "server/body_room.h"
#include "server/proxy_protocol.h"

namespace redoubt {
namespace {

constexpr size_t kHeaderPiece = 4096, kBodyPiece = 16 << 10;  // bytes read at a time
constexpr size_t kMaxPipelined = 64 << 10;       // sent ahead while an answer is under way; more: the connection is cut
constexpr size_t kMaxChunkOverhead = 64 << 10;   // unread bytes that make no progress: an endless chunk extension
constexpr int64_t kLingerNs = 2 * kNsPerSecond;  // reading on after a refusal, so that the client gets to read it
constexpr double kMinBodyBytesPerSecond = 1024;

constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";

using Outcome = Transport::Outcome;

Socket::wait_type wanted(Outcome outcome) {
  return outcome == Outcome::want_write ? Socket::wait_write : Socket::wait_read;
}
// Who has all that one caller may.
void refuse_share(Incoming& incoming, std::string message) {
  incoming.refuse(429, std::move(message));
  incoming.refusal->type = "rate_limit_error";
  incoming.refusal->code = "rate_limit_exceeded";
  incoming.refusal->headers.emplace_back("Retry-After", "1");
}
bool wants(Outcome outcome) { return outcome == Outcome::want_read || outcome == Outcome::want_write; }

}  // namespace

HttpConnection::HttpConnection(HttpConnectionHost& host, Socket socket, Arrival arrival)
    : host_(host), socket_(std::move(socket)), arrival_(std::move(arrival)), peer_{arrival_.peer_address, {}} {
  const int fd = socket_.native_handle();
  transport_ = arrival_.tls != nullptr ? tls_transport(fd, arrival_.tls) : plain_transport(fd);
}

void HttpConnection::enter(Phase phase, int64_t seconds) {
  phase_ = phase;
  phase_began_ns_ = progress_ns_ = host_.now_ns();
  deadline_ns_ = phase_began_ns_ + seconds * kNsPerSecond;
}

Awaitable<void> HttpConnection::serve(std::shared_ptr<HttpConnection> self) {
  if (!self->lost_) co_await self->session();  // it may have given way before it began
  self->close_socket();
  self->host_.remove(self.get());
}

// ---- before the first request ---------------------------------------------------------------------------------------

Awaitable<bool> HttpConnection::arrive() {
  if (arrival_.proxy_header) {
    const bool named = co_await read_proxy_header();
    if (!named) co_return false;
  }
  for (;;) {  // everywhere: try first, wait after; readiness is told once
    const Outcome outcome = transport_->handshake().outcome;
    if (outcome == Outcome::done) break;
    if (!wants(outcome)) co_return false;
    const bool is_ready = co_await ready(wanted(outcome));
    if (!is_ready) co_return false;
  }
  peer_.tls = transport_->peer();
  look_at_certificate();  // lists of revoked certificates that were read again during the handshake
  co_return !lost_;
}

// Looks before it takes: what follows the header is the client's, and over TLS not ours to read.
Awaitable<bool> HttpConnection::read_proxy_header() {
  char bytes[kMaxProxyHeaderBytes];
  while (!lost_ && !timed_out_) {
    const ssize_t count = recv(socket_.native_handle(), bytes, sizeof bytes, MSG_PEEK);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) co_return false;
    const auto header = parse_proxy_header({bytes, static_cast<size_t>(std::max<ssize_t>(count, 0))});
    if (!header) {
      log::warn("proxy {}: {}", arrival_.peer_address, header.error().message);
      co_return false;
    }
    if (header->bytes > 0) {
      if (recv(socket_.native_handle(), bytes, header->bytes, 0) != static_cast<ssize_t>(header->bytes))
        co_return false;
      if (!header->address.empty()) {
        peer_.address = header->address;
        host_.named(this);
      }
      co_return true;
    }
    if (count < 0) {
      const bool is_ready = co_await ready(Socket::wait_read);
      if (!is_ready) co_return false;
      continue;
    }
    // The socket stays readable for the part that is here, so its readiness tells nothing.
    Timer pause(socket_.get_executor(), std::chrono::milliseconds(10));
    co_await pause.async_wait(kAwait);
  }
  co_return false;
}

// ---- bytes ----------------------------------------------------------------------------------------------------------

// False: the client left, or a time limit passed (timed_out_).
Awaitable<bool> HttpConnection::ready(Socket::wait_type what) {
  auto [ec] = co_await socket_.async_wait(what, kAwait);
  co_return !ec && !timed_out_ && !lost_;
}

Awaitable<bool> HttpConnection::read_more(size_t bytes) {
  const size_t before = in_.size();
  for (;;) {
    in_.resize(before + bytes);
    const Transport::Io io = transport_->read_some(in_.data() + before, bytes);
    in_.resize(before + io.bytes);
    if (io.outcome == Outcome::done) {
      progress_ns_ = host_.now_ns();
      co_return true;
    }
    if (!wants(io.outcome)) co_return false;
    const bool is_ready = co_await ready(wanted(io.outcome));
    if (!is_ready) co_return false;
  }
}

// Until the first byte of a request. Keeps no memory while it waits.
Awaitable<bool> HttpConnection::wait_idle() {
  for (;;) {
    in_.resize(kHeaderPiece);
    const Transport::Io io = transport_->read_some(in_.data(), in_.size());
    in_.resize(io.bytes);
    if (io.outcome == Outcome::done) co_return true;
    if (!wants(io.outcome)) co_return false;
    in_ = std::string();
    const bool is_ready = co_await ready(wanted(io.outcome));
    if (!is_ready) co_return false;
  }
}

Awaitable<bool> HttpConnection::write_all(std::string_view bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    const Transport::Io io = transport_->write_some(bytes.data() + sent, bytes.size() - sent);
    if (io.outcome == Outcome::done) {
      sent += io.bytes;
      continue;
    }
    if (!wants(io.outcome)) co_return false;
    const bool is_ready = co_await ready(wanted(io.outcome));
    if (!is_ready) co_return false;
  }
  co_return true;
}

// ---- requests -------------------------------------------------------------------------------------------------------

Awaitable<void> HttpConnection::session() {
  enter(Phase::header, host_.options().limits.header_timeout_s);
  const bool arrived = co_await arrive();
  while (arrived && !lost_) {
    if (in_.empty()) {
      if (host_.draining()) co_return;
      // A connection that never spoke has as long as a header has.
      enter(Phase::idle, first_ ? host_.options().limits.header_timeout_s : host_.options().limits.idle_timeout_s);
      const bool woken = co_await wait_idle();
      if (!woken) co_return;
    }
    first_ = false;
    Incoming incoming = co_await read_request();
    if (lost_ || (incoming.request == nullptr && !incoming.refusal)) co_return;
    answer(incoming);
    incoming = {};  // what the handler needs it holds itself
    co_await watch();
    if (lost_) co_return;
    host_.rests(this);
    if (close_after_) {
      co_await linger();
      co_return;
    }
  }
}

// A read that failed: 408 if the client was too slow, else it left.
bool HttpConnection::refuse_slow(Incoming& incoming) {
  const bool slow = std::exchange(timed_out_, false) && !lost_;
  incoming.setup.keep_alive = false;
  if (slow)
    incoming.refuse(408, "request: the client took too long to send it");
  else
    incoming.request = nullptr;
  return false;
}

Awaitable<Incoming> HttpConnection::read_request() {
  Incoming incoming;
  incoming.setup.request_id = make_request_id();
  incoming.setup.keep_alive = false;
  enter(Phase::header, host_.options().limits.header_timeout_s);
  unread_ = true;
  HttpReader reader(host_.options().limits.max_header_bytes);
  const bool header = co_await read_header(reader, incoming);
  if (!header) co_return incoming;
  judge_header(host_.door(arrival_.listener), peer_, reader, incoming);
  // On a path that is none nobody is known yet: what is permitted there is nothing.
  const Permit* permit = incoming.request->permit.get();
  if (incoming.route != nullptr && permit == nullptr) host_.unknown(this);
  if (incoming.route != nullptr && permit != nullptr) {
    const KnownCallers::Use use = host_.recognised(this, permit->principal());
    if (use == KnownCallers::Use::full)
      incoming.refuse(503, "connections: the server has as many requests under way as it may; try again later");
    if (use == KnownCallers::Use::too_many) {
      refuse_share(incoming, "connections: you have as many requests under way as one caller may; wait for some");
    }
    if (use != KnownCallers::Use::taken) incoming.setup.keep_alive = false;
  }
  if (incoming.refusal || incoming.preflight) {
    unread_ = !reader.done();
    if (unread_) incoming.setup.keep_alive = false;
    co_return incoming;
  }
  const bool whole = co_await read_body(reader, incoming);
  if (!whole) co_return incoming;
  unread_ = false;
  incoming.request->body = std::move(reader.body());
  co_return incoming;
}

Awaitable<bool> HttpConnection::read_header(HttpReader& reader, Incoming& incoming) {
  const size_t most = host_.options().limits.max_header_bytes;
  while (!reader.header_done()) {
    if (!in_.empty()) {
      const HttpReader::Step step = reader.put(in_);
      forget(step.used);
      if (step.outcome == HttpReader::Outcome::broken) {
        incoming.refuse(400, "request: not HTTP/1.1 (" + step.message + ")");
        co_return false;
      }
      if (step.outcome != HttpReader::Outcome::header_too_large && reader.header_done()) break;
      if (step.outcome == HttpReader::Outcome::header_too_large || in_.size() > most) {
        incoming.refuse(431, fmt::format("request header: expected at most {} bytes", most));
        co_return false;
      }
    }
    const bool more = co_await read_more(kHeaderPiece);
    if (!more) co_return refuse_slow(incoming);
  }
  co_return true;
}

Awaitable<bool> HttpConnection::read_body(HttpReader& reader, Incoming& incoming) {
  const size_t max_body = incoming.route->max_body_bytes;
  const auto too_large = [&] {
    incoming.refuse(413, fmt::format("request body: expected at most {} bytes", max_body));
  };
  const auto fits = [&](Room room) {
    if (room == Room::taken) return true;
    incoming.setup.keep_alive = false;
    if (room == Room::too_much)
      refuse_share(incoming,
                   "request body: your other requests hold as much of max_bodies_bytes as one caller's may; wait for "
                   "some");
    else
      incoming.refuse(503, "request body: the server has no room for a large one (max_bodies_bytes); try again later");
    return false;
  };
  const uint64_t announced = reader.content_length().value_or(0);
  if (announced > max_body) {
    too_large();
    co_return false;
  }
  const Permit* permit = incoming.request->permit.get();
  const auto room =
      std::make_shared<BodyRoom>(host_.bodies(), permit == nullptr ? std::string() : caller_name(permit->principal()));
  incoming.request->body_room = room;
  if (!fits(room->may_grow_to(static_cast<int64_t>(announced)))) co_return false;
  if (!reader.done() && !incoming.request->header("expect").empty()) {
    const bool written = co_await write_all(kContinue);
    if (!written) co_return refuse_slow(incoming);
  }
  enter(Phase::body, host_.options().limits.body_timeout_s);
  stretch_began_ns_ = phase_began_ns_;
  body_bytes_ = stretch_body_bytes_ = 0;
  while (!reader.done()) {
    if (!in_.empty()) {
      const HttpReader::Step step = reader.put(in_);
      forget(step.used);
      body_bytes_ = reader.body().size();
      if (body_bytes_ > max_body) {
        too_large();
        co_return false;
      }
      if (!fits(room->grow_to(static_cast<int64_t>(body_bytes_)))) co_return false;
      if (step.outcome != HttpReader::Outcome::ok && step.outcome != HttpReader::Outcome::need_more) {
        incoming.refuse(400, "request body: not as its headers say (" + step.message + ")");
        co_return false;
      }
      if (reader.done()) break;
      if (step.outcome == HttpReader::Outcome::ok && step.used > 0) continue;
      if (in_.size() > kMaxChunkOverhead) {
        incoming.refuse(400, "request body: expected the end of a chunk header");
        co_return false;
      }
    }
    const bool more = co_await read_more(kBodyPiece);
    if (!more) co_return refuse_slow(incoming);
  }
  co_return true;
}

void HttpConnection::answer(Incoming& incoming) {
  const HttpLimits& limits = host_.options().limits;
  incoming.setup.route = incoming.route;
  incoming.setup.buffer_bytes = limits.stream_buffer_bytes;
  incoming.setup.slow_reader_timeout_s = limits.slow_reader_timeout_s;
  incoming.setup.idle_comment_s = limits.idle_comment_s;
  if (incoming.request && !incoming.preflight) incoming.setup.permit = incoming.request->permit;
  enter(Phase::responding, 0);
  if (unread_) in_.clear();  // what is left of a refused request
  done_ = false;
  exchange_ = std::make_shared<HttpExchange>(host_.loop(), *this, std::move(incoming.setup));
  if (incoming.refusal) {
    const std::string path = incoming.request ? incoming.request->path : std::string();
    exchange_->send(incoming.refusal->status, "application/json", error_body_for_path(path, *incoming.refusal),
                    incoming.refusal->headers);
  } else if (incoming.preflight) {
    exchange_->send(204, "", {}, {});
  } else {
    const Route& route = *incoming.route;
    exchange_->work(route.quick ? HttpLoop::Workers::quick : HttpLoop::Workers::usual,
                    [&route, request = std::shared_ptr<const HttpRequest>(incoming.request),
                     writer = exchange_->writer()] { route.handler(request, writer); });
  }
}

// Until the answer is sent: notices a client that leaves, and keeps what it sends ahead.
Awaitable<void> HttpConnection::watch() {
  while (!done_) {
    const size_t before = in_.size();
    in_.resize(before + kHeaderPiece);
    const Transport::Io io = transport_->read_some(in_.data() + before, kHeaderPiece);
    in_.resize(before + io.bytes);
    if (io.outcome == Outcome::done) {
      // Part of a refused body is thrown away; a next request is kept, up to a limit.
      if (unread_) in_.clear();
      if (in_.size() > kMaxPipelined) lost();
      continue;
    }
    if (io.outcome == Outcome::closed && unread_) break;  // it shut its side and still reads our refusal
    if (!wants(io.outcome)) {
      lost();
      break;
    }
    if (in_.empty()) in_ = std::string();  // an open stream keeps no buffer
    auto [ec] = co_await socket_.async_wait(wanted(io.outcome), kAwait);
    if (ec && !done_) lost();
  }
  // Only a refusal's last bytes are still on their way here.
  while (!done_) {
    Timer timer(socket_.get_executor(), std::chrono::milliseconds(10));
    co_await timer.async_wait(kAwait);
  }
}

// A close with unread bytes would reset the connection and with it our answer: say that we are done, read on a little.
Awaitable<void> HttpConnection::linger() {
  transport_->say_end();
  if (!unread_) co_return;
  enter(Phase::lingering, 0);
  deadline_ns_ = phase_began_ns_ + kLingerNs;
  for (;;) {
    in_.clear();
    const bool more = co_await read_more(kHeaderPiece);
    if (!more) co_return;
  }
}

void HttpConnection::pump() {
  if (writing_ || exchange_ == nullptr) return;
  for (;;) {
    if (out_sent_ == out_.size()) {
      out_ = exchange_->take();
      out_sent_ = 0;
      if (out_.empty()) break;
    }
    const Transport::Io io = transport_->write_some(out_.data() + out_sent_, out_.size() - out_sent_);
    if (io.outcome == Outcome::done) {
      out_sent_ += io.bytes;
      exchange_->sent(io.bytes);
      continue;
    }
    if (!wants(io.outcome)) return lost();
    writing_ = true;
    socket_.async_wait(wanted(io.outcome), [self = shared_from_this()](error_code ec) {
      self->writing_ = false;
      if (ec || self->exchange_ == nullptr) return self->lost();
      self->pump();
    });
    return;
  }
  if (!exchange_->complete()) return;
  close_after_ = !exchange_->keeps_alive() || host_.draining();
  done_ = true;
  std::exchange(exchange_, nullptr)->close(/*client_left=*/false);
  if (lost_) return;
  error_code ec;
  socket_.cancel(ec);  // wakes watch()
}

// The client left, was too slow, or the server stops. The coroutine wakes with an error and ends.
void HttpConnection::lost() {
  if (lost_) return;
  lost_ = done_ = true;
  if (exchange_ != nullptr) std::exchange(exchange_, nullptr)->close(/*client_left=*/true);
  close_socket();
}

void HttpConnection::close_socket() {
  error_code ec;
  socket_.close(ec);
}

void HttpConnection::drain() {
  if (exchange_ != nullptr) exchange_->close_connection_after();
  if (phase_ == Phase::idle) lost();
}

void HttpConnection::look_at_certificate() {
  if (!peer_.tls || lost_ || transport_->still_trusted()) return;
  log::warn("connection of {}: its certificate is revoked, or the list that tells is over its time",
            peer_.tls->subject);
  lost();
}

// Without progress for body_timeout_s, or below the least rate over one such stretch after another: what came at once
// earlier keeps none that has stopped.
bool HttpConnection::is_slow_body(int64_t now) {
  const int64_t stretch_ns = host_.options().limits.body_timeout_s * kNsPerSecond;
  if (now - progress_ns_ > stretch_ns) return true;
  const int64_t elapsed_ns = now - stretch_began_ns_;
  if (elapsed_ns < stretch_ns) return false;
  const auto came = static_cast<double>(body_bytes_ - stretch_body_bytes_);
  if (came < static_cast<double>(elapsed_ns) / 1e9 * kMinBodyBytesPerSecond) return true;
  stretch_began_ns_ = now;
  stretch_body_bytes_ = body_bytes_;
  return false;
}

void HttpConnection::tick(int64_t now) {
  if (lost_ || timed_out_) return;
  bool expired = false;
  switch (phase_) {
    case Phase::idle:
    case Phase::header:
    case Phase::lingering:
      expired = now > deadline_ns_;
      break;
    case Phase::body:
      expired = is_slow_body(now);
      break;
    case Phase::responding:
      if (exchange_ != nullptr && exchange_->tick(now)) lost();
      return;
  }
  if (!expired) return;
  timed_out_ = true;
  error_code ec;
  socket_.cancel(ec);
}

}  // namespace redoubt
