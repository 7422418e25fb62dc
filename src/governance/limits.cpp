#include "governance/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "governance/limits_impl.h"

namespace redoubt {
namespace {

constexpr int kMostExtendRounds = 2;

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
  bounds_ = other.bounds_;
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
  if (limits == nullptr) return answer(shutting_down());
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
std::optional<LimitRefusal> Limits::foresee(const LimitRequest& request) { return impl_->foresee(request); }

std::optional<int64_t> Limits::tokens_left(const Principal& principal, const std::string& model, bool may_wait) {
  return impl_->tokens_left(principal, model, may_wait);
}
LimitsStats Limits::stats() const { return impl_->stats(); }
Status Limits::sync() { return impl_->sync_now(); }

std::variant<Reservation, LimitRefusal> Limits::reserve(const LimitRequest& request, Reservation* taken) {
  auto hold = std::make_shared<Reservation::Hold>();
  hold->limits = impl_;
  Reservation reservation;
  Impl::Holding* before = taken == nullptr || taken->hold_ == nullptr ? nullptr : &taken->hold_->holding;
  std::optional<LimitRefusal> refusal = impl_->reserve(request, hold->holding, reservation.bounds_, before);
  if (refusal) return *std::move(refusal);
  if (before != nullptr && before->items.empty()) taken->hold_ = nullptr;
  if (!hold->holding.items.empty()) reservation.hold_ = std::move(hold);
  return reservation;
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
  bool has_ended = false;
  {
    const std::lock_guard lock(arrived_mutex_);
    has_ended = has_ended_;
    if (!has_ended) arrived_.push_back({std::move(holding), used, std::move(answer), 0});
  }
  if (has_ended) return answer(shutting_down());
  wake_thread();
}

// Under the lock; answers are given without it.
void Limits::Impl::extend_waiting(std::vector<std::function<void()>>& answers) {
  {
    const std::lock_guard lock(arrived_mutex_);
    std::move(arrived_.begin(), arrived_.end(), std::back_inserter(extensions_));
    arrived_.clear();
  }
  std::erase_if(extensions_, [&](Extension& extension) {
    const std::shared_ptr<Holding> holding = extension.holding.lock();
    return holding == nullptr || holding->items.empty() || extend(extension, holding, answers);
  });
}

// Whether it is answered; if not, the ledger was asked.
bool Limits::Impl::extend(Extension& extension, const std::shared_ptr<Holding>& holding,
                          std::vector<std::function<void()>>& answers) {
  const auto tell = [&](Reservation::Extended found) {
    answers.push_back([answer = std::move(extension.answer), found = std::move(found)] { answer(found); });
    return true;
  };
  if (extension.rounds == 0) note_used(*holding, extension.used);
  const int64_t now_ns = clock_.now_ns();
  const int64_t from = holding->answer + 1,
                most = std::min(holding->answer + options_.step_tokens, holding->most_answer);
  if (most < from) return tell(granted_locked(*holding));  // the request's own end
  if (const Item* away = failing(*holding)) {
    ++stats_.extensions_refused;
    return tell(Reservation::NoMore{away->counter->limit(), true});
  }
  const int64_t total = affordable(*holding, from, most, now_ns);
  const Lack lack = total < most ? lack_of(*holding, most, from, now_ns) : Lack{};
  if (total < most && lack.hopeless == nullptr && extension.rounds < kMostExtendRounds) {
    ask_for(lack, *holding, most);
    ++extension.rounds;
    return false;
  }
  if (total >= from) {
    hand_out(*holding, total, now_ns);
    ++stats_.extended;
    return tell(granted_locked(*holding));
  }
  ++stats_.extensions_refused;
  const auto at = std::ranges::find_if(holding->items, [&](const Item& item) {
    return more_for(item, *holding, from) > item.counter->available(now_ns);
  });
  return tell(Reservation::NoMore{at == holding->items.end() ? "" : at->counter->limit(), false});
}

}  // namespace redoubt
