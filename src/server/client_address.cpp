#include "server/client_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace redoubt {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
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

std::string client_address(std::string_view peer, const std::vector<std::string_view>& forwarded_for,
                           const TrustedProxies& trusted) {
  std::string client(peer);
  if (!trusted.contains(client)) return client;
  for (auto header = forwarded_for.rbegin(); header != forwarded_for.rend(); ++header) {
    std::string_view rest = *header;
    for (;;) {
      const size_t comma = rest.rfind(',');
      const std::string_view last = trimmed(comma == std::string_view::npos ? rest : rest.substr(comma + 1));
      const auto address = IpAddress::parse(last);
      if (!address) return client;
      client = address->text();
      if (!trusted.contains(client)) return client;
      if (comma == std::string_view::npos) break;
      rest = rest.substr(0, comma);
    }
  }
  return client;
}

}  // namespace redoubt
