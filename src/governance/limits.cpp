#include "governance/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "governance/limits_impl.h"

namespace redoubt {
namespace {

constexpr int kMostExtendRounds = 2;

int64_t seconds_up(int64_t ms) { return (ms + 999) / 1000; }

}  // namespace

HeaderList rate_headers(const RateStates& states) {
  HeaderList headers;
  const auto add = [&](const char* what, const std::optional<RateState>& state) {
    if (!state) return;
    headers.emplace_back(fmt::format("x-ratelimit-limit-{}", what), std::to_string(state->limit));
    headers.emplace_back(fmt::format("x-ratelimit-remaining-{}", what), std::to_string(state->remaining));
    headers.emplace_back(fmt::format("x-ratelimit-reset-{}", what), fmt::format("{}s", seconds_up(state->reset_ms)));
  };
  add("requests", states.requests);
  add("tokens", states.tokens);
  return headers;
}

HeaderList LimitRefusal::headers() const {
  HeaderList headers = rate_headers(rates);
  if (retry_after_s > 0) headers.emplace_back("Retry-After", std::to_string(retry_after_s));
  return headers;
}

// ---- Reservation

struct Reservation::Hold {
  std::weak_ptr<Limits::Impl> limits;
  Limits::Impl::Holding holding;
};

Reservation::Reservation(Reservation&&) noexcept = default;
Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this == &other) return *this;
  release();
  hold_ = std::move(other.hold_);
  most_answer_ = other.most_answer_;
  most_thinking_ = other.most_thinking_;
  share_weight_ = other.share_weight_;
  rates_ = other.rates_;
  return *this;
}
Reservation::~Reservation() { release(); }

void Reservation::release() {
  const std::shared_ptr<Hold> hold = std::exchange(hold_, nullptr);
  if (hold == nullptr) return;
  if (const auto limits = hold->limits.lock()) limits->refund(hold->holding);
}

Reservation::Granted Reservation::granted() const {
  if (hold_ == nullptr) return {};
  const auto limits = hold_->limits.lock();
  return limits == nullptr ? Granted{0, 0} : limits->granted(hold_->holding);
}

void Reservation::settle(const Usage& actual) {
  const std::shared_ptr<Hold> hold = std::exchange(hold_, nullptr);
  if (hold == nullptr) return;
  if (const auto limits = hold->limits.lock())
    limits->settle(hold->holding, {actual.prompt, actual.answer, actual.thinking});
}

void Reservation::extend(Granted used, OnExtended answer) {
  if (hold_ == nullptr) return answer(Granted{});
  const auto limits = hold_->limits.lock();
  if (limits == nullptr) return answer(std::string("the server is shutting down"));
  // Shares the hold's life: what is gone is not extended.
  limits->queue_extension(std::shared_ptr<Limits::Impl::Holding>(hold_, &hold_->holding), used, std::move(answer));
}

void Reservation::on_lost(std::function<void(const std::string&)> callback) {
  if (hold_ == nullptr) return;
  if (const auto limits = hold_->limits.lock())
    limits->watch(std::shared_ptr<Limits::Impl::Holding>(hold_, &hold_->holding), std::move(callback));
}

// ---- Limits

Limits::Limits(QuotaLedger& ledger, LimitsOptions options, const Clock& clock, const WallClock& wall)
    : impl_(std::make_shared<Impl>(ledger, options, clock, wall)) {
  impl_->start();
}
Limits::~Limits() { impl_->stop(); }

void Limits::set_rules(LimitRules rules) { impl_->set_rules(std::move(rules)); }
LimitsStats Limits::stats() const { return impl_->stats(); }
Status Limits::sync() { return impl_->sync_now(); }

std::variant<Reservation, LimitRefusal> Limits::reserve(const LimitRequest& request) {
  auto hold = std::make_shared<Reservation::Hold>();
  hold->limits = impl_;
  Impl::Bounds bounds;
  std::optional<LimitRefusal> refusal = impl_->reserve(request, hold->holding, bounds);
  if (refusal) return *std::move(refusal);
  Reservation reservation;
  reservation.most_answer_ = bounds.most_answer;
  reservation.most_thinking_ = bounds.most_thinking;
  reservation.share_weight_ = bounds.share_weight;
  reservation.rates_ = bounds.rates;
  if (!hold->holding.items.empty()) reservation.hold_ = std::move(hold);
  return reservation;
}

