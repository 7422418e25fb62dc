// What a request takes of its limits, or why it may not.
#include <fmt/format.h>

#include <algorithm>

#include "governance/limits_impl.h"

namespace redoubt {

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

std::optional<LimitRefusal> Limits::Impl::reserve(const LimitRequest& request, Holding& holding, Bounds& bounds,
                                                  Holding* taken) {
  std::unique_lock lock(mutex_);
  if (auto refusal = find_counters(limits_met(lock, request), request, holding, bounds))
    return count_refusal(*std::move(refusal));
  if (holding.items.empty()) return std::nullopt;
  if (taken != nullptr) {
    for (Item& item : holding.items) {
      const auto same = std::ranges::find(taken->items, item.counter, &Item::counter);
      if (same != taken->items.end()) item.handed = same->handed;
    }
  }

  holding.most_answer = request.max_tokens > 0 ? std::min(request.max_tokens, bounds.most_answer) : bounds.most_answer;
  const int64_t most = std::max<int64_t>(0, std::min(options_.step_tokens, holding.most_answer));
  const int64_t least = std::min(most, options_.least_tokens);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(options_.wait_ms);
  for (bool has_asked = false;; has_asked = true) {
    if (const Item* away = failing(holding)) return count_refusal(unavailable(*away));
    const int64_t now_ns = clock_.now_ns();
    const int64_t answer = affordable(holding, least, most, now_ns);
    const bool is_enough = answer >= least;
    const int64_t wanted = is_enough ? most : least;
    const Lack lack = answer < most ? lack_of(holding, wanted, wanted, now_ns) : Lack{};
    if (answer == most || (is_enough && (has_asked || lack.hopeless != nullptr))) {
      if (taken != nullptr) take_over(*taken, holding);
      admit(holding, answer, now_ns, bounds);
      return std::nullopt;
    }
    if (lack.hopeless != nullptr) return count_refusal(refuse(*lack.hopeless, holding, least));
    if (std::chrono::steady_clock::now() >= deadline) return count_refusal(refuse(*lack.items.front(), holding, least));
    ask_for(lack, holding, most);
    const bool is_answered =
        changed_.wait_until(lock, deadline, [&] { return lack.is_answered() || failing(holding) != nullptr; });
    if (!is_answered && !is_enough) return count_refusal(unavailable(*lack.items.front()));
  }
}

std::optional<LimitRefusal> Limits::Impl::foresee(const LimitRequest& request) {
  Holding holding;
  Bounds bounds;
  holding.is_least = true;
  std::unique_lock lock(mutex_);
  if (find_counters(limits_met(lock, request), request, holding, bounds)) return std::nullopt;
  if (const Item* away = failing(holding)) return count_refusal(unavailable(*away));
  const Lack lack = lack_of(holding, request.max_tokens, request.max_tokens, clock_.now_ns());
  if (lack.hopeless == nullptr) return std::nullopt;
  return count_refusal(refuse(*lack.hopeless, holding, request.max_tokens));
}

// What `by` does not go on with (the rules changed) is given back.
void Limits::Impl::take_over(Holding& taken, const Holding& by) {
  for (const Item& item : taken.items) {
    if (std::ranges::find(by.items, item.counter, &Item::counter) == by.items.end())
      item.counter->settle(item.handed, 0);
  }
  taken.items.clear();
  --stats_.reserved;  // both are one
  --stats_.open;
}

void Limits::Impl::admit(Holding& holding, int64_t answer, int64_t now_ns, Bounds& bounds) {
  hand_out(holding, answer, now_ns);
  bounds.rates = rates_of(holding);
  ++stats_.reserved;
  ++stats_.open;
  bool any_low = false;
  for (const Item& item : holding.items) {
    if (!item.counter->is_low(now_ns) || !item.counter->needs_report(now_ns, options_.sync_ms * 1'000'000)) continue;
    hurry(item.counter);
    any_low = true;
  }
  if (any_low) wake_thread();
}

// ---- What is left

std::optional<int64_t> Limits::Impl::tokens_left(const Principal& principal, const std::string& model, bool may_wait) {
  std::unique_lock lock(mutex_);
  std::vector<LimitIndex::Met> limits = limits_met(lock, {.principal = &principal, .model = model});
  std::erase_if(limits, [](const LimitIndex::Met& met) {
    return met.rule->kind != LimitKind::tokens_per_minute && met.rule->kind != LimitKind::tokens_per_day &&
           met.rule->kind != LimitKind::tokens_per_month;
  });
  if (limits.empty()) return std::nullopt;
  const CalendarPeriods& periods = periods_of(index_->tenant(principal.tenant).time_zone, wall_.now_ms());
  Counters counters;
  for (LimitIndex::Met& met : limits) counters.push_back(counter_of(std::move(met), periods));
  std::vector<std::pair<std::shared_ptr<LimitCounter>, uint64_t>> asked;  // with the rounds behind it
  for (const auto& counter : counters) {
    counter->touch(clock_.now_ns());
    if (counter->is_known(clock_.now_ns())) continue;
    asked.emplace_back(counter, counter->rounds() + (counter->is_in_flight() ? 1 : 0));
    counter->want(1);
    hurry(counter);
  }
  if (!asked.empty()) {
    wake_thread();
    const auto is_answered = [&] {
      return failed_ns_ != 0 || stopping_ ||
             std::ranges::all_of(asked, [](const auto& one) { return one.first->rounds() > one.second; });
    };
    if (may_wait) changed_.wait_for(lock, std::chrono::milliseconds(options_.wait_ms), is_answered);
  }
  std::optional<int64_t> least;
  for (const auto& counter : counters) {
    const bool is_known = counter->is_known(clock_.now_ns());
    if (!is_known && !may_wait) continue;
    const int64_t left = is_known ? counter->remaining() : 0;
    least = std::min(least.value_or(left), left);
  }
  return least;
}

// ---- What lacks

Limits::Impl::Lack Limits::Impl::lack_of(const Holding& holding, int64_t answer, int64_t least, int64_t now_ns) const {
  Lack lack;
  for (const Item& item : holding.items) {
    if (more_for(item, holding, answer) <= item.counter->available(now_ns)) continue;
    if (item.counter->is_exhausted_for(more_for(item, holding, least), now_ns, wall_.now_ms())) {
      lack.hopeless = &item;
      break;
    }
    lack.items.push_back(&item);
    lack.rounds.push_back(item.counter->rounds() + (item.counter->is_in_flight() ? 1 : 0));
  }
  return lack;
}

bool Limits::Impl::Lack::is_answered() const {
  for (size_t i = 0; i < items.size(); ++i)
    if (items[i]->counter->rounds() <= rounds[i]) return false;
  return true;
}

void Limits::Impl::ask_for(const Lack& lack, const Holding& holding, int64_t answer) {
  for (const Item* item : lack.items) {
    item->counter->want(more_for(*item, holding, answer));
    hurry(item->counter);
  }
  wake_thread();
}

// The limit that cannot be asked about, if there is one. While the ledger fails, that is each.
const Limits::Impl::Item* Limits::Impl::failing(const Holding& holding) const {
  if (holding.items.empty()) return nullptr;
  if (failed_ns_ != 0 || stopping_) return &holding.items.front();
  const auto at = std::ranges::find_if(holding.items, [](const Item& item) { return item.counter->last_failed(); });
  return at == holding.items.end() ? nullptr : &*at;
}

LimitRefusal Limits::Impl::unavailable(const Item& item) const {
  return {.why = LimitRefusal::Why::unavailable,
          .kind = item.counter->kind(),
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
  LimitRefusal refusal{.kind = counter.kind(), .limit = counter.limit(), .rates = rates_of(holding)};
  const std::string needs = fmt::format("the request needs {}{}", holding.is_least ? "at least " : "", more);
  if (retry_ms < 0) {
    refusal.message = fmt::format("{}: {}, the limit is {}", counter.limit(), needs, counter.cap());
    return refusal;
  }
  refusal.retry_after_s = std::max<int64_t>(1, seconds_up(retry_ms));
  refusal.is_reserved = counter.is_only_reserved(more);
  if (refusal.is_reserved) {
    refusal.message = fmt::format(
        "{}: the limit is {}, beside what requests under way have reserved {} are left, {}; try again in {} s",
        counter.limit(), counter.cap(), counter.remaining(), needs, refusal.retry_after_s);
    return refusal;
  }
  refusal.message = fmt::format("{}: the limit is {}, {} are left, {}; try again in {} s", counter.limit(),
                                counter.cap(), counter.remaining(), needs, refusal.retry_after_s);
  return refusal;
}

LimitRefusal Limits::Impl::count_refusal(LimitRefusal refusal) {
  ++(refusal.why == LimitRefusal::Why::unavailable ? stats_.unavailable
                                                   : stats_.refused)[static_cast<size_t>(refusal.kind)];
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

}  // namespace redoubt
