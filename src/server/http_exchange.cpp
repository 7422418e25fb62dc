#include "server/http_exchange.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>

#include "core/log.h"
#include "governance/permit.h"
#include "server/api_error.h"
#include "server/http_workers.h"

namespace redoubt {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
// A handler that goes on writing after on_backpressure(true) is held to this many buffers before its client is cut.
constexpr size_t kMaxBuffers = 16;
// How long a stream's producer has to say why it ends, once the permit was taken back. Then the client is cut.
constexpr int64_t kRevokedNs = kNsPerSecond / 2;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// No value may begin a header of its own.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += ": ";
  for (const char c : value) out += (static_cast<unsigned char>(c) < 0x20 && c != '\t') ? ' ' : c;
  out += "\r\n";
}

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                     utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

class Writer final : public ResponseWriter {
 public:
  explicit Writer(std::shared_ptr<HttpExchange> exchange) : exchange_(std::move(exchange)) {}
  ~Writer() override { exchange_->abandoned(); }
  void send(int status, std::string_view content_type, std::string body, HttpHeaders headers) override {
    exchange_->send(status, content_type, std::move(body), std::move(headers));
  }
  void start_stream(int status, std::string_view content_type, HttpHeaders headers, std::string idle_comment) override {
    exchange_->start_stream(status, content_type, std::move(headers), std::move(idle_comment));
  }
  void write(std::string bytes) override { exchange_->write(std::move(bytes)); }
  void end() override { exchange_->end(); }
  void on_close(std::function<void(bool)> callback) override { exchange_->on_close(std::move(callback)); }
  void on_backpressure(std::function<void(bool)> callback) override { exchange_->on_backpressure(std::move(callback)); }
  void resume(std::function<void()> rest, std::chrono::milliseconds after) override {
    exchange_->resume(std::move(rest), after);
  }

 private:
  std::shared_ptr<HttpExchange> exchange_;
};

}  // namespace

HttpExchange::HttpExchange(std::shared_ptr<HttpLoop> loop, HttpOutlet& outlet, Setup setup)
    : loop_(std::move(loop)), outlet_(&outlet), setup_(std::move(setup)), keep_alive_(setup_.keep_alive) {}

std::shared_ptr<ResponseWriter> HttpExchange::writer() { return std::make_shared<Writer>(shared_from_this()); }

void HttpExchange::make_head(int status, std::string_view content_type, const HttpHeaders& headers,
                             int64_t content_length) {
  const bool bodiless = status == 204 || status == 304;
  chunked_ = content_length < 0 && !setup_.http_1_0 && !setup_.head && !bodiless;
  said_keep_alive_ = keep_alive_ && (content_length >= 0 || chunked_ || setup_.head || bodiless);
  std::string& out = pending_;
  out += fmt::format("HTTP/1.1 {} {}\r\n", status, http_reason(status));
  append_header(out, "Date", http_date());
  if (!content_type.empty() && !bodiless) append_header(out, "Content-Type", content_type);
  if (content_length >= 0 && !bodiless) append_header(out, "Content-Length", std::to_string(content_length));
  if (chunked_) append_header(out, "Transfer-Encoding", "chunked");
  if (content_type.starts_with("text/event-stream")) {
    append_header(out, "Cache-Control", "no-cache");
    append_header(out, "X-Accel-Buffering", "no");
  }
  if (!said_keep_alive_) {
    append_header(out, "Connection", "close");
  } else if (setup_.http_1_0) {
    append_header(out, "Connection", "keep-alive");
  }
  append_header(out, "x-request-id", setup_.request_id);
  for (const auto& [name, value] : setup_.headers) append_header(out, name, value);
  for (const auto& [name, value] : headers) append_header(out, name, value);
  out += "\r\n";
}

// Unlocks. The wake is posted once for all writes until the loop has come round.
void HttpExchange::wake(std::unique_lock<std::mutex>& lock) {
  const bool post = !wake_posted_ && !over_;
  wake_posted_ = wake_posted_ || post;
  lock.unlock();
  if (!post) return;
  loop_->post([self = shared_from_this()] {
    {
      const std::lock_guard guard(self->mutex_);
      self->wake_posted_ = false;
    }
    if (self->outlet_ != nullptr) self->outlet_->pump();
  });
}