// ---- What a request takes

// The kinds' steps differ in the tokens of the answer alone.
UseAmounts Limits::Impl::use_of(const Holding& holding, int64_t answer) {
  const int64_t all = answer * holding.choices;
  return {holding.prompt, all, holding.may_think ? all : 0};
}

int64_t Limits::Impl::more_for(const Item& item, const Holding& holding, int64_t answer) {
  return amount_of(item.counter->kind(), use_of(holding, answer), holding.price) - item.handed - item.used;
}

// The largest step up to `most` tokens of each choice that every counter has; -1 if none has even the prompt.
int64_t Limits::Impl::affordable(const Holding& holding, int64_t from, int64_t most, int64_t now_ns) const {
  const auto fits = [&](int64_t answer) {
    return std::ranges::all_of(holding.items, [&](const Item& item) {
      return more_for(item, holding, answer) <= item.counter->available(now_ns);
    });
  };
  if (fits(most)) return most;
  if (!fits(from)) return from - 1;
  int64_t low = from, high = most;  // fits(low), not fits(high)
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

void Limits::Impl::hand_out(Holding& holding, int64_t answer, int64_t now_ns) {
  for (Item& item : holding.items) {
    const int64_t more = std::max<int64_t>(0, more_for(item, holding, answer));
    item.counter->hand_out(more, now_ns);
    item.handed += more;
  }
  holding.answer = answer;
}

std::optional<LimitRefusal> Limits::Impl::reserve(const LimitRequest& request, Holding& holding, Bounds& bounds) {
  std::unique_lock lock(mutex_);
  holding.prompt = request.prompt_tokens;
  holding.choices = std::max(1, request.choices);
  holding.may_think = request.may_think;
  if (auto refusal = find_counters(request, holding, bounds)) return count_refusal(*std::move(refusal));
  if (holding.items.empty()) return std::nullopt;

  int64_t most = options_.step_tokens;
  if (request.max_tokens > 0) most = std::min(most, request.max_tokens);
  most = std::max<int64_t>(0, std::min(most, bounds.most_answer));
  holding.most_answer = request.max_tokens > 0 ? std::min(request.max_tokens, bounds.most_answer) : bounds.most_answer;
  const int64_t least = std::min(most, options_.least_tokens);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.wait_ms);
  for (int round = 0;; ++round) {
    const int64_t now_ns = clock_.now_ns();
    const int64_t answer = affordable(holding, least, most, now_ns);
    const bool enough = answer >= least;
    if (answer == most || (enough && round > 0)) {
      hand_out(holding, answer, now_ns);
      bounds.rates = rates_of(holding);
      ++stats_.reserved;
      ++stats_.open;
      bool any_low = false;
      for (const Item& item : holding.items) {
        if (!item.counter->is_low(now_ns) || !item.counter->needs_report(now_ns, options_.sync_ms * 1'000'000))
          continue;
        hurry(item.counter);
        any_low = true;
      }
      if (any_low) wake_thread();
      return std::nullopt;
    }
    // Who lacks something, and whether the ledger may have it.
    const Item* hopeless = nullptr;
    std::vector<std::pair<LimitCounter*, uint64_t>> lacking;
    for (const Item& item : holding.items) {
      const int64_t more = more_for(item, holding, enough ? most : least);
      if (more <= item.counter->available(now_ns)) continue;
      if (item.counter->is_exhausted_for(more, now_ns, wall_.now_ms())) {
        hopeless = &item;
        break;
      }
      lacking.emplace_back(item.counter.get(), item.counter->rounds() + (item.counter->is_in_flight() ? 1 : 0));
    }
    if (enough && (hopeless != nullptr || lacking.empty())) {
      hand_out(holding, answer, now_ns);
      bounds.rates = rates_of(holding);
      ++stats_.reserved;
      ++stats_.open;
      return std::nullopt;
    }
    if (hopeless != nullptr) return count_refusal(refuse(*hopeless, holding, least));
    if (stopping_ || lacking.empty() || std::chrono::steady_clock::now() >= deadline ||
        (round > 0 && std::ranges::any_of(lacking, [](const auto& one) { return one.first->last_failed(); }))) {
      for (const Item& item : holding.items)
        if (more_for(item, holding, least) > item.counter->available(now_ns))
          return count_refusal(item.counter->last_failed() || stopping_ ? unavailable(item)
                                                                        : refuse(item, holding, least));
      continue;
    }
    if (ledger_is_away() && round == 0) {
      for (const Item& item : holding.items)
        if (more_for(item, holding, least) > item.counter->available(now_ns)) return count_refusal(unavailable(item));
    }
    for (const Item& item : holding.items) {
      const int64_t more = more_for(item, holding, most);
      if (std::ranges::find(lacking, item.counter.get(), &std::pair<LimitCounter*, uint64_t>::first) == lacking.end())
        continue;
      item.counter->want(more);
      hurry(item.counter);
    }
    wake_thread();
    changed_.wait_until(lock, deadline, [&] {
      return stopping_ ||
             std::ranges::all_of(lacking, [](const auto& one) { return one.first->rounds() > one.second; });
    });
  }
}

