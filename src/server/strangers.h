// The connections on which nobody was recognised yet: on which no request was let in. Which of them gives way when
// there is little room, so that who has no key can't keep out who has one. One thread's.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "server/client_address.h"

namespace redoubt {

class HttpConnection;

// The share of one address is counted for the address itself (IPv6: for its /64, which one customer has), but not for
// loopback and trusted proxies: those speak for many.
std::string share_address(std::string_view peer, const TrustedProxies& trusted);  // "": not counted

class Strangers {
 public:
  struct Limits {
    int64_t most = 0;         // connections of all kinds
    int64_t per_address = 0;  // strangers of one address
  };

  void add(HttpConnection* connection, std::string address);
  void forget(HttpConnection* connection);  // it is recognised or gone; one that is not here is no error
  bool contains(HttpConnection* connection) const { return places_.contains(connection); }
  int64_t size() const { return static_cast<int64_t>(by_age_.size()); }

  enum class Room : uint8_t { free, after_one_leaves, none };
  struct Answer {
    Room room = Room::free;
    HttpConnection* leaves = nullptr;  // under way it has a refusal or a status at most
  };
  // For one more connection of this address, with `taken` there already. All are welcome while half of the room is
  // free; from then on an address that has its share gives up its own oldest, and at the end the oldest of all goes.
  Answer room_for(std::string_view address, int64_t taken, const Limits& limits) const;
  // The oldest of an address that has its share; null: it has not.
  HttpConnection* beyond_share(std::string_view address, int64_t taken, const Limits& limits) const;

 private:
  struct Stranger {
    HttpConnection* connection;
    std::string address;
  };
  std::list<Stranger> by_age_;  // the oldest first
  std::unordered_map<HttpConnection*, std::list<Stranger>::iterator> places_;
  std::unordered_map<std::string, int64_t> of_address_;
};

}  // namespace redoubt
