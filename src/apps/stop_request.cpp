#include "apps/stop_request.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <array>
#include <cstdlib>

namespace redoubt {
namespace {

struct Named {
  int number;
  const char* name;
};
constexpr std::array<Named, 3> kSignals = {{{SIGINT, "SIGINT"}, {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"}}};
constexpr int kShellBase = 128;

sigset_t signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const Named& one : kSignals) {
    struct sigaction now {};  // what nohup or a script's & had ignored stays ignored: waited for, it would come
    const bool is_ignored = sigaction(one.number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
    if (is_ignored && one.number != SIGTERM) continue;  // SIGTERM also ends the waiting thread
    sigaddset(&set, one.number);
  }
  return set;
}

}  // namespace

StopRequest::StopRequest() {
  const sigset_t set = signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  waiter_ = std::thread([this, set] {
    for (;;) {
      int which = 0;
      sigwait(&set, &which);
      if (is_over_) return;
      if (is_set_) std::_Exit(kShellBase + which);
      signal_ = which;
      is_set_ = true;
    }
  });
}

StopRequest::~StopRequest() {
  is_over_ = true;
  pthread_kill(waiter_.native_handle(), SIGTERM);
  waiter_.join();
}

Error StopRequest::error(const std::string& what) const {
  for (const Named& one : kSignals) {
    if (one.number == signal_)
      return {ErrorCode::cancelled, fmt::format("{}: stopped by {}; nothing is left of it", what, one.name), one.name};
  }
  return {ErrorCode::cancelled, what + ": stopped", {}};
}

int status_of_stop(const Error& error) {
  if (error.code != ErrorCode::cancelled) return 0;
  for (const Named& one : kSignals) {
    if (error.param == one.name) return kShellBase + one.number;
  }
  return 0;
}

}  // namespace redoubt
