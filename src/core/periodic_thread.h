// A thread that does something every so often until it is stopped: the first time after the first pause.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace redoubt {

class PeriodicThread {
 public:
  using Pause = std::function<std::chrono::milliseconds()>;  // asked for before each pause, on the thread

  PeriodicThread() = default;
  ~PeriodicThread() { stop(); }
  PeriodicThread(const PeriodicThread&) = delete;
  PeriodicThread& operator=(const PeriodicThread&) = delete;

  void start(Pause pause, std::function<void()> work);  // once
  void start(std::chrono::milliseconds pause, std::function<void()> work) {
    start([pause] { return pause; }, std::move(work));
  }
  // Cuts a pause short and waits for work under way; from that work itself it must not be called. False: it does not
  // run.
  bool stop();

 private:
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool is_stopping_ = false;
  std::thread thread_;
};

}  // namespace redoubt
