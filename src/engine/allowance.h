// How many tokens a request may generate, told from outside while it runs: the meeting point of limits and step loop.
//
// The grants are totals for each choice, counted from the beginning of its answer, and only grow. A choice that reaches
// its grant is held back, blocks and all, until the grant grows or the allowance is closed; closed, it ends there with
// FinishReason::length, exactly at the granted count, whatever was drafted or preempted on the way. So what a request
// answers is a beginning of its unlimited answer, as long as the last grant, and no timing of the grants shows in it.
// (But for a second think block, which an answer whose thinking is limited does not open: thinking.h.)
// More is asked for early: once per grant, when fewer than `ask_before` tokens of it are left.
//
// Thread safety: extend() and close() from any thread; the step loop reads atomics and takes no lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

namespace redoubt {

class Allowance {
 public:
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  struct Tokens {  // of one choice, from its beginning
    int64_t answer = kUnlimited;
    int64_t thinking = kUnlimited;  // of these, reasoning tokens
  };
  // Told on the engine thread how much a choice has used; must not block. It answers by extend() or close(), at once or
  // later from another thread.
  using Ask = std::function<void(Tokens used)>;

  explicit Allowance(Tokens granted, Ask ask = nullptr, int64_t ask_before = 64)
      : answer_(granted.answer), thinking_(granted.thinking), ask_(std::move(ask)), ask_before_(ask_before) {}

  // Raises the grants to these totals; a lower one than before changes nothing.
  void extend(Tokens granted) {
    raise(answer_, granted.answer);
    raise(thinking_, granted.thinking);
    wake();
  }

  // No more will come. `limit` names the limit that refused, for people.
  void close(std::string limit) {
    {
      const std::lock_guard lock(mutex_);
      if (limit_.empty()) limit_ = std::move(limit);
    }
    closed_.store(true, std::memory_order_release);
    wake();
  }

  std::string limit() const {  // empty until closed
    const std::lock_guard lock(mutex_);
    return limit_;
  }

  // Of the step loop. closed() is read before granted(): what was granted before the end is seen with it.
  bool closed() const { return closed_.load(std::memory_order_acquire); }
  Tokens granted() const {
    return {answer_.load(std::memory_order_relaxed), thinking_.load(std::memory_order_relaxed)};
  }

  // The engine's thread, after a token of a choice that goes on.
  void note(Tokens used) {
    const Tokens now = granted();
    const bool low = used.answer >= now.answer - ask_before_ || used.thinking >= now.thinking - ask_before_;
    if (!low || closed() || (asked_.answer == now.answer && asked_.thinking == now.thinking)) return;
    asked_ = now;
    if (ask_) ask_(used);
  }

  // The engine's, before the request may wait: how to have the step loop look again.
  void set_waker(std::function<void()> waker) {
    const std::lock_guard lock(mutex_);
    waker_ = std::move(waker);
  }

 private:
  static void raise(std::atomic<int64_t>& total, int64_t to) {
    int64_t before = total.load(std::memory_order_relaxed);
    while (before < to && !total.compare_exchange_weak(before, to, std::memory_order_release)) {
    }
  }
  void wake() {
    std::function<void()> waker;
    {
      const std::lock_guard lock(mutex_);
      waker = waker_;
    }
    if (waker) waker();
  }

  std::atomic<int64_t> answer_, thinking_;
  std::atomic<bool> closed_{false};
  const Ask ask_;
  const int64_t ask_before_;
  Tokens asked_{-1, -1};  // the grant that more was asked for; the engine thread's
  mutable std::mutex mutex_;
  std::string limit_;
  std::function<void()> waker_;
};

}  // namespace redoubt
