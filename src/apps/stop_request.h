// Ctrl-C and its kin as a request to stop, for a command that has something to tidy up. The signals are blocked in
// every thread that is made from then on (make this first) and waited for in one; the second ends the process at once.
#pragma once

#include <atomic>
#include <thread>

#include "core/result.h"

namespace redoubt {

class StopRequest {
 public:
  StopRequest();
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  const std::atomic<bool>* flag() const { return &is_set_; }
  // What cancelled work ends with: `what` was stopped, and by what; main makes the shell's exit status of `param`.
  Error error(const std::string& what) const;

 private:
  std::atomic<bool> is_set_{false}, is_over_{false};
  std::atomic<int> signal_{0};
  std::thread waiter_;  // last: it uses the rest
};

// 128 and the signal's number, as shells count; 0: the error is not StopRequest's.
int status_of_stop(const Error& error);

}  // namespace redoubt
