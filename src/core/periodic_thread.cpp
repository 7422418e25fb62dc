#include "core/periodic_thread.h"

#include <utility>

namespace redoubt {

void PeriodicThread::start(Pause pause, std::function<void()> work) {
  thread_ = std::thread([this, pause = std::move(pause), work = std::move(work)] {
    std::unique_lock lock(mutex_);
    while (!stopped_.wait_for(lock, pause(), [this] { return is_stopping_; })) {
      lock.unlock();
      work();
      lock.lock();
    }
  });
}

bool PeriodicThread::stop() {
  if (!thread_.joinable()) return false;
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  stopped_.notify_all();
  thread_.join();
  return true;
}

}  // namespace redoubt
