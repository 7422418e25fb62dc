#include "server/client_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/log.h"

namespace redoubt {
namespace {

constexpr int64_t kTellAgainNs = int64_t{3600} * 1'000'000'000;
constexpr size_t kMostTold = 1024, kMostShown = 32;  // proxies; bytes of an entry

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// What may stand behind an address: nothing, or a colon and a number.
bool is_port_or_nothing(std::string_view text) {
  if (text.empty()) return true;
  const std::string_view digits = text.substr(1);
  return text.front() == ':' && !digits.empty() && digits.size() <= 5 &&
         digits.find_first_not_of("0123456789") == std::string_view::npos;
}

bool same_prefix(const IpAddress& a, const IpAddress& b, int bits) {
  for (int i = 0; i < bits; ++i) {
    const auto bit = [&](const IpAddress& x) { return x.bytes[static_cast<size_t>(i / 8)] >> (7 - i % 8) & 1; };
    if (bit(a) != bit(b)) return false;
  }
  return true;
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.empty() || text.size() > 45) return std::nullopt;
  const std::string copy(text);
  if (copy.size() != std::strlen(copy.c_str())) return std::nullopt;
  char bytes[16];
  if (inet_pton(AF_INET, copy.c_str(), bytes) == 1) return from_bytes({bytes, 4});
  if (inet_pton(AF_INET6, copy.c_str(), bytes) == 1) return from_bytes({bytes, 16});
  return std::nullopt;
}

IpAddress IpAddress::from_bytes(std::string_view bytes) {
  constexpr std::string_view kMapped("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
  if (bytes.size() == 16 && bytes.substr(0, 12) == kMapped) bytes.remove_prefix(12);
  IpAddress result{.is_v4 = bytes.size() == 4, .bytes = {}};
  std::copy_n(bytes.begin(), std::min<size_t>(bytes.size(), 16), result.bytes.begin());
  return result;
}

std::string IpAddress::text() const {
  char buffer[INET6_ADDRSTRLEN];
  return inet_ntop(is_v4 ? AF_INET : AF_INET6, bytes.data(), buffer, sizeof buffer);
}

bool IpAddress::loopback() const {
  if (is_v4) return bytes[0] == 127;
  return std::all_of(bytes.begin(), bytes.end() - 1, [](uint8_t b) { return b == 0; }) && bytes.back() == 1;
}

Result<bool> is_loopback_host(const std::string& host) {
  if (host == "localhost") return true;
  const auto address = IpAddress::parse(host);
  if (!address) return invalid("host: expected an IP address or localhost, found " + host, "host");
  return address->loopback();
}

Result<TrustedProxies> TrustedProxies::parse(const std::vector<std::string>& entries) {
  TrustedProxies result;
  for (const std::string& entry : entries) {
    const auto wrong = [&] { return invalid("trusted_proxies: expected an address or a range, found " + entry); };
    const size_t slash = std::min(entry.find('/'), entry.size());
    const auto address = IpAddress::parse(std::string_view(entry).substr(0, slash));
    if (!address) return wrong();
    const int width = address->is_v4 ? 32 : 128;
    int bits = width;
    if (slash < entry.size()) {
      const char* end = entry.data() + entry.size();
      const auto [stop, error] = std::from_chars(entry.data() + slash + 1, end, bits);
      if (error != std::errc() || stop != end || bits < 0 || bits > width) return wrong();
    }
    result.ranges_.emplace_back(*address, bits);
  }
  return result;
}

bool TrustedProxies::contains(std::string_view text) const {
  if (ranges_.empty()) return false;
  const auto address = IpAddress::parse(text);
  if (!address) return false;
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const auto& range) {
    return range.first.is_v4 == address->is_v4 && same_prefix(range.first, *address, range.second);
  });
}

std::optional<IpAddress> parse_forwarded_entry(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') text = text.substr(1, text.size() - 2);
  if (text.starts_with('[')) {
    const size_t close = text.find(']');
    if (close == std::string_view::npos || !is_port_or_nothing(text.substr(close + 1))) return std::nullopt;
    const std::string_view inside = text.substr(1, close - 1);
    return inside.find(':') == std::string_view::npos ? std::nullopt : IpAddress::parse(inside);
  }
  // One colon is a port's; an IPv6 address has two at least.
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || text.find(':', colon + 1) != std::string_view::npos)
    return IpAddress::parse(text);
  return is_port_or_nothing(text.substr(colon)) ? IpAddress::parse(text.substr(0, colon)) : std::nullopt;
}

ClientAddress client_address(std::string_view peer, const std::vector<std::string_view>& forwarded_for,
                             const TrustedProxies& trusted) {
  ClientAddress client{.address = std::string(peer), .unread = {}};
  if (!trusted.contains(client.address)) return client;
  for (auto header = forwarded_for.rbegin(); header != forwarded_for.rend(); ++header) {
    std::string_view rest = *header;
    for (;;) {
      const size_t comma = rest.rfind(',');
      const std::string_view last = trimmed(comma == std::string_view::npos ? rest : rest.substr(comma + 1));
      const auto address = parse_forwarded_entry(last);
      if (!address) {
        client.unread = last;
        return client;
      }
      client.address = address->text();
      if (!trusted.contains(client.address)) return client;
      if (comma == std::string_view::npos) break;
      rest = rest.substr(0, comma);
    }
  }
  return client;
}

void UnreadForwarded::tell(std::string_view peer, const ClientAddress& client) {
  if (!client.unread) return;
  const int64_t now_ns = clock_.now_ns();
  auto at = told_ns_.find(peer);
  if (at != told_ns_.end() && now_ns - at->second < kTellAgainNs) return;
  if (at == told_ns_.end() && told_ns_.size() >= kMostTold) {
    std::erase_if(told_ns_, [&](const auto& one) { return now_ns - one.second >= kTellAgainNs; });
    if (told_ns_.size() >= kMostTold) return;
  }
  told_ns_.insert_or_assign(std::string(peer), now_ns);
  std::string shown(client.unread->substr(0, kMostShown));
  for (char& c : shown) c = c >= ' ' && c < 0x7f && c != '"' ? c : '?';
  log::warn(
      "X-Forwarded-For of proxy {}: expected addresses, found \"{}\"{}; such requests count as from {}, for policies "
      "on "
      "source_ip too",
      peer, shown, client.unread->size() > kMostShown ? "…" : "", client.address);
}

}  // namespace redoubt
