// The PROXY protocol, versions 1 and 2: what a load balancer puts before the first byte of a connection to say whom it
// speaks for.
// Source: haproxy.org, "The PROXY protocol", 2020/03/05. Only TCP over IPv4 and IPv6 and LOCAL/UNKNOWN are taken.
//
// Pure functions over untrusted bytes (fuzz/http_fuzz.cpp). Whether the peer may say such a thing is the listener's
// decision (HttpOptions::trusted_proxies).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

struct ProxyHeader {
  size_t bytes = 0;     // of the header; 0: more are needed
  std::string address;  // the client's, as text; empty: the proxy speaks for itself (LOCAL, UNKNOWN)
};

inline constexpr size_t kMaxProxyHeaderBytes = 536;  // v2 with room for options; v1 has at most 107

// Errors: invalid_argument for bytes that can't begin such a header, or a header that is too long.
Result<ProxyHeader> parse_proxy_header(std::string_view bytes);

}  // namespace redoubt
