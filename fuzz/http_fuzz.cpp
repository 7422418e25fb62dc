// What we parse of a request ourselves: the target, header rules, the presented key, CORS names, route templates, PROXY
// headers, and whom a request is from.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/log.h"
#include "core/utf8.h"
#include "server/client_address.h"
#include "server/http_parse.h"
#include "server/proxy_protocol.h"
#include "server/router.h"

using namespace redoubt;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string_view target = text.substr(0, text.find('\n'));
  if (const auto parsed = parse_request_target(target); parsed.has_value()) {
    REDOUBT_ASSERT(!parsed->path.empty() && parsed->path.front() == '/');
    REDOUBT_ASSERT(is_valid_utf8(parsed->path));
    std::map<std::string, std::string> params;
    match_path("/v1/models/{id}", parsed->path, params);
    match_path("/a/{b}/c/{d}", parsed->path, params);
  }
  HeaderList headers;
  std::string_view rest = text;
  while (!rest.empty() && headers.size() < 64) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const size_t colon = std::min(line.find(':'), line.size());
    headers.emplace_back(line.substr(0, colon), line.substr(std::min(colon + 1, line.size())));
  }
  const bool good = check_headers(headers, size % 2 == 0).has_value();
  const std::string_view key = presented_key(headers);
  REDOUBT_ASSERT(key_matches(key, {"secret"}) == (key == "secret"));
  for (const char c : allowed_cors_headers(text)) REDOUBT_ASSERT(c != '\r' && c != '\n');
  is_sane_request_id(text);
  if (const auto proxy = parse_proxy_header(text); proxy.has_value()) {
    REDOUBT_ASSERT(proxy->bytes <= text.size() && proxy->bytes <= kMaxProxyHeaderBytes);
    REDOUBT_ASSERT(proxy->address.empty() || IpAddress::parse(proxy->address).has_value());
  }
  static const TrustedProxies trusted = TrustedProxies::parse({"10.0.0.0/8", "fd00::/8"}).value();
  REDOUBT_ASSERT(client_address("192.0.2.1", {text}, trusted).address == "192.0.2.1");
  const ClientAddress client = client_address("10.0.0.1", {text}, trusted);
  REDOUBT_ASSERT(IpAddress::parse(client.address).has_value());
  REDOUBT_ASSERT(!client.unread || (trusted.contains(client.address) && !parse_forwarded_entry(*client.unread)));
  static const ManualClock clock;
  static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (quiet) UnreadForwarded(clock).tell("10.0.0.1", client);
  return good ? 0 : 0;
}
