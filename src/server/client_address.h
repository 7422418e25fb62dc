// Addresses, and where a request comes from: the peer of its connection, unless that is a proxy we trust to say better.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/result.h"

namespace redoubt {

struct IpAddress {
  bool is_v4 = true;
  std::array<uint8_t, 16> bytes{};  // of IPv4 the first four

  // Dotted or colon form, nothing around it. An IPv4 address mapped into IPv6 is that IPv4 address.
  static std::optional<IpAddress> parse(std::string_view text);
  static IpAddress from_bytes(std::string_view bytes);  // 4 or 16
  std::string text() const;
  bool loopback() const;
};

// Of an address to listen on, or "localhost". Errors: invalid_argument for what is neither.
Result<bool> is_loopback_host(const std::string& host);

// Addresses and ranges ("10.0.0.0/8", "fd00::/8", "192.0.2.7").
class TrustedProxies {
 public:
  // Errors: invalid_argument, names the entry.
  static Result<TrustedProxies> parse(const std::vector<std::string>& entries);
  bool contains(std::string_view address) const;
  bool empty() const { return ranges_.empty(); }

 private:
  std::vector<std::pair<IpAddress, int>> ranges_;  // with the length of the prefix in bits
};

// An entry of X-Forwarded-For as proxies write it: an address, perhaps with a port (192.0.2.7:5123, [2001:db8::1]:443),
// in brackets, in quotes.
std::optional<IpAddress> parse_forwarded_entry(std::string_view text);

struct ClientAddress {
  std::string address;
  std::optional<std::string_view> unread;  // the entry that is no address and ended the reading; of the header
};

// Of a request whose peer is `peer`, with these X-Forwarded-For values in the order they came. A header counts only
// from a trusted peer, and is read from its end: the first address that is no trusted proxy's is the client's, since
// whatever stands before it the client itself may have written. Text that is no address ends the reading there.
ClientAddress client_address(std::string_view peer, const std::vector<std::string_view>& forwarded_for,
                             const TrustedProxies& trusted);

// Says in the log, once an hour for each proxy, that what it forwards is not read: policies and lock-outs then see the
// proxy. Of the entry it shows a short piece, all that is not printable as `?`. One thread's.
class UnreadForwarded {
 public:
  explicit UnreadForwarded(const Clock& clock) : clock_(clock) {}
  void tell(std::string_view peer, const ClientAddress& client);

 private:
  const Clock& clock_;
  std::map<std::string, int64_t, std::less<>> told_ns_;  // by peer
};

}  // namespace redoubt
