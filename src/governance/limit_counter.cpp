#include "governance/limit_counter.h"

#include <algorithm>
#include <utility>

namespace redoubt {
namespace {

constexpr int64_t kLeaseNs = kLeaseMs * 1'000'000;
constexpr int64_t kRenewNs = kLeaseNs / 3;
constexpr int64_t kLowNs = 50'000'000;       // between two reports because little is left
constexpr int64_t kReservedRetryMs = 3000;   // the first of the requests under way may have ended by then
constexpr int64_t kFreshNs = 1'000'000'000;  // how long an answer "there is none" is believed

}  // namespace

void LimitCounter::set_cap(int64_t cap) {
  const int64_t more = cap - std::exchange(cap_, cap);
  if (more != 0) change_by(more);
}

void LimitCounter::change_by(int64_t more) {
  answered_ns_ = reported_ns_ = 0;  // what the ledger said is no longer so
  if (number_ == 0) return;
  free_ += more;
  if (free_ < 0) granted_ += std::exchange(free_, 0);  // less: this node gives up what nobody else could
  // The next report may get so much less, whoever has what was free meanwhile; and its outcome may stay unknown.
  mark_ = std::max<int64_t>(0, std::min(mark_ + std::min<int64_t>(0, more), granted_));
}

int64_t LimitCounter::available(int64_t now_ns) const {
  if (number_ == 0 || now_ns >= lease_ends_ns_ || closing_) return 0;
  const int64_t mark = in_flight_ ? std::min(mark_, sent_mark_) : mark_;
  return std::max<int64_t>(0, std::min(mark, cap_) - used_ - handed_);
}

int64_t LimitCounter::remaining() const { return std::clamp<int64_t>(granted_ + free_ - used_ - handed_, 0, cap_); }

bool LimitCounter::is_exhausted_for(int64_t amount, int64_t now_ns, int64_t now_ms) const {
  if (amount > cap_) return true;
  if (answered_ns_ == 0 || now_ns - answered_ns_ >= kFreshNs || now_ns >= lease_ends_ns_) return false;
  if (granted_ + free_ - used_ - handed_ >= amount) return false;
  return window() != LimitWindow::minute || retry_ms(amount, now_ms) > 0;
}

bool LimitCounter::is_only_reserved(int64_t amount) const {
  if (window() != LimitWindow::day && window() != LimitWindow::month) return false;
  return number_ > 0 && cap_ - settled_ - used_ >= amount;
}

int64_t LimitCounter::retry_ms(int64_t amount, int64_t now_ms) const {
  if (amount > cap_) return -1;
  if (is_only_reserved(amount)) return kReservedRetryMs;
  switch (window()) {
    case LimitWindow::day:
    case LimitWindow::month:
      return std::max<int64_t>(0, period_.end_ms - now_ms);
    case LimitWindow::level:
      return 1000;
    case LimitWindow::request:
      return -1;
    case LimitWindow::minute:
      break;
  }
  // A minute at most: a clock that was set back makes no one wait for where it was.
  const auto after = [&](int64_t second) { return std::clamp<int64_t>(second + kMinuteMs - now_ms, 0, kMinuteMs); };
  int64_t there = granted_ + free_ - used_ - handed_;
  for (const auto& [second, reported] : in_window_) {
    if (there >= amount) return after(second);
    there += reported;
  }
  return there >= amount && !in_window_.empty() ? after(in_window_.back().first) : kMinuteMs;
}

int64_t LimitCounter::reset_ms(int64_t now_ms) const {
  if (used_ + handed_ > 0) return kMinuteMs;
  return in_window_.empty() ? 0 : std::clamp<int64_t>(in_window_.back().first + kMinuteMs - now_ms, 0, kMinuteMs);
}

void LimitCounter::hand_out(int64_t amount, int64_t now_ns) {
  handed_ += amount;
  taken_ += amount;
  largest_ = std::max(largest_, amount);
  touched_ns_ = now_ns;
}

void LimitCounter::settle(int64_t taken_back, int64_t used) {
  handed_ -= taken_back;
  if (window() != LimitWindow::level) used_ += used;
}

// In a minute's window what was reported stays until it leaves; a period's total goes down again.
void LimitCounter::take_back_used(int64_t amount) {
  used_ -= window() == LimitWindow::minute ? std::min(amount, std::max<int64_t>(0, used_)) : amount;
}

void LimitCounter::want(int64_t amount) {
  wanted_ += amount;
  largest_ = std::max(largest_, amount);
}

// So much that requests seldom wait, and that a node that is killed burns little: it stays settled.
int64_t LimitCounter::ahead() const {
  return std::min(std::max(4 * largest_, 2 * taken_), std::max(largest_, cap_ / 8));
}

bool LimitCounter::is_forgettable() const {
  return number_ == 0 && used_ == 0 && handed_ == 0 && wanted_ == 0 && !in_flight_ && !is_unknown_;
}

bool LimitCounter::is_idle(int64_t now_ns, int64_t idle_ns) const {
  return used_ == 0 && handed_ == 0 && wanted_ == 0 && !is_unknown_ && now_ns - touched_ns_ >= idle_ns;
}

bool LimitCounter::needs_report(int64_t now_ns, int64_t sync_ns) const {
  if (in_flight_) return false;
  if (wanted_ > 0) return true;
  // Before all else: without a lease nothing else would report it again, and it is closed until a report is recorded.
  if (is_unknown_) return now_ns - reported_ns_ >= std::min(sync_ns, kLedgerRetryNs);
  if (number_ == 0 && used_ == 0) return handed_ > 0;
  if (is_low(now_ns) && now_ns - reported_ns_ >= kLowNs) return true;  // before a request has to wait
  return now_ns - reported_ns_ >= (used_ != 0 ? sync_ns : kRenewNs);
}

QuotaReport LimitCounter::report(int64_t now_ns) {
  closing_ = number_ > 0 && is_idle(now_ns, retires_ ? 0 : kRenewNs);
  QuotaReport report{.key = key_,
                     .window = window(),
                     .cap = cap_,
                     .number = number_,
                     .mark = is_unknown_ || closing_ ? 0 : mark_,
                     .used = is_unknown_ ? sent_used_ : used_,
                     .handed = handed_ + (is_unknown_ ? used_ - sent_used_ : 0),
                     .least = wanted_,
                     .ahead = ahead(),
                     .close = closing_};
  sent_used_ = report.used;
  sent_mark_ = report.used + report.handed + report.least + report.ahead;
  sent_cap_ = report.cap;
  sent_ns_ = reported_ns_ = now_ns;
  in_flight_ = true;
  wanted_ = 0;
  taken_ = 0;
  return report;
}

void LimitCounter::recorded(QuotaAnswer answer, int64_t now_ns) {
  in_flight_ = is_unknown_ = last_failed_ = false;
  ++rounds_;
  used_ -= sent_used_;
  number_ = answer.number;
  granted_ = answer.granted;
  mark_ = answer.mark;
  free_ = answer.free;
  settled_ = answer.settled;
  in_window_ = std::move(answer.in_window);
  lease_ends_ns_ = sent_ns_ + kLeaseNs;
  answered_ns_ = now_ns;
  closing_ = false;
  if (cap_ != sent_cap_) change_by(cap_ - sent_cap_);  // it was changed meanwhile: the answer is of the old one
}

void LimitCounter::failed() {
  in_flight_ = false;
  is_unknown_ = last_failed_ = true;
  ++rounds_;
  mark_ = closing_ ? 0 : std::min(mark_, sent_mark_);
  closing_ = false;
}

}  // namespace redoubt
