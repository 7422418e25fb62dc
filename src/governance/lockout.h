// Slows those who guess, and nobody else.
//
// Failures are counted by source address (an IPv6 one by its /64, which one customer has whole). Too many in a while,
// and the address waits, longer each time. It is never a key's prefix or a user's name that is locked: whoever knows a
// name could lock its owner out. Nor does an address's wait refuse what is proven: many may be behind one, and one of
// them who guesses would lock the others out. What it refuses is what was not proven, what costs too much to prove
// (a small number of tokens' signatures a second), and a key that a person chose, which guessing might find; that one
// goes on where it came in before. Failures that are proved to be of one account (its revoked or expired key) count
// against that account from that address, and make none but such wait there. Bounded: the addresses that were quiet
// longest are forgotten first. Thread safety: any; a lock held for a look-up.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/clock.h"

namespace redoubt {

struct LockoutOptions {
  int failures = 20;  // in `window_s` lock
  int64_t window_s = 60;
  int64_t lock_s = 60;  // the first time; twice as long each time after
  int64_t max_lock_s = 900;
  int64_t known_s = 86'400;      // how long an address is remembered where a chosen key came in
  int verifications_per_s = 50;  // of signatures for one address that waits: of some 0.1 ms each
  size_t max_addresses = 65'536;
  size_t max_accounts = 64;  // remembered of one address
};

class Lockout {
 public:
  Lockout(LockoutOptions options, const Clock& clock) : options_(options), clock_(clock) {}

  // Seconds that what is not proven has to wait at the address. Takes no lock while no address waits.
  int64_t wait_of(std::string_view address);
  // The seconds that the account has to wait there by now; 0: none, or the account is "", of nobody that is known.
  int64_t failed(std::string_view address, std::string_view account);
  // At an address that waits: may one more signature be verified in this second?
  bool may_verify(std::string_view address);
  // A chosen key came in there: it does so from now on, whoever guesses beside it.
  void chosen_came_in(std::string_view address);
  bool chosen_is_known(std::string_view address);

 private:
  struct Count {
    int64_t begun_s = 0, until_s = 0;
    int failures = 0, locks = 0;
  };
  struct Address {
    std::string name;
    Count all;
    std::map<std::string, Count, std::less<>> accounts;
    std::optional<int64_t> chosen_s;  // when a chosen key last came in
    int64_t verified_s = 0;           // the second of the signatures counted
    int verified = 0;
  };
  using Entry = std::list<Address>::iterator;

  Address& entry(std::string_view address);
  Address* find(std::string_view address);
  void count(Count& count, int64_t now_s);
  int64_t now_s() const { return clock_.now_ns() / 1'000'000'000; }

  LockoutOptions options_;
  const Clock& clock_;
  std::atomic<int64_t> last_until_s_{0};  // when the last of those who wait need not any more
  std::mutex mutex_;
  std::list<Address> addresses_;  // the one heard of last in front
  std::unordered_map<std::string, Entry> by_name_;
};

// "2001:db8:1:2::/64" of an IPv6 address, an IPv4 one as it is (also where IPv6 carries it), else the text.
std::string address_group(std::string_view address);

}  // namespace redoubt