// The last look at what leaves: an answer whose permit nobody checked (a handler that forgot to ask), or whose permit
// was taken back, is replaced by a refusal.
const ApiError* HttpExchange::withheld(int status) const {
  if (setup_.permit == nullptr || status >= 400) return nullptr;
  static const ApiError kUnchecked = status_error(500, "the request was answered without a permit");
  static const ApiError kRevoked{403, "access was revoked", "permission_error", {}, "revoked", {}};
  static const ApiError kAway =
      api_error(unavailable("who may do what cannot be told now: the database is away, so there is no answer"));
  if (!setup_.permit->cleared()) return &kUnchecked;
  if (setup_.permit->ended_by_outage()) return &kAway;
  return setup_.permit->revoked() ? &kRevoked : nullptr;
}

void HttpExchange::send(int status, std::string_view content_type, std::string body, HttpHeaders headers) {
  if (const ApiError* error = withheld(status)) {
    log::error("request {}: {}", setup_.request_id, error->message);
    return send(error->status, "application/json", error_body(*error), error->headers);
  }
  std::unique_lock lock(mutex_);
  if (begun_ || over_) return;
  begun_ = ended_ = true;
  progress_ns_ = now_ns();
  make_head(status, content_type, headers, static_cast<int64_t>(body.size()));
  if (!setup_.head && status != 204 && status != 304) pending_ += body;
  wake(lock);
}

void HttpExchange::start_stream(int status, std::string_view content_type, HttpHeaders headers,
                                std::string idle_comment) {
  if (withheld(status) != nullptr) return send(status, {}, {}, {});
  std::unique_lock lock(mutex_);
  if (begun_ || over_) return;
  begun_ = streaming_ = true;
  progress_ns_ = now_ns();
  idle_comment_ = std::move(idle_comment);
  make_head(status, content_type, headers, -1);
  wake(lock);
}

void HttpExchange::write(std::string bytes) {
  std::unique_lock lock(mutex_);
  if (!streaming_ || ended_ || over_ || bytes.empty() || setup_.head) return;
  if (pending_.size() + in_flight_ > kMaxBuffers * setup_.buffer_bytes) {
    over_ = client_left_ = true;  // nothing more is kept; on_close follows from the loop
    pending_ = {};
    lock.unlock();
    loop_->post([self = shared_from_this()] {
      if (self->outlet_ != nullptr) self->outlet_->cut();
    });
    return;
  }
  if (pending_.empty() && in_flight_ == 0) progress_ns_ = now_ns();
  if (chunked_) {
    pending_ += fmt::format("{:x}\r\n", bytes.size());
    pending_ += bytes;
    pending_ += "\r\n";
  } else {
    pending_ += bytes;
  }
  note_backpressure(lock);
  wake(lock);
}

void HttpExchange::end() {
  std::unique_lock lock(mutex_);
  if (!streaming_ || ended_ || over_) return;
  ended_ = true;
  if (pending_.empty() && in_flight_ == 0) progress_ns_ = now_ns();
  if (chunked_) pending_ += "0\r\n\r\n";
  wake(lock);
}

void HttpExchange::on_close(std::function<void(bool)> callback) {
  bool left = false;
  {
    const std::lock_guard lock(mutex_);
    if (outlet_ != nullptr || !over_) {
      on_close_ = std::move(callback);
      return;
    }
    left = client_left_;
  }
  callback(left);
}

void HttpExchange::on_backpressure(std::function<void(bool)> callback) {
  std::unique_lock lock(mutex_);
  if (over_) return;
  on_backpressure_ = std::move(callback);
  told_behind_ = false;
  note_backpressure(lock);
}

// Posts a change of behind_ to the loop, where it is told in order. Keeps the lock.
void HttpExchange::note_backpressure(std::unique_lock<std::mutex>&) {
  const size_t waiting = pending_.size() + in_flight_;
  if (!behind_ && streaming_ && waiting >= setup_.buffer_bytes) {
    behind_ = true;
    behind_since_ns_ = now_ns();
  } else if (behind_ && waiting < setup_.buffer_bytes / 4) {
    behind_ = false;
  }
  if (behind_ == told_behind_ || !on_backpressure_) return;
  told_behind_ = behind_;
  loop_->post([self = shared_from_this(), behind = behind_] {
    std::function<void(bool)> callback;
    {
      const std::lock_guard lock(self->mutex_);
      if (self->over_) return;
      callback = self->on_backpressure_;
    }
    if (callback) callback(behind);
  });
}

