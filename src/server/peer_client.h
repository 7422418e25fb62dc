// Asks a named peer over HTTPS, waiting for the answer: for background work and commands, never on a request's path.
// Every outgoing connection but that to the database is made here, to an address that the configuration names.
//
// TLS 1.2 or newer, the certificate and its name verified. Plain http:// is for loopback addresses alone. No redirect
// is followed, no proxy asked, no cookie kept; an answer over the size limit is an error.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"

namespace redoubt {

struct PeerRequest {
  std::string method = "GET";
  std::string url;  // https://host[:port]/path
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  int timeout_ms = 5000;  // for all of it; looking up a name is not counted
  size_t max_bytes = 256 << 10;
  std::string ca_file;  // "": the system's authorities
};

struct PeerResponse {
  int status = 0;
  std::string body;
};

// Errors: invalid_argument (the URL), unavailable (cannot be reached, not in time, not trusted), corrupt_data (not
// HTTP).
Result<PeerResponse> ask_peer(const PeerRequest& request);

struct PeerUrl {
  bool tls = true;
  std::string host, port, path;
};
Result<PeerUrl> parse_peer_url(std::string_view url);

// A whole answer as it came, up to the end of the connection. Errors: corrupt_data, also for one that was cut off.
Result<PeerResponse> parse_peer_response(std::string_view bytes, size_t max_bytes);

}  // namespace redoubt
