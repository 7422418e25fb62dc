#include "server/http_workers.h"

#include <atomic>

namespace redoubt {

HttpWorkers::HttpWorkers(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

HttpWorkers::~HttpWorkers() {
  std::map<uint64_t, std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(tasks_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

uint64_t HttpWorkers::next_number() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

std::function<void()> HttpWorkers::take_back(uint64_t number) {
  const std::lock_guard lock(mutex_);
  auto taken = tasks_.extract(number);
  return taken.empty() ? nullptr : std::move(taken.mapped());
}

void HttpWorkers::post(uint64_t number, std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    tasks_.emplace(number, std::move(task));
  }
  wake_.notify_one();
}

void HttpWorkers::work() {
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
      if (stopping_) return;
      task = std::move(tasks_.extract(tasks_.begin()).mapped());
    }
    task();
  }
}

}  // namespace redoubt
