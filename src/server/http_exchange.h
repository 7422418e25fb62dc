// One request's answer on its way out: what handlers have written (any thread) and what the connection has taken (the
// loop's thread). Knows HTTP/1.1 framing, and nothing of sockets.
//
// Lifetime: shared by the connection (while the answer is under way) and the writers of handlers (as long as they
// like). The connection is borrowed and detached with close(); the loop outlives its connections, not the exchanges.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "server/http.h"

namespace redoubt {

// Runs tasks on the loop's thread or a worker's, from any thread, until the server is gone.
class HttpLoop {
 public:
  enum class Workers : uint8_t { usual, quick };  // as Route::quick says
  virtual ~HttpLoop() = default;
  virtual void post(std::function<void()> task) = 0;
  virtual void post_after(std::chrono::milliseconds after, std::function<void()> task) = 0;
  virtual void post_to_worker(Workers workers, uint64_t number, std::function<void()> task) = 0;
  virtual void take_back_from_workers(uint64_t number) = 0;  // what has not begun goes without being run
};

// The side of a connection that an exchange sees.
class HttpOutlet {
 public:
  virtual void pump() = 0;  // there may be bytes to take; loop thread
  virtual void cut() = 0;   // give the connection up; loop thread

 protected:
  ~HttpOutlet() = default;
};

class HttpExchange : public std::enable_shared_from_this<HttpExchange> {
 public:
  struct Setup {
    std::string request_id;
    const Route* route = nullptr;    // whose handler it is, for the log
    HttpHeaders headers;             // in every answer: CORS
    std::shared_ptr<Permit> permit;  // the request's; without one only refusals and status answers leave
    bool head = false;               // no body
    bool http_1_0 = false;           // streams are not chunked, they end with the connection
    bool keep_alive = true;
    size_t buffer_bytes = 256 << 10;
    int slow_reader_timeout_s = 60;
    int idle_comment_s = 10;
  };
  HttpExchange(std::shared_ptr<HttpLoop> loop, HttpOutlet& outlet, Setup setup);

  // The writer given to a handler. When the last copy goes and nothing was answered, the client gets a 500; a stream
  // that was not ended is cut.
  std::shared_ptr<ResponseWriter> writer();

  // Any thread.
  void send(int status, std::string_view content_type, std::string body, HttpHeaders headers);
  void start_stream(int status, std::string_view content_type, HttpHeaders headers, std::string idle_comment);
  void write(std::string bytes);
  void end();
  void on_close(std::function<void(bool)> callback);
  void on_backpressure(std::function<void(bool)> callback);
  void resume(std::function<void()> rest, std::chrono::milliseconds after);
  // A part of the handler, by a worker. It waits for one no longer than its client does: when the answer is over it
  // goes at once, with the request that it holds, so that all who wait have a connection each.
  void work(HttpLoop::Workers workers, std::function<void()> part);
  void abandoned();
  void close_connection_after() { keep_alive_ = false; }  // as far as the header is not yet made

  // Loop thread.
  std::string take();            // bytes to send now; empty: none
  void sent(size_t bytes);       // of those taken
  bool complete();               // everything was taken and sent
  bool keeps_alive();            // what the header said; call when complete
  void close(bool client_left);  // once; detaches the connection
  // Writes idle comments; true: the reader is too slow, cut it.
  bool tick(int64_t now_ns);

 private:
  void make_head(int status, std::string_view content_type, const HttpHeaders& headers, int64_t content_length);
  const ApiError* withheld(int status) const;
  bool is_over();
  void run(const std::function<void()>& part);
  void wake(std::unique_lock<std::mutex>& lock);
  void note_backpressure(std::unique_lock<std::mutex>& lock);

  const std::shared_ptr<HttpLoop> loop_;
  HttpOutlet* outlet_;  // loop thread only; null once closed
  const Setup setup_;
  std::atomic<bool> keep_alive_;

  std::mutex mutex_;
  std::string pending_;   // framed already, not yet taken
  size_t in_flight_ = 0;  // taken, not yet sent
  bool begun_ = false, streaming_ = false, chunked_ = false, ended_ = false;
  bool over_ = false, client_left_ = false;
  bool said_keep_alive_ = false;
  bool wake_posted_ = false;
  bool behind_ = false, told_behind_ = false;
  int64_t behind_since_ns_ = 0, progress_ns_ = 0, revoked_since_ns_ = 0;
  uint64_t part_number_ = 0;  // of the newest part
  std::string idle_comment_;
  std::function<void(bool)> on_close_, on_backpressure_;
};

// For HttpOptions and messages: "Not Found".
std::string_view http_reason(int status);

}  // namespace redoubt