void HttpExchange::resume(std::function<void()> rest, std::chrono::milliseconds after) {
  if (is_over()) return;
  if (after.count() == 0) return work(HttpLoop::Workers::usual, std::move(rest));
  loop_->post_after(after, [self = shared_from_this(), rest = std::move(rest)] { self->resume(rest, {}); });
}

bool HttpExchange::is_over() {
  const std::lock_guard lock(mutex_);
  return over_;
}

// No lock is held over calls of the loop: a part that goes lets go of its writer.
void HttpExchange::work(HttpLoop::Workers workers, std::function<void()> part) {
  const uint64_t number = HttpWorkers::next_number();
  {
    const std::lock_guard lock(mutex_);
    part_number_ = number;
  }
  loop_->post_to_worker(workers, number, [self = shared_from_this(), part = std::move(part)] { self->run(part); });
  if (is_over()) loop_->take_back_from_workers(number);  // since before it was posted
}

// What a library throws through it costs this request alone.
void HttpExchange::run(const std::function<void()>& part) {
  if (is_over()) return;
  try {  // our own code throws nothing
    part();
  } catch (const std::exception& e) {
    const Route* route = setup_.route;
    log::error("request {}: {} {}: the handler failed: {}", setup_.request_id, route->method, route->path, e.what());
    const ApiError error = status_error(500, "the request failed inside the server");
    send(error.status, "application/json", error_body(error), error.headers);
  }
}

void HttpExchange::abandoned() {
  {
    const std::lock_guard lock(mutex_);
    if (ended_ || over_) return;
    if (begun_) {
      loop_->post([self = shared_from_this()] {
        if (self->outlet_ != nullptr) self->outlet_->cut();
      });
      return;
    }
  }
  send(500, "application/json", error_body(status_error(500, "the request ended without an answer")), {});
}

std::string HttpExchange::take() {
  const std::lock_guard lock(mutex_);
  in_flight_ += pending_.size();
  return std::exchange(pending_, {});
}

void HttpExchange::sent(size_t bytes) {
  std::unique_lock lock(mutex_);
  in_flight_ -= bytes;
  progress_ns_ = now_ns();
  note_backpressure(lock);
}

bool HttpExchange::complete() {
  const std::lock_guard lock(mutex_);
  return ended_ && pending_.empty() && in_flight_ == 0;
}

bool HttpExchange::keeps_alive() {
  const std::lock_guard lock(mutex_);
  return said_keep_alive_ && keep_alive_;
}

void HttpExchange::close(bool client_left) {
  std::function<void(bool)> callback, dropped;
  uint64_t part = 0;
  {
    const std::lock_guard lock(mutex_);
    if (outlet_ == nullptr) return;
    part = part_number_;
    outlet_ = nullptr;
    over_ = true;
    client_left_ = client_left;
    pending_ = {};
    callback = std::move(on_close_);
    on_close_ = nullptr;
    dropped = std::move(on_backpressure_);  // destroyed outside the lock: it may hold a writer
    on_backpressure_ = nullptr;
  }
  loop_->take_back_from_workers(part);
  if (callback) callback(client_left);
}

bool HttpExchange::tick(int64_t now) {
  std::unique_lock lock(mutex_);
  if (over_ || !begun_) return false;
  if (setup_.permit != nullptr && streaming_ && !ended_ && setup_.permit->revoked()) {
    if (revoked_since_ns_ == 0) revoked_since_ns_ = now;
    if (now - revoked_since_ns_ > kRevokedNs) return true;
  }
  const int64_t patience = setup_.slow_reader_timeout_s * kNsPerSecond;
  if (behind_ && now - behind_since_ns_ > patience) return true;
  const bool waiting = !pending_.empty() || in_flight_ > 0;
  if (waiting) return now - progress_ns_ > patience;
  if (streaming_ && !ended_ && !idle_comment_.empty() && now - progress_ns_ >= setup_.idle_comment_s * kNsPerSecond) {
    std::string comment = idle_comment_;
    lock.unlock();
    write(std::move(comment));
  }
  return false;
}

std::string_view http_reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 529:
      return "Overloaded";
    default:
      return status < 400 ? "OK" : "Error";
  }
}

}  // namespace redoubt
