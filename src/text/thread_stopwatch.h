// What a test's own thread has worked, for bounds on costs that grow too fast.
#pragma once

#include "core/clock.h"

namespace redoubt {

// Of this thread's own time, so that other work on the machine counts little; sanitizers cost up to ten times as much.
class Stopwatch {
 public:
  double seconds() const { return static_cast<double>(clock_.now_ns() - start_ns_) * 1e-9 / kSlower; }

 private:
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  static constexpr double kSlower = 10;
#else
  static constexpr double kSlower = 1;
#endif
  ThreadClock clock_;
  const int64_t start_ns_ = clock_.now_ns();
};

}  // namespace redoubt
