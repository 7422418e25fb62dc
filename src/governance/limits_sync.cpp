// How limits keep their leases: which counters a request meets, and the one thread that reports them to the ledger.
#include <algorithm>
#include <span>
#include <utility>

#include "core/log.h"
#include "governance/limits_impl.h"

namespace redoubt {
namespace {

constexpr size_t kMostReports = 64;                    // in one transaction
constexpr auto kTick = std::chrono::milliseconds(50);  // the thread looks at least so often

constexpr size_t kLeastLook = 256, kTurnTicks = 16;  // counters looked at in one tick; ticks of a turn over all
constexpr int64_t kPruneNs = 60'000'000'000, kPruneOnNs = 100'000'000;  // between two; where there is more
constexpr auto kTellPause = std::chrono::seconds(3);                    // between two lines of the log
constexpr auto kLastWord = std::chrono::seconds(3);
// Streams are told so long before their lease ends: one report may hold the thread for as long as the database's time
// limit, and others may have the quota kLeaseMarginMs after the lease.
constexpr int64_t kLostEarlyNs = 2'500'000'000;

}  // namespace

Limits::Impl::Impl(QuotaLedger& ledger, LimitsOptions options, const Clock& clock, const WallClock& wall)
    : ledger_(ledger),
      options_(options),
      clock_(clock),
      wall_(wall),
      index_(std::make_shared<LimitIndex>(LimitRules{})),
      answered_ns_(clock.now_ns()),
      prune_ns_(clock.now_ns() + kPruneNs) {}

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
  // Files are looked at without the lock. A zone that was known when it was set is not where another machine has the
  // database, or none of the zones' files.
  std::map<std::string, std::string> unknown;  // with a tenant that has it
  for (const auto& [tenant, setting] : rules.tenants) {
    if (!is_time_zone(setting.time_zone)) unknown.emplace(setting.time_zone, tenant);
  }
  auto index = std::make_shared<const LimitIndex>(std::move(rules));
  {
    const std::lock_guard lock(mutex_);
    index_ = std::move(index);
    std::erase_if(unknown, [this](const auto& one) { return !told_zones_.insert(one.first).second; });
  }
  for (const auto& [zone, tenant] : unknown) {
    log::warn("limits: time zone {:?} of tenant {} is not known to this system (package tzdata): its days are UTC's",
              zone, tenant);
  }
}

LimitsStats Limits::Impl::stats() const {
  const std::lock_guard lock(mutex_);
  LimitsStats stats = stats_;
  const int64_t now_ns = clock_.now_ns();
  stats.counters = static_cast<int64_t>(counters_.size());
  stats.ledger_age_ns = now_ns - answered_ns_;
  stats.failing_ns = failed_ns_ == 0 ? 0 : now_ns - failing_ns_;
  return stats;
}

bool Limits::Impl::ledger_is_away() const { return failed_ns_ != 0 && clock_.now_ns() - failed_ns_ < kLedgerRetryNs; }

void Limits::Impl::wake_thread() {
  woken_ = true;
  wake_.notify_one();
}

const CalendarPeriods& Limits::Impl::periods_of(const std::string& time_zone, int64_t now_ms) {
  CalendarPeriods& periods = periods_[time_zone];
  if (!periods.day.contains(now_ms) || !periods.month.contains(now_ms)) periods = periods_at(time_zone, now_ms);
  return periods;
}

std::shared_ptr<LimitCounter> Limits::Impl::counter_of(LimitIndex::Met met, const CalendarPeriods& periods) {
  const LimitWindow window = window_of(met.rule->kind);
  const CalendarPeriod period = window == LimitWindow::day     ? periods.day
                                : window == LimitWindow::month ? periods.month
                                                               : CalendarPeriod{};
  QuotaKey key{std::move(met.counter), period.id};
  auto at = counters_.find(key);
  if (at == counters_.end()) {
    auto made = std::make_shared<LimitCounter>(key, met.rule->kind, std::move(met.limit), period);
    at = counters_.emplace(std::move(key), std::move(made)).first;
  }
  at->second->set_cap(met.rule->amount);
  return at->second;
}

// By the rules as they are when this returns; they are looked through, and names put together, without the lock.
std::vector<LimitIndex::Met> Limits::Impl::limits_met(std::unique_lock<std::mutex>& lock,
                                                      const LimitRequest& request) const {
  for (;;) {
    const std::shared_ptr<const LimitIndex> index = index_;
    lock.unlock();
    std::vector<LimitIndex::Met> limits = index->limits_of(*request.principal, request.model);
    lock.lock();
    if (index == index_) return limits;
  }
}

