// What a test's own thread has worked, for bounds on costs that grow too fast.
#pragma once

#include <ctime>

namespace redoubt {

// Of this thread's own time, so that other work on the machine counts little; sanitizers cost up to ten times as much.
class Stopwatch {
 public:
  double seconds() const { return (now() - start_) / kSlower; }

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr double kSlower = 10;
#else
  static constexpr double kSlower = 1;
#endif
  static double now() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  }
  const double start_ = now();
};

}  // namespace redoubt
