// One limit of one subject in one period, as a node's memory has it: the lease, what was handed out of it, and what the
// next report to the ledger says. Pure arithmetic: no clock, no lock (the limits' own), no database.
//
// Invariant: used + handed <= mark as long as the lease holds, so that whatever happens to this node, the ledger has
// counted enough. While a report is under way the mark is the lower one of what it was and what the report may make it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "governance/limit_calendar.h"
#include "governance/limit_rule.h"
#include "governance/quota_ledger.h"

namespace redoubt {

constexpr int64_t kLedgerRetryNs = 200'000'000;  // after a report failed

class LimitCounter {
 public:
  LimitCounter(QuotaKey key, LimitKind kind, std::string limit, CalendarPeriod period)
      : key_(std::move(key)), kind_(kind), limit_(std::move(limit)), period_(period) {}

  const QuotaKey& key() const { return key_; }
  LimitKind kind() const { return kind_; }
  LimitWindow window() const { return window_of(kind_); }
  const std::string& limit() const { return limit_; }
  int64_t cap() const { return cap_; }
  void set_cap(int64_t cap);  // the rule changed: it holds for what is not handed out yet

  int64_t available(int64_t now_ns) const;  // to hand out at once
  int64_t remaining() const;                // for headers: also what the lease or the ledger has beyond
  // Nothing that a report could change is known to be there.
  bool is_exhausted_for(int64_t amount, int64_t now_ns, int64_t now_ms) const;
  int64_t retry_ms(int64_t amount, int64_t now_ms) const;  // until there may be so much; -1: never
  // Of a day or a month: what is used leaves so much, only requests under way hold it.
  bool is_only_reserved(int64_t amount) const;
  int64_t reset_ms(int64_t now_ms) const;  // until all is there again

  // What remaining() says is the ledger's, and not older than a lease.
  bool is_known(int64_t now_ns) const { return number_ > 0 && now_ns < lease_ends_ns_ && !closing_; }
  void touch(int64_t now_ns) { touched_ns_ = now_ns; }  // somebody reads it: its lease is kept

  // The lease ended without being renewed: others may have what was handed out of it.
  bool is_over(int64_t now_ns) const { return number_ > 0 && now_ns >= lease_ends_ns_; }
  bool has_lease() const { return number_ > 0; }

  void hand_out(int64_t amount, int64_t now_ns);
  // Of what was handed out: `taken_back` goes out of it, `used` of that was really used.
  void settle(int64_t taken_back, int64_t used);
  void take_back_used(int64_t amount);  // of a request that failed in the end
  void want(int64_t amount);            // a request waits for it

  // The next report. Until recorded() or failed() the counter is in flight.
  bool is_in_flight() const { return in_flight_; }
  bool needs_report(int64_t now_ns, int64_t sync_ns) const;
  bool is_low(int64_t now_ns) const { return available(now_ns) < ahead() / 2 && free_ + granted_ > mark_; }
  QuotaReport report(int64_t now_ns);
  void recorded(QuotaAnswer answer, int64_t now_ns);
  void failed();
  void retire() { retires_ = true; }  // the node stops: the next report gives the lease back if nothing is under way
  bool is_reported() const { return used_ == 0 && !is_unknown_; }  // the ledger knows all
  bool is_forgettable() const;
  uint64_t rounds() const { return rounds_; }  // reports that came back, whichever way
  bool last_failed() const { return last_failed_; }
  int64_t reported_ns() const { return reported_ns_; }
  bool is_idle(int64_t now_ns, int64_t idle_ns) const;

 private:
  int64_t ahead() const;
  void change_by(int64_t more);  // the cap, against the one that the lease was given by

  QuotaKey key_;
  LimitKind kind_;
  std::string limit_;
  CalendarPeriod period_;
  int64_t cap_ = 0;

  // The lease, as of the last report recorded.
  int64_t number_ = 0, granted_ = 0, mark_ = 0, free_ = 0, settled_ = 0;
  std::vector<std::pair<int64_t, int64_t>> in_window_;
  int64_t lease_ends_ns_ = 0;

  int64_t used_ = 0;    // since that report
  int64_t handed_ = 0;  // under way
  int64_t wanted_ = 0;  // by requests that wait
  int64_t largest_ = 0, taken_ = 0;
  int64_t touched_ns_ = 0, reported_ns_ = 0, answered_ns_ = 0;

  bool in_flight_ = false, is_unknown_ = false, closing_ = false, retires_ = false, last_failed_ = false;
  int64_t sent_cap_ = 0, sent_used_ = 0, sent_mark_ = 0, sent_ns_ = 0;
  uint64_t rounds_ = 0;
};

}  // namespace redoubt