LimitRefusal Limits::Impl::unavailable(const Item& item) const {
  return {.why = LimitRefusal::Why::unavailable,
          .limit = item.counter->limit(),
          .message = fmt::format("{}: the limits' database cannot be reached, nothing is admitted without it",
                                 item.counter->limit()),
          .retry_after_s = 1,
          .rates = {}};
}

LimitRefusal Limits::Impl::refuse(const Item& item, const Holding& holding, int64_t answer) const {
  const LimitCounter& counter = *item.counter;
  const int64_t more = more_for(item, holding, answer);
  const int64_t retry_ms = counter.retry_ms(more, wall_.now_ms());
  LimitRefusal refusal{.limit = counter.limit(), .rates = rates_of(holding)};
  if (retry_ms < 0) {
    refusal.message = fmt::format("{}: the request needs {}, the limit is {}", counter.limit(), more, counter.cap());
    return refusal;
  }
  refusal.retry_after_s = std::max<int64_t>(1, seconds_up(retry_ms));
  refusal.message = fmt::format("{}: the limit is {}, {} are left, the request needs {}; try again in {} s",
                                counter.limit(), counter.cap(), counter.remaining(), more, refusal.retry_after_s);
  return refusal;
}

LimitRefusal Limits::Impl::count_refusal(LimitRefusal refusal) {
  ++(refusal.why == LimitRefusal::Why::unavailable ? stats_.unavailable : stats_.refused);
  return refusal;
}

RateStates Limits::Impl::rates_of(const Holding& holding) const {
  RateStates states;
  const int64_t now_ms = wall_.now_ms();
  for (const Item& item : holding.items) {
    const LimitCounter& counter = *item.counter;
    const bool requests = counter.kind() == LimitKind::requests_per_minute;
    if (!requests && counter.kind() != LimitKind::tokens_per_minute) continue;
    std::optional<RateState>& state = requests ? states.requests : states.tokens;
    if (!state || counter.remaining() < state->remaining)
      state = RateState{counter.cap(), counter.remaining(), counter.reset_ms(now_ms)};
  }
  return states;
}

// ---- The end of a request

Reservation::Granted Limits::Impl::granted(const Holding& holding) const {
  const std::lock_guard lock(mutex_);
  return granted_locked(holding);
}

Reservation::Granted Limits::Impl::granted_locked(const Holding& holding) {
  return {holding.answer, holding.bounds_thinking ? holding.answer : Reservation::kUnlimited};
}

