// The memory of request bodies, of all connections together: while they are read, wait for a worker or for a model, and
// are handled; and what working on them takes beside them, which may be a hundred times as much. Of each body the first
// kFreeBodyBytes are not counted, nor work of less than kFreeWorkBytes, so that small ones always find room; what they
// can take is bounded by the number of connections and of workers. Where much was given back, the allocator is made to
// give it back to the system: on its own it keeps most of it.
// Thread safety: BodyBudget any; a BodyRoom one thread at a time.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

namespace redoubt {

inline constexpr int64_t kFreeBodyBytes = 64 << 10;
inline constexpr int64_t kFreeWorkBytes = 4 << 20;

class BodyBudget {
 public:
  explicit BodyBudget(int64_t bytes) : bytes_(bytes) {}
  ~BodyBudget();
  BodyBudget(const BodyBudget&) = delete;
  BodyBudget& operator=(const BodyBudget&) = delete;

  bool take(int64_t bytes) {
    if (used_.fetch_add(bytes) + bytes <= bytes_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  // The same for one who holds `own` of it already; who is alone finds room for anything.
  bool take_beside(int64_t own, int64_t bytes) {
    const int64_t before = used_.fetch_add(bytes);
    if (before == own || before + bytes <= bytes_) return true;
    used_.fetch_sub(bytes);
    return false;
  }
  void give_back(int64_t bytes);
  int64_t used_bytes() const { return used_.load(); }

 private:
  void return_memory();  // a thread's, from the first large body on

  const int64_t bytes_;
  std::atomic<int64_t> used_{0};
  std::atomic<int64_t> given_back_{0};  // since memory was last returned to the system

  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_wanted_ = false, is_stopping_ = false;
  std::thread returner_;
};

// At most how much memory it takes to parse a body and to make a prompt of it, as measured of the worst ones.
int64_t work_bytes(std::string_view body);

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

  // Room for work on the body, while it is under way.
  class Work {
   public:
    Work(std::shared_ptr<BodyBudget> budget, int64_t bytes) : budget_(std::move(budget)), bytes_(bytes) {}
    Work(Work&& other) noexcept : budget_(std::move(other.budget_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Work& operator=(Work&&) = delete;
    ~Work() {
      if (bytes_ > 0) budget_->give_back(bytes_);
    }

   private:
    std::shared_ptr<BodyBudget> budget_;
    int64_t bytes_;
  };
  // nullopt: there is none now.
  std::optional<Work> begin_work(int64_t bytes) {
    if (bytes < kFreeWorkBytes) return Work(nullptr, 0);
    if (!budget_->take_beside(counted_, bytes)) return std::nullopt;
    return Work(budget_, bytes);
  }

 private:
  const std::shared_ptr<BodyBudget> budget_;
  int64_t counted_ = 0;
};

}  // namespace redoubt
