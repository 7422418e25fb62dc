// Threads that run handlers, away from the sockets' loop.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace redoubt {

class HttpWorkers {
 public:
  explicit HttpWorkers(int threads);
  ~HttpWorkers();  // drops what has not begun, waits for what has

  void post(std::function<void()> task);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;  // at most one a connection
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace redoubt