std::optional<LimitRefusal> Limits::Impl::find_counters(std::vector<LimitIndex::Met> limits,
                                                        const LimitRequest& request, Holding& holding, Bounds& bounds) {
  const TenantSetting& tenant = index_->tenant(request.principal->tenant);
  bounds.share_weight = tenant.share_weight;
  holding.price = index_->price(request.model);
  holding.prompt = request.prompt_tokens;
  holding.choices = std::max(1, request.choices);
  holding.may_think = request.may_think;
  if (limits.empty()) return std::nullopt;
  const CalendarPeriods& periods = periods_of(tenant.time_zone, wall_.now_ms());
  for (LimitIndex::Met& met : limits) {
    const LimitRule& rule = *met.rule;
    if (request.is_request_alone && rule.kind != LimitKind::requests_per_minute) continue;
    if (rule.kind == LimitKind::context_tokens) {
      const int64_t room = rule.amount - request.prompt_tokens;
      if (room < std::max<int64_t>(1, request.max_tokens))
        return LimitRefusal{.why = LimitRefusal::Why::too_long,
                            .kind = rule.kind,
                            .limit = met.limit,
                            .message = met.limit + ": the limit is " + std::to_string(rule.amount) +
                                       " tokens of prompt and answer, the prompt has " +
                                       std::to_string(request.prompt_tokens) + " and max_tokens is " +
                                       std::to_string(request.max_tokens),
                            .rates = {}};
      if (room < bounds.most_answer) bounds.answer_limit = met.limit;
      bounds.most_answer = std::min(bounds.most_answer, room);
    } else if (rule.kind == LimitKind::thinking_tokens_per_request) {
      bounds.most_thinking = std::min(bounds.most_thinking, rule.amount);
    } else {
      if (rule.kind == LimitKind::thinking_tokens_per_day) {
        if (!request.may_think) {
          bounds.most_thinking = 0;  // and so it does not, whatever the model says
          continue;
        }
        holding.bounds_thinking = true;
      }
      holding.items.push_back({counter_of(std::move(met), periods)});
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
    const auto lost = std::ranges::find_if(
        holding->items, [&](const Item& item) { return item.counter->is_over(now_ns + kLostEarlyNs); });
    if (lost == holding->items.end()) return false;
    answers.push_back([tell = std::move(one.on_lost), limit = lost->counter->limit()] { tell(limit); });
    return true;
  });
}

// ---- The thread

