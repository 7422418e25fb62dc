// How much may be used: reserved before it is, settled to what it was, refunded where it failed.
//
// A request reserves its prompt and the next tokens of its answer (kStepTokens of each choice), asks for more as it
// goes on, and settles to what the engine counted. All limits that apply are taken from at once or none is: a request
// that is refused burns nothing. What a node hands out it took in leases from the ledger (quota_ledger.h), so that the
// sum over nodes never passes a limit, whoever is killed and whatever the database does; within a lease everything is
// memory. Where a lease has too little, reserve() waits for the ledger's thread (LimitsOptions::wait_ms at most), which
// asks for all that wait in one transaction. When a report to the ledger failed nothing more is admitted and no answer
// extended until one succeeds, which is tried five times a second.
//
// Thread safety: all of it, any thread. reserve() may wait: call it from a worker, not from a socket's loop.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/clock.h"
#include "core/result.h"
#include "governance/limit_rule.h"
#include "governance/principal.h"

namespace redoubt {

class Database;
class QuotaLedger;

struct LimitsOptions {
  int64_t step_tokens = 256;  // of each choice's answer, reserved at a time
  int64_t least_tokens = 32;  // with fewer to begin with, a request is refused
  int64_t wait_ms = 500;      // for the ledger, by a request
  int64_t sync_ms = 1000;     // between two reports to the ledger
};

struct LimitRequest {
  const Principal* principal = nullptr;
  std::string model;
  int64_t prompt_tokens = 0;
  int64_t max_tokens = 0;  // of each choice's answer; 0: until the context ends
  int choices = 1;
  bool may_think = true;          // false: it meets no day's limit of thinking, and its bound of thinking is 0 there
  bool is_request_alone = false;  // work without an answer: meets requests_per_minute and no other kind
};

// For the headers x-ratelimit-{limit,remaining,reset}-{requests,tokens}: the tightest limit a minute of each kind.
struct RateState {
  int64_t limit = 0, remaining = 0, reset_ms = 0;  // until all of it is there again
};
struct RateStates {
  std::optional<RateState> requests, tokens;  // nullopt: no limit, no header
};
using HeaderList = std::vector<std::pair<std::string, std::string>>;
HeaderList rate_headers(const RateStates& states);

struct LimitRefusal {
  enum class Why : uint8_t {
    exhausted,    // 429
    too_long,     // 400, code context_length_exceeded: waiting does not help
    unavailable,  // 503: the ledger cannot be asked
  };
  Why why = Why::exhausted;
  LimitKind kind = LimitKind::requests_per_minute;
  std::string limit;    // which: "tokens_per_day of tenant north"
  std::string message;  // one sentence for the client
  int64_t retry_after_s = 0;
  bool is_reserved = false;  // of a day or a month: requests under way hold what is left, and may give it back
  RateStates rates;
  HeaderList headers() const;  // rate_headers and Retry-After
};

// What was handed out to one request. Destroyed without settle() it is given back whole: the request failed.
class Reservation {
 public:
  static constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();
  struct Granted {  // of each choice, from its beginning
    int64_t answer = kUnlimited, thinking = kUnlimited;
  };

  Reservation() = default;
  Reservation(Reservation&&) noexcept;
  Reservation& operator=(Reservation&&) noexcept;
  ~Reservation();

  bool is_limited() const { return hold_ != nullptr; }  // false: no limit applies, nothing is counted
  Granted granted() const;
  // Beside the grant: bounds for the request's own fields, and what else is to be known of it.
  struct Bounds {
    int64_t most_answer = kUnlimited;    // no larger max_tokens (context_tokens)
    std::string answer_limit;            // the limit that most_answer is of
    int64_t most_thinking = kUnlimited;  // no larger thinking budget
    double share_weight = 1;             // of the tenant, for the engine
    RateStates rates;
  };
  const Bounds& bounds() const { return bounds_; }

  // Asks for the next step; never waits. `used`: by the choice that is furthest. The answer comes on the limits' own
  // thread, or never if the reservation is gone by then: the new totals, or that there is no more.
  struct NoMore {
    std::string limit;            // which refused
    bool is_unavailable = false;  // because the ledger cannot be asked, not because it is used up
  };
  using Extended = std::variant<Granted, NoMore>;
  using OnExtended = std::function<void(Extended)>;
  void extend(Granted used, OnExtended answer);

  // The database could not be reached until the leases ended: others may have what was reserved, so the request has to
  // end with an error. On the limits' own thread, once; never after settle().
  void on_lost(std::function<void(const std::string& limit)> callback);

  // What the engine counted, all choices together; the end.
  struct Usage {
    int64_t prompt = 0, answer = 0, thinking = 0;
  };
  void settle(const Usage& actual);

 private:
  friend class Limits;
  struct Hold;
  void release();

  std::shared_ptr<Hold> hold_;
  Bounds bounds_;
};

struct LimitsStats {
  uint64_t reserved = 0, extended = 0, extensions_refused = 0, settled = 0, refunded = 0;
  std::array<uint64_t, kLimitKinds> refused{};      // by the kind of limit: used up, or the request is too long
  std::array<uint64_t, kLimitKinds> unavailable{};  // by the kind of limit: the ledger could not be asked
  uint64_t syncs = 0, failed_syncs = 0;             // reports to the ledger; of these, failed
  int64_t open = 0;                                 // reservations
  int64_t counters = 0, leases = 0;                 // in this node's memory; of these, with a lease
  int64_t ledger_age_ns = 0;                        // since a report was last recorded; of the start, if none was
  int64_t failing_ns = 0;                           // since the ledger fails; 0: it answers
};

class Limits {
 public:
  // The ledger outlives it. Rules may be changed at any time and hold from the next reservation on.
  Limits(QuotaLedger& ledger, LimitsOptions options, const Clock& clock, const WallClock& wall);
  ~Limits();  // gives the leases back
  void set_rules(LimitRules rules);

  // `taken` (may be null): what the same request has reserved already. It becomes part of what is reserved now, so that
  // a limit it was taken from is not taken from again; where the answer is a refusal, it stays what it was.
  std::variant<Reservation, LimitRefusal> reserve(const LimitRequest& request, Reservation* taken = nullptr);

  // Why reserve() would refuse whatever has at least these tokens, from memory and taking nothing: for what is not
  // worth beginning. nullopt: it may admit, would have to ask the ledger, or the context is what is too small.
  std::optional<LimitRefusal> foresee(const LimitRequest& request);

  // Left in the narrowest of the principal's limits of tokens (a minute, a day, a month) for this model; nullopt: it
  // has none. From memory. Of a limit that this node has not counted by yet the ledger is asked: with may_wait its
  // answer is waited for (LimitsOptions::wait_ms; 0 is left if none comes), else the limit is left out until it is
  // known.
  std::optional<int64_t> tokens_left(const Principal& principal, const std::string& model, bool may_wait);

  LimitsStats stats() const;
  Status sync();  // now: reports what was used and renews the leases; for tests and before usage is read

 private:
  friend class Reservation;
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace redoubt
