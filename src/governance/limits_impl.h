// The inside of Limits: counters, what is handed out of them, and the thread that speaks to the ledger.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "governance/limit_counter.h"
#include "governance/limit_index.h"
#include "governance/limits.h"
#include "governance/quota_ledger.h"

namespace redoubt {

inline int64_t seconds_up(int64_t ms) { return (ms + 999) / 1000; }
inline Reservation::NoMore shutting_down() { return {"the server is shutting down", true}; }

class Limits::Impl {
 public:
  struct Item {
    std::shared_ptr<LimitCounter> counter;
    int64_t handed = 0, used = 0;  // of the counter's unit
  };
  struct Holding {  // of one request; under the limits' lock
    std::vector<Item> items;
    ModelPrice price;
    int64_t prompt = 0, answer = 0;  // answer: of each choice, granted so far
    int64_t most_answer = Reservation::kUnlimited;
    int choices = 1;
    bool may_think = true, bounds_thinking = false;
    bool is_least = false;  // what is asked for is a part of what will be
  };
  using Bounds = Reservation::Bounds;

  Impl(QuotaLedger& ledger, LimitsOptions options, const Clock& clock, const WallClock& wall);
  void start();
  void stop();
  void set_rules(LimitRules rules);

  std::optional<LimitRefusal> reserve(const LimitRequest& request, Holding& holding, Bounds& bounds, Holding* taken);
  std::optional<LimitRefusal> foresee(const LimitRequest& request);
  Reservation::Granted granted(const Holding& holding) const;
  void settle(Holding& holding, const UseAmounts& actual);
  void refund(Holding& holding);
  void queue_extension(std::shared_ptr<Holding> holding, Reservation::Granted used, Reservation::OnExtended answer);
  void watch(const std::shared_ptr<Holding>& holding, std::function<void(const std::string&)> on_lost);
  std::optional<int64_t> tokens_left(const Principal& principal, const std::string& model, bool may_wait);
  LimitsStats stats() const;
  Status sync_now();

 private:
  struct Extension {
    std::weak_ptr<Holding> holding;
    Reservation::Granted used;
    Reservation::OnExtended answer;
    int rounds = 0;
  };

  struct Watched {
    std::weak_ptr<Holding> holding;
    std::function<void(const std::string&)> on_lost;
  };

  // Of a request that cannot have `answer` tokens: what lacks.
  struct Lack {
    const Item* hopeless = nullptr;  // has not even what `least` of them need, nor has the ledger
    std::vector<const Item*> items;
    std::vector<uint64_t> rounds;  // of each, that its counter has behind it when it was asked about this
    bool is_answered() const;
  };

  // limits_reserve.cpp; all under the lock
  static UseAmounts use_of(const Holding& holding, int64_t answer);
  static int64_t more_for(const Item& item, const Holding& holding, int64_t answer);
  static Reservation::Granted granted_locked(const Holding& holding);
  int64_t affordable(const Holding& holding, int64_t from, int64_t most, int64_t now_ns) const;
  void hand_out(Holding& holding, int64_t answer, int64_t now_ns);
  void admit(Holding& holding, int64_t answer, int64_t now_ns, Bounds& bounds);
  void take_over(Holding& taken, const Holding& by);
  Lack lack_of(const Holding& holding, int64_t answer, int64_t least, int64_t now_ns) const;
  void ask_for(const Lack& lack, const Holding& holding, int64_t answer);
  const Item* failing(const Holding& holding) const;
  LimitRefusal refuse(const Item& item, const Holding& holding, int64_t answer) const;
  LimitRefusal unavailable(const Item& item) const;
  LimitRefusal count_refusal(LimitRefusal refusal);
  RateStates rates_of(const Holding& holding) const;
  void note_used(Holding& holding, Reservation::Granted used);
  void extend_waiting(std::vector<std::function<void()>>& answers);
  bool extend(Extension& extension, const std::shared_ptr<Holding>& holding,
              std::vector<std::function<void()>>& answers);

  // limits_sync.cpp
  std::vector<LimitIndex::Met> limits_met(std::unique_lock<std::mutex>& lock, const LimitRequest& request) const;
  std::optional<LimitRefusal> find_counters(std::vector<LimitIndex::Met> limits, const LimitRequest& request,
                                            Holding& holding, Bounds& bounds);
  const CalendarPeriods& periods_of(const std::string& time_zone, int64_t now_ms);
  std::shared_ptr<LimitCounter> counter_of(LimitIndex::Met met, const CalendarPeriods& periods);
  void find_lost(std::vector<std::function<void()>>& answers);
  bool ledger_is_away() const;
  void wake_thread();
  void run();
  void prune(std::unique_lock<std::mutex>& lock);
  void give_back(std::unique_lock<std::mutex>& lock);
  void hurry(const std::shared_ptr<LimitCounter>& counter) { urgent_.push_back(counter); }
  using Counters = std::vector<std::shared_ptr<LimitCounter>>;
  using SomeCounters = std::span<const std::shared_ptr<LimitCounter>>;
  Counters due(bool all);
  void look_at_some(Counters& counters);
  Status report(std::unique_lock<std::mutex>& lock, Counters counters, bool all);
  Status report_some(std::unique_lock<std::mutex>& lock, SomeCounters some);
  Result<std::vector<QuotaAnswer>> ask_ledger(std::unique_lock<std::mutex>& lock, std::span<const QuotaReport> reports);
  void record(SomeCounters counters, std::vector<QuotaAnswer> answers);
  void fail(SomeCounters counters, const Error& error);
  void tell(std::unique_lock<std::mutex>& lock);

  QuotaLedger& ledger_;
  const LimitsOptions options_;
  const Clock& clock_;
  const WallClock& wall_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // a report came back
  std::condition_variable wake_;     // for the thread
  std::atomic<bool> woken_{false};
  bool stopping_ = false;
  std::shared_ptr<const LimitIndex> index_;
  std::map<std::string, CalendarPeriods> periods_;  // by time zone
  std::set<std::string> told_zones_;                // in the log: they are not known here
  std::map<QuotaKey, std::shared_ptr<LimitCounter>> counters_;
  // Requests share the lock with the thread, which therefore never looks at all counters at once: at those that
  // somebody waits for or that are low, and at each of the rest in its turn.
  std::vector<std::shared_ptr<LimitCounter>> urgent_;
  std::optional<QuotaKey> looked_at_;  // up to here, in this turn
  std::chrono::steady_clock::time_point looked_{};
  std::vector<Extension> extensions_;
  std::mutex arrived_mutex_;  // held for a push alone: the engine's thread must not wait for a reservation
  std::vector<Extension> arrived_;
  bool has_ended_ = false;  // nobody looks at what arrives any more
  std::vector<Watched> watched_;
  size_t watched_limit_ = 64;  // beyond it those that ended are swept out
  LimitsStats stats_;
  int64_t failed_ns_ = 0;                // when the ledger last failed; 0: it answers
  int64_t failing_ns_ = 0;               // when it began to
  int64_t answered_ns_;                  // when it last recorded a report; at first, the start
  int64_t prune_ns_;                     // when the ledger is pruned next
  std::string error_;                    // why the ledger is away
  std::map<QuotaKey, std::string> bad_;  // counters that cannot be recorded, and why
  std::string told_error_, told_bad_;    // in the log, last
  std::chrono::steady_clock::time_point tell_again_{};
  uint64_t syncs_wanted_ = 0, syncs_done_ = 0;
  Status last_sync_ = ok();
  std::thread thread_;
};

}  // namespace redoubt
