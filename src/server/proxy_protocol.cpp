#include "server/proxy_protocol.h"

#include <algorithm>
#include <vector>

#include "server/client_address.h"

namespace redoubt {
namespace {

constexpr std::string_view kV1 = "PROXY ";
constexpr std::string_view kV2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr size_t kMaxV1Bytes = 107;
constexpr size_t kV2HeadBytes = 16;

bool may_become(std::string_view bytes, std::string_view signature) {
  const size_t size = std::min(bytes.size(), signature.size());
  return bytes.substr(0, size) == signature.substr(0, size);
}

Error broken() { return invalid("PROXY protocol: expected a header of version 1 or 2"); }

bool is_port(std::string_view text) {
  return !text.empty() && text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
Result<ProxyHeader> parse_v1(std::string_view bytes) {
  const size_t end = bytes.find("\r\n");
  if (end == std::string_view::npos) {
    if (bytes.size() >= kMaxV1Bytes) return broken();
    return ProxyHeader{};
  }
  if (end + 2 > kMaxV1Bytes) return broken();
  ProxyHeader header{.bytes = end + 2, .address = {}};
  std::vector<std::string_view> words;
  std::string_view rest = bytes.substr(kV1.size(), end - kV1.size());
  for (;;) {
    const size_t space = rest.find(' ');
    words.push_back(rest.substr(0, space));
    if (space == std::string_view::npos) break;
    rest.remove_prefix(space + 1);
  }
  if (words[0] == "UNKNOWN") return header;
  if ((words[0] != "TCP4" && words[0] != "TCP6") || words.size() != 5) return broken();
  if (!is_port(words[3]) || !is_port(words[4])) return broken();
  const auto source = IpAddress::parse(words[1]), target = IpAddress::parse(words[2]);
  if (!source || !target || source->is_v4 != (words[0] == "TCP4") || target->is_v4 != source->is_v4) return broken();
  header.address = source->text();
  return header;
}

Result<ProxyHeader> parse_v2(std::string_view bytes) {
  if (bytes.size() < kV2HeadBytes) return ProxyHeader{};
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned version = byte(12) >> 4, command = byte(12) & 15, family = byte(13) >> 4, transport = byte(13) & 15;
  const size_t length = static_cast<size_t>(byte(14)) << 8 | byte(15);
  if (version != 2 || command > 1) return broken();
  if (kV2HeadBytes + length > kMaxProxyHeaderBytes) return broken();
  if (bytes.size() < kV2HeadBytes + length) return ProxyHeader{};
  ProxyHeader header{.bytes = kV2HeadBytes + length, .address = {}};
  if (command == 0 || family == 0) return header;  // LOCAL: a health check of the proxy itself
  const size_t address_bytes = family == 1 ? 4 : 16;
  if (family > 2 || transport != 1 || length < 2 * address_bytes + 4) return broken();
  header.address = IpAddress::from_bytes(bytes.substr(kV2HeadBytes, address_bytes)).text();
  return header;
}

}  // namespace

Result<ProxyHeader> parse_proxy_header(std::string_view bytes) {
  if (may_become(bytes, kV1)) return bytes.size() < kV1.size() ? Result<ProxyHeader>(ProxyHeader{}) : parse_v1(bytes);
  if (may_become(bytes, kV2)) return bytes.size() < kV2.size() ? Result<ProxyHeader>(ProxyHeader{}) : parse_v2(bytes);
  return broken();
}

}  // namespace redoubt