void Limits::Impl::settle(Holding& holding, const UseAmounts& actual) {
  const std::lock_guard lock(mutex_);
  for (const Item& item : holding.items) {
    const int64_t used = amount_of(item.counter->kind(), actual, holding.price);
    item.counter->settle(item.handed, used - item.used);
  }
  holding.items.clear();
  ++stats_.settled;
  --stats_.open;
}

void Limits::Impl::refund(Holding& holding) {
  const std::lock_guard lock(mutex_);
  for (const Item& item : holding.items) {
    item.counter->settle(item.handed, 0);
    if (item.used > 0) item.counter->take_back_used(item.used);
  }
  holding.items.clear();
  ++stats_.refunded;
  --stats_.open;
}

// What the choice that is furthest has used is used for good: in a minute's window its time begins to run.
void Limits::Impl::note_used(Holding& holding, Reservation::Granted used) {
  const UseAmounts so_far{holding.prompt, std::min(used.answer, holding.answer), holding.may_think ? used.thinking : 0};
  for (Item& item : holding.items) {
    if (item.counter->window() != LimitWindow::minute) continue;
    const int64_t more = std::min(amount_of(item.counter->kind(), so_far, holding.price) - item.used, item.handed);
    if (more <= 0) continue;
    item.counter->settle(more, more);
    item.handed -= more;
    item.used += more;
  }
}

void Limits::Impl::queue_extension(std::shared_ptr<Holding> holding, Reservation::Granted used,
                                   Reservation::OnExtended answer) {
  {
    const std::lock_guard lock(arrived_mutex_);
    arrived_.push_back({std::move(holding), used, std::move(answer), 0});
  }
  wake_thread();
}

// Under the lock; answers are given without it.
void Limits::Impl::extend_waiting(std::vector<std::function<void()>>& answers) {
  {
    const std::lock_guard lock(arrived_mutex_);
    std::move(arrived_.begin(), arrived_.end(), std::back_inserter(extensions_));
    arrived_.clear();
  }
  std::vector<Extension> later;
  for (Extension& extension : extensions_) {
    const std::shared_ptr<Holding> holding = extension.holding.lock();
    if (holding == nullptr || holding->items.empty()) continue;
    if (extension.rounds == 0) note_used(*holding, extension.used);
    const int64_t now_ns = clock_.now_ns();
    const int64_t from = holding->answer + 1,
                  most = std::min(holding->answer + options_.step_tokens, holding->most_answer);
    if (most < from) continue;  // the request's own end
    const int64_t total = affordable(*holding, from, most, now_ns);
    const auto lacks = [&](const Item& item) {
      return more_for(item, *holding, most) > item.counter->available(now_ns);
    };
    const bool may_get_more = total < most && extension.rounds < kMostExtendRounds && !stopping_ &&
                              std::ranges::none_of(holding->items, [&](const Item& item) {
                                return lacks(item) && (item.counter->is_exhausted_for(more_for(item, *holding, from),
                                                                                      now_ns, wall_.now_ms()) ||
                                                       (extension.rounds > 0 && item.counter->last_failed()));
                              });
    if (may_get_more) {
      for (const Item& item : holding->items) {
        if (!lacks(item)) continue;
        item.counter->want(more_for(item, *holding, most));
        hurry(item.counter);
      }
      ++extension.rounds;
      later.push_back(std::move(extension));
      continue;
    }
    if (total >= from) {
      hand_out(*holding, total, now_ns);
      ++stats_.extended;
      answers.push_back(
          [answer = std::move(extension.answer), granted = granted_locked(*holding)] { answer(granted); });
      continue;
    }
    ++stats_.extensions_refused;
    const auto at = std::ranges::find_if(holding->items, [&](const Item& item) {
      return more_for(item, *holding, from) > item.counter->available(now_ns);
    });
    std::string limit = at == holding->items.end() ? "" : at->counter->limit();
    if (at != holding->items.end() && at->counter->last_failed()) limit += " (the limits' database cannot be reached)";
    answers.push_back([answer = std::move(extension.answer), limit] { answer(limit); });
  }
  extensions_ = std::move(later);
}

}  // namespace redoubt
