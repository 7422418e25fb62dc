// Threads that run handlers, away from the sockets' loop, in the order in which these were posted. Thread safety: any.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace redoubt {

class HttpWorkers {
 public:
  explicit HttpWorkers(int threads);
  ~HttpWorkers();  // drops what has not begun, waits for what has

  // Later tasks have larger numbers, of all workers together.
  static uint64_t next_number();
  void post(uint64_t number, std::function<void()> task);
  void post(std::function<void()> task) { post(next_number(), std::move(task)); }
  // What has not begun, and now never will; null: there is none of that number.
  std::function<void()> take_back(uint64_t number);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<uint64_t, std::function<void()>> tasks_;  // at most one a connection
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace redoubt