Limits::Impl::Counters Limits::Impl::due(bool all) {
  Counters counters;
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
void Limits::Impl::look_at_some(Counters& counters) {
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

// What it does not come to because the ledger is away or somebody waits is found again.
Status Limits::Impl::report(std::unique_lock<std::mutex>& lock, Counters counters, bool all) {
  // The bad ones each alone, at the end: no other one fails with them. Those that failed while the ledger was away are
  // closed until it has answered, so they go before all others.
  const auto first_bad = std::stable_partition(counters.begin(), counters.end(),
                                               [&](const auto& one) { return !bad_.contains(one->key()); });
  std::stable_partition(counters.begin(), first_bad, [](const auto& one) { return one->last_failed(); });
  std::ranges::sort(first_bad, counters.end(), {}, [](const auto& one) { return one->reported_ns(); });
  const auto good = static_cast<size_t>(first_bad - counters.begin());
  Status status = ok();
  for (size_t at = 0, many = 0; at < counters.size(); at += many) {
    if (!all && at > 0 && !urgent_.empty()) {  // somebody waits; yet one of the bad has its turn, or all stayed closed
      if (at > good) break;
      at = good;
      if (at == counters.size()) break;
    }
    many = at < good ? std::min(kMostReports, good - at) : 1;
    const Status done = report_some(lock, std::span(counters).subspan(at, many));
    if (!done) status = done;
    if (!done && done.error().code == ErrorCode::unavailable) break;
  }
  return status;
}

Status Limits::Impl::report_some(std::unique_lock<std::mutex>& lock, SomeCounters some) {
  std::vector<QuotaReport> reports;
  for (const auto& counter : some) reports.push_back(counter->report(clock_.now_ns()));
  Result<std::vector<QuotaAnswer>> answers = ask_ledger(lock, reports);
  if (answers) return record(some, *std::move(answers)), ok();
  const Error& error = answers.error();
  if (error.code == ErrorCode::unavailable || some.size() == 1) return fail(some, error), error;
  // One of them cannot be recorded, and so none was: each alone tells which.
  Status status = ok();
  for (size_t i = 0; i < some.size(); ++i) {
    Result<std::vector<QuotaAnswer>> answer = ask_ledger(lock, {&reports[i], 1});
    if (answer) {
      record(some.subspan(i, 1), *std::move(answer));
      continue;
    }
    status = answer.error();
    const bool is_away = status.error().code == ErrorCode::unavailable;
    fail(is_away ? some.subspan(i) : some.subspan(i, 1), status.error());
    if (is_away) break;
  }
  return status;
}

// Without the lock.
Result<std::vector<QuotaAnswer>> Limits::Impl::ask_ledger(std::unique_lock<std::mutex>& lock,
                                                          std::span<const QuotaReport> reports) {
  const int64_t now_ms = wall_.now_ms();
  lock.unlock();
  Result<std::vector<QuotaAnswer>> answers = ledger_.report(reports, now_ms);
  lock.lock();
  ++stats_.syncs;
  return answers;
}

void Limits::Impl::record(SomeCounters counters, std::vector<QuotaAnswer> answers) {
  const int64_t now_ns = answered_ns_ = clock_.now_ns();
  for (size_t i = 0; i < counters.size(); ++i) {
    LimitCounter& counter = *counters[i];
    bad_.erase(counter.key());
    stats_.leases -= counter.has_lease() ? 1 : 0;
    counter.recorded(std::move(answers[i]), now_ns);
    stats_.leases += counter.has_lease() ? 1 : 0;
  }
  failed_ns_ = 0;
  changed_.notify_all();
}

// Of another error than `unavailable` (a row that makes no sense), only the counters in question are closed. Else the
// node is, until a report is recorded: that of these counters if of no other, for they are reported until they are.
void Limits::Impl::fail(SomeCounters counters, const Error& error) {
  ++stats_.failed_syncs;
  const bool is_away = error.code == ErrorCode::unavailable;
  for (const auto& counter : counters) {
    counter->failed();
    if (is_away) {
      hurry(counter);
    } else {
      bad_[counter->key()] = error.message;
    }
  }
  if (is_away) {
    const int64_t now_ns = clock_.now_ns();
    if (std::exchange(failed_ns_, now_ns) == 0) failing_ns_ = now_ns;
    error_ = error.message;
  } else {
    failed_ns_ = 0;  // it answers
  }
  changed_.notify_all();
}

// Says how things are if they are no longer as was said last; not more often than every few seconds, and without the
// lock, because whoever reads the log may be slow.
void Limits::Impl::tell(std::unique_lock<std::mutex>& lock) {
  const auto now = std::chrono::steady_clock::now();
  const std::string error = failed_ns_ == 0 ? std::string() : error_;
  const std::string bad = bad_.empty() ? std::string() : bad_.begin()->first.counter + ": " + bad_.begin()->second;
  if (now < tell_again_ || (error == told_error_ && bad == told_bad_)) return;
  tell_again_ = now + kTellPause;
  const std::string error_before = std::exchange(told_error_, error), bad_before = std::exchange(told_bad_, bad);
  const size_t bad_ones = bad_.size();
  lock.unlock();
  if (error != error_before) {
    if (error.empty()) {
      log::info("limits: the database takes what was used again");
    } else {
      log::warn("limits: what was used cannot be written to the database, nothing is admitted: {}", error);
    }
  }
  if (bad != bad_before) {
    if (bad.empty()) {
      log::info("limits: no limit is closed any more because of what the database has of it");
    } else {
      log::warn("limits: closed, because what was used of them cannot be recorded: {} limits, the first is {}",
                bad_ones, bad);
    }
  }
  lock.lock();
}

// Between reports, about once a minute in small steps; of no haste, so that an error is no outage.
void Limits::Impl::prune(std::unique_lock<std::mutex>& lock) {
  if (failed_ns_ != 0 || clock_.now_ns() < prune_ns_) return;
  const int64_t now_ms = wall_.now_ms();
  lock.unlock();
  const Result<bool> more = ledger_.prune(now_ms);
  lock.lock();
  prune_ns_ = clock_.now_ns() + (more && *more ? kPruneOnNs : kPruneNs);
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
  for (bool stops = false; !stops;) {
    wake_.wait_for(lock, kTick, [&] { return woken_ || stopping_; });
    woken_ = false;
    stops = stopping_;  // read once: who stops while answers are given below has the last word in the next turn
    const bool all = syncs_wanted_ > syncs_done_ || stops;
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
    if (stops) {
      give_back(lock);
    } else {
      prune(lock);
    }
    tell(lock);
    extend_waiting(answers);
    if (failed_ns_ != 0) find_lost(answers);
    if (answers.empty()) continue;
    lock.unlock();
    for (const auto& answer : answers) answer();
    lock.lock();
  }
  lock.unlock();
  std::vector<Extension> unanswered;
  {
    const std::lock_guard arriving(arrived_mutex_);
    has_ended_ = true;
    unanswered.swap(arrived_);
  }
  for (const Extension& extension : unanswered) extension.answer(shutting_down());
}

Status Limits::Impl::sync_now() {
  std::unique_lock lock(mutex_);
  const uint64_t mine = ++syncs_wanted_;
  wake_thread();
  changed_.wait(lock, [&] { return syncs_done_ >= mine || stopping_; });
  return last_sync_;
}

}  // namespace redoubt
