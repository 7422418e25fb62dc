// Slows those who guess, and nobody else.
//
// Failures are counted by source address (an IPv6 one by its /64, which one customer has whole). Too many in a while,
// and the address waits, longer each time. It is never a key's prefix or a user's name that is locked: whoever knows a
// name could lock its owner out. Behind one address, a proxy or a company's, those who came in before the guessing
// began still do. Failures that are proved to be of one account (its revoked or expired key, its token) count against
// that account from that address, and lock nobody else there. Bounded: the addresses that were quiet longest are
// forgotten first. Thread safety: any; a lock held for a look-up.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
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
  int64_t known_s = 86'400;  // how long who came in before is remembered
  size_t max_addresses = 65'536;
  size_t max_accounts = 64;  // remembered of one address
};

class Lockout {
 public:
  Lockout(LockoutOptions options, const Clock& clock) : options_(options), clock_(clock) {}

  // Seconds that the address has to wait, 0 if it may try. Where somebody is known there, one may always try, and
  // come_in says then who may. Takes no lock while no address waits.
  int64_t wait_before(std::string_view address);
  void failed(std::string_view address, std::string_view account);  // "": of nobody that is known
  // Who proved to be the account: seconds that it has to wait there nevertheless; 0: it came in, and is known from now
  // on.
  int64_t come_in(std::string_view address, std::string_view account);

 private:
  struct Count {
    int64_t begun_s = 0, until_s = 0;
    int failures = 0, locks = 0;
  };
  struct Address {
    std::string name;
    Count all;
    std::map<std::string, Count, std::less<>> accounts;
    std::map<std::string, int64_t, std::less<>> known;  // account to when it last came in
  };
  using Entry = std::list<Address>::iterator;

  Address& entry(std::string_view address);
  Address* find(std::string_view address);
  void count(Count& count, int64_t now_s);
  int64_t wait_of(const Address& address, std::string_view account, int64_t now_s) const;
  bool knows(const Address& address, std::string_view account, int64_t now_s) const;

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
