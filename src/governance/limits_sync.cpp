// How limits keep their leases: which counters a request meets, and the one thread that reports them to the ledger.
#include <algorithm>
#include <span>
#include <utility>

#include "governance/limits_impl.h"

namespace redoubt {
namespace {

constexpr size_t kMostReports = 64;                    // in one transaction
constexpr int64_t kRetryNs = 200'000'000;              // after the ledger failed
constexpr auto kTick = std::chrono::milliseconds(50);  // the thread looks at least so often

constexpr size_t kLeastLook = 256, kTurnTicks = 16;  // counters looked at in one tick; ticks of a turn over all
constexpr auto kLastWord = std::chrono::seconds(3);

}  // namespace

Limits::Impl::Impl(QuotaLedger& ledger, LimitsOptions options, const Clock& clock, const WallClock& wall)
    : ledger_(ledger),
      options_(options),
      clock_(clock),
      wall_(wall),
      index_(std::make_shared<LimitIndex>(LimitRules{})) {}

void Limits::Impl::start() {
  thread_ = std::thread([this] { run(); });
}

void Limits::Impl::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void Limits::Impl::set_rules(LimitRules rules) {
  auto index = std::make_shared<const LimitIndex>(std::move(rules));
  const std::lock_guard lock(mutex_);
  index_ = std::move(index);
}

LimitsStats Limits::Impl::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

bool Limits::Impl::ledger_is_away() const { return failed_ns_ != 0 && clock_.now_ns() - failed_ns_ < kRetryNs; }

void Limits::Impl::wake_thread() {
  woken_ = true;
  wake_.notify_one();
}

const CalendarPeriods& Limits::Impl::periods_of(const std::string& time_zone, int64_t now_ms) {
  CalendarPeriods& periods = periods_[time_zone];
  if (!periods.day.contains(now_ms) || !periods.month.contains(now_ms)) periods = periods_at(time_zone, now_ms);
  return periods;
}

std::shared_ptr<LimitCounter> Limits::Impl::counter_of(const LimitIndex::Met& met, const CalendarPeriods& periods) {
  const LimitWindow window = window_of(met.rule->kind);
  const CalendarPeriod period = window == LimitWindow::day     ? periods.day
                                : window == LimitWindow::month ? periods.month
                                                               : CalendarPeriod{};
  std::shared_ptr<LimitCounter>& counter = counters_[{met.counter, period.id}];
  if (counter == nullptr)
    counter = std::make_shared<LimitCounter>(QuotaKey{met.counter, period.id}, met.rule->kind, met.limit, period);
  counter->set_cap(met.rule->amount);
  return counter;
}

std::optional<LimitRefusal> Limits::Impl::find_counters(const LimitRequest& request, Holding& holding, Bounds& bounds) {
  const TenantSetting& tenant = index_->tenant(request.principal->tenant);
  bounds.share_weight = tenant.share_weight;
  holding.price = index_->price(request.model);
  const std::vector<LimitIndex::Met> limits = index_->limits_of(*request.principal, request.model);
  if (limits.empty()) return std::nullopt;
  const CalendarPeriods& periods = periods_of(tenant.time_zone, wall_.now_ms());
  for (const LimitIndex::Met& met : limits) {
    const LimitRule& rule = *met.rule;
    if (rule.kind == LimitKind::context_tokens) {
      const int64_t room = rule.amount - request.prompt_tokens;
      if (room < std::max<int64_t>(1, request.max_tokens))
        return LimitRefusal{.why = LimitRefusal::Why::too_long,
                            .limit = met.limit,
                            .message = met.limit + ": the limit is " + std::to_string(rule.amount) +
                                       " tokens of prompt and answer, the prompt has " +
                                       std::to_string(request.prompt_tokens) + " and max_tokens is " +
                                       std::to_string(request.max_tokens),
                            .rates = {}};
      bounds.most_answer = std::min(bounds.most_answer, room);
    } else if (rule.kind == LimitKind::thinking_tokens_per_request) {
      bounds.most_thinking = std::min(bounds.most_thinking, rule.amount);
    } else {
      if (rule.kind == LimitKind::thinking_tokens_per_day) {
        if (!request.may_think) continue;
        holding.bounds_thinking = true;
      }
      holding.items.push_back({counter_of(met, periods)});
    }
  }
  return std::nullopt;
}

void Limits::Impl::watch(const std::shared_ptr<Holding>& holding, std::function<void(const std::string&)> on_lost) {
  const std::lock_guard lock(mutex_);
  watched_.push_back({holding, std::move(on_lost)});
  if (watched_.size() < watched_limit_) return;
  std::erase_if(watched_, [](const Watched& one) { return one.holding.expired(); });
  watched_limit_ = std::max<size_t>(64, 2 * watched_.size());
}

void Limits::Impl::find_lost(std::vector<std::function<void()>>& answers) {
  const int64_t now_ns = clock_.now_ns();
  std::erase_if(watched_, [&](Watched& one) {
    const std::shared_ptr<Holding> holding = one.holding.lock();
    if (holding == nullptr || holding->items.empty()) return true;
    const auto lost =
        std::ranges::find_if(holding->items, [&](const Item& item) { return item.counter->is_over(now_ns); });
    if (lost == holding->items.end()) return false;
    answers.push_back([tell = std::move(one.on_lost), limit = lost->counter->limit()] { tell(limit); });
    return true;
  });
}

// ---- The thread

std::vector<std::shared_ptr<LimitCounter>> Limits::Impl::due(bool all) {
  std::vector<std::shared_ptr<LimitCounter>> counters;
  if (all) {
    urgent_.clear();
    for (const auto& [key, counter] : counters_) {
      if (!counter->is_in_flight()) counters.push_back(counter);
    }
    return counters;
  }
  const int64_t now_ns = clock_.now_ns(), sync_ns = options_.sync_ms * 1'000'000;
  counters = std::exchange(urgent_, {});
  std::ranges::sort(counters);
  counters.erase(std::unique(counters.begin(), counters.end()), counters.end());
  std::erase_if(counters, [&](const auto& counter) { return !counter->needs_report(now_ns, sync_ns); });
  const auto now = std::chrono::steady_clock::now();
  if (now - looked_ >= kTick / 2) {
    looked_ = now;
    look_at_some(counters);
  }
  return counters;
}

// The next few in the order of their keys; all of them about once a second.
void Limits::Impl::look_at_some(std::vector<std::shared_ptr<LimitCounter>>& counters) {
  const int64_t now_ns = clock_.now_ns(), sync_ns = options_.sync_ms * 1'000'000;
  const size_t urgent = counters.size();
  auto at = looked_at_ ? counters_.upper_bound(*looked_at_) : counters_.begin();
  for (size_t left = std::max(kLeastLook, counters_.size() / kTurnTicks); left > 0 && at != counters_.end(); --left) {
    looked_at_ = at->first;
    if (at->second.use_count() == 1 && at->second->is_forgettable()) {
      at = counters_.erase(at);  // nobody holds it, and the ledger knows nothing of it
      continue;
    }
    const std::span already(counters.data(), urgent);  // sorted
    if (at->second->needs_report(now_ns, sync_ns) && !std::ranges::binary_search(already, at->second))
      counters.push_back(at->second);
    ++at;
  }
  if (at == counters_.end()) looked_at_.reset();
}

// Speaks to the ledger without the lock.
Status Limits::Impl::report(std::unique_lock<std::mutex>& lock,
                            const std::vector<std::shared_ptr<LimitCounter>>& counters, bool all) {
  Status status = ok();
  for (size_t at = 0; at < counters.size(); at += kMostReports) {
    const std::span<const std::shared_ptr<LimitCounter>> some(counters.data() + at,
                                                              std::min(kMostReports, counters.size() - at));
    std::vector<QuotaReport> reports;
    for (const auto& counter : some) reports.push_back(counter->report(clock_.now_ns()));
    const int64_t now_ms = wall_.now_ms();
    lock.unlock();
    Result<std::vector<QuotaAnswer>> answers = ledger_.report(reports, now_ms);
    lock.lock();
    const int64_t now_ns = clock_.now_ns();
    ++stats_.syncs;
    for (size_t i = 0; i < some.size(); ++i) {
      if (!answers) {
        some[i]->failed();
        continue;
      }
      some[i]->recorded(std::move((*answers)[i]), now_ns);
    }
    failed_ns_ = answers ? 0 : now_ns;
    if (!answers) {
      ++stats_.failed_syncs;
      status = answers.error();
    }
    changed_.notify_all();
    if (!all && !urgent_.empty()) break;  // somebody waits; the rest is found again
  }
  return status;
}

// The last word: what was used is recorded and leases go back, unless the ledger stays away.
void Limits::Impl::give_back(std::unique_lock<std::mutex>& lock) {
  const auto deadline = std::chrono::steady_clock::now() + kLastWord;
  const auto is_reported = [](const auto& one) { return one.second->is_reported(); };
  while (!std::ranges::all_of(counters_, is_reported) && std::chrono::steady_clock::now() < deadline) {
    if (!report(lock, due(true), true)) wake_.wait_for(lock, kTick, [] { return false; });
  }
  for (const auto& [key, counter] : counters_) counter->retire();
  static_cast<void>(report(lock, due(true), true));
}

void Limits::Impl::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait_for(lock, kTick, [&] { return woken_ || stopping_; });
    woken_ = false;
    const bool all = syncs_wanted_ > syncs_done_ || stopping_;
    const uint64_t wanted = syncs_wanted_;
    std::vector<std::function<void()>> answers;
    if (!ledger_is_away() || all) {
      extend_waiting(answers);  // what they want goes into the reports
      const Status status = report(lock, due(all), all);
      if (all) {
        last_sync_ = status;
        syncs_done_ = wanted;
        changed_.notify_all();
      }
    }
    if (stopping_) give_back(lock);
    extend_waiting(answers);
    if (failed_ns_ != 0) find_lost(answers);
    if (!answers.empty()) {
      lock.unlock();
      for (const auto& answer : answers) answer();
      answers.clear();
      lock.lock();
    }
    if (stopping_) break;
  }
}

Status Limits::Impl::sync_now() {
  std::unique_lock lock(mutex_);
  const uint64_t mine = ++syncs_wanted_;
  wake_thread();
  changed_.wait(lock, [&] { return syncs_done_ >= mine || stopping_; });
  return last_sync_;
}

}  // namespace redoubt
