// The memory of request bodies, of all connections together: while they are read, wait for a worker or for a model, and
// are handled. Of each body the first kFreeBodyBytes are not counted, so that small ones always find room; what they
// can take is bounded by the number of connections. Thread safety: BodyBudget any; a BodyRoom one thread at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace redoubt {

inline constexpr int64_t kFreeBodyBytes = 64 << 10;

class BodyBudget {
 public:
  explicit BodyBudget(int64_t bytes) : bytes_(bytes) {}
  bool take(int64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= bytes_) return true;
    give_back(bytes);
    return false;
  }
  void give_back(int64_t bytes) { used_.fetch_sub(bytes); }
  int64_t used_bytes() const { return used_.load(); }

 private:
  const int64_t bytes_;
  std::atomic<int64_t> used_{0};
};

// One body's, given back when it goes.
class BodyRoom {
 public:
  explicit BodyRoom(std::shared_ptr<BodyBudget> budget) : budget_(std::move(budget)) {}
  BodyRoom(const BodyRoom&) = delete;
  BodyRoom& operator=(const BodyRoom&) = delete;
  ~BodyRoom() { budget_->give_back(counted_); }

  // False: there is no room for a body of so many bytes. What was counted stays counted.
  bool grow_to(int64_t body_bytes) {
    const int64_t more = std::max<int64_t>(0, body_bytes - kFreeBodyBytes) - counted_;
    if (more <= 0) return true;
    if (!budget_->take(more)) return false;
    counted_ += more;
    return true;
  }
  // Would there be room for it now? Nothing is counted: a client may say more than it sends.
  bool may_grow_to(int64_t body_bytes) {
    const int64_t counted = counted_;
    if (!grow_to(body_bytes)) return false;
    budget_->give_back(std::exchange(counted_, counted) - counted);
    return true;
  }

 private:
  const std::shared_ptr<BodyBudget> budget_;
  int64_t counted_ = 0;
};

}  // namespace redoubt
