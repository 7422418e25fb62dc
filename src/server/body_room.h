// The memory of request bodies, of all connections together: while they are read, wait for a worker or for a model, and
// are handled; and what working on them takes beside them, which may be a hundred times as much. Of each body the first
// kFreeBodyBytes are not counted, nor work of less than kFreeWorkBytes, so that small ones always find room; what they
// can take is bounded by the number of connections and of workers. One caller has a share of it as of connections
// (known_callers.h). A body that is its caller's only one finds room while an eighth is left after it; of the last
// eighth it may have a sixteenth of what is left, so that no few callers fill it, and that work on it, which takes ten
// times as much, finds room beside it. Work alone finds whatever is left. Where much was given back, the
// allocator is made to give it back to the system: on its own it keeps most of it. Thread safety: BodyBudget any; a
// BodyRoom one thread at a time.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>

namespace redoubt {

inline constexpr int64_t kFreeBodyBytes = 64 << 10;
inline constexpr int64_t kFreeWorkBytes = 4 << 20;

enum class Room : uint8_t {
  taken,
  too_much,  // their other bodies have all that one caller may
  none,
};

class BodyBudget {
 public:
  explicit BodyBudget(int64_t bytes) : bytes_(bytes) {}
  ~BodyBudget();
  BodyBudget(const BodyBudget&) = delete;
  BodyBudget& operator=(const BodyBudget&) = delete;

  enum class For : uint8_t { body, work };
  // For a body of which `own` is counted already, of this caller (caller_name). Work on the only body that there is
  // finds room whatever it takes.
  Room take(const std::string& who, int64_t own, int64_t bytes, For what);
  void give_back(const std::string& who, int64_t bytes);
  int64_t used_bytes() const;

 private:
  void return_memory();  // a thread's, from the first large body on

  const int64_t bytes_;

  mutable std::mutex mutex_;
  int64_t used_ = 0;
  int64_t given_back_ = 0;                           // since memory was last returned to the system
  std::unordered_map<std::string, int64_t> theirs_;  // of `used_`, each caller's
  std::condition_variable wake_;
  bool is_wanted_ = false, is_stopping_ = false;
  std::thread returner_;
};

// At most how much memory it takes to parse a body and to make a prompt of it, as measured of the worst ones.
int64_t work_bytes(std::string_view body);

// One body's, given back when it goes.
class BodyRoom {
 public:
  explicit BodyRoom(std::shared_ptr<BodyBudget> budget, std::string who = "")
      : budget_(std::move(budget)), who_(std::move(who)) {}
  BodyRoom(const BodyRoom&) = delete;
  BodyRoom& operator=(const BodyRoom&) = delete;
  ~BodyRoom() { budget_->give_back(who_, counted_); }

  // Whether there is room for a body of so many bytes. Where there is none, what was counted stays counted.
  Room grow_to(int64_t body_bytes) {
    const int64_t more = std::max<int64_t>(0, body_bytes - kFreeBodyBytes) - counted_;
    if (more <= 0) return Room::taken;
    const Room room = budget_->take(who_, counted_, more, BodyBudget::For::body);
    if (room == Room::taken) counted_ += more;
    return room;
  }
  // Would there be room for it now? Nothing is counted: a client may say more than it sends.
  Room may_grow_to(int64_t body_bytes) {
    const int64_t counted = counted_;
    const Room room = grow_to(body_bytes);
    budget_->give_back(who_, std::exchange(counted_, counted) - counted);
    return room;
  }

  // Room for work on the body, while it is under way.
  class Work {
   public:
    Work() = default;  // too little to be counted
    Work(std::shared_ptr<BodyBudget> budget, std::string who, int64_t bytes)
        : budget_(std::move(budget)), who_(std::move(who)), bytes_(bytes) {}
    Work(Work&& other) noexcept
        : budget_(std::move(other.budget_)), who_(std::move(other.who_)), bytes_(std::exchange(other.bytes_, 0)) {}
    Work& operator=(Work&&) = delete;
    ~Work() {
      if (bytes_ > 0) budget_->give_back(who_, bytes_);
    }

   private:
    std::shared_ptr<BodyBudget> budget_;
    std::string who_;
    int64_t bytes_ = 0;
  };
  // nullopt: there is none now.
  std::optional<Work> begin_work(int64_t bytes) {
    if (bytes < kFreeWorkBytes) return Work();
    if (budget_->take(who_, counted_, bytes, BodyBudget::For::work) != Room::taken) return std::nullopt;
    return Work(budget_, who_, bytes);
  }

 private:
  const std::shared_ptr<BodyBudget> budget_;
  const std::string who_;
  int64_t counted_ = 0;
};

}  // namespace redoubt
