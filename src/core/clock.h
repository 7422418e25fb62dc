// Time as a parameter: production passes SteadyClock and SystemWallClock, tests a ManualClock and a ManualWallClock.
// Durations are measured by Clock, which only goes forward; dates, expiries and budgets of a day by WallClock, which
// the machine's administrator may set in either direction.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <ctime>

namespace redoubt {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const = 0;  // monotonic, since an arbitrary start
};

class SteadyClock final : public Clock {
 public:
  int64_t now_ns() const override {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

// What the calling thread has worked: a span of it counts no other work on the machine. To be read by one thread.
class ThreadClock final : public Clock {
 public:
  int64_t now_ns() const override {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }
};

class ManualClock final : public Clock {
 public:
  int64_t now_ns() const override { return now_ns_.load(); }
  void advance_ns(int64_t ns) { now_ns_ += ns; }

 private:
  std::atomic<int64_t> now_ns_{0};
};

class WallClock {
 public:
  virtual ~WallClock() = default;
  virtual int64_t now_ms() const = 0;  // since 1970-01-01 00:00 UTC; may jump
  int64_t now_s() const { return now_ms() / 1000; }
};

class SystemWallClock final : public WallClock {
 public:
  int64_t now_ms() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

class ManualWallClock final : public WallClock {
 public:
  explicit ManualWallClock(int64_t now_s = 1'800'000'000) : now_ms_(now_s * 1000) {}
  int64_t now_ms() const override { return now_ms_.load(); }
  void advance_ms(int64_t ms) { now_ms_ += ms; }

 private:
  std::atomic<int64_t> now_ms_;
};

}  // namespace redoubt
