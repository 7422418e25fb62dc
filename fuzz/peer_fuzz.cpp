// What a peer answers, and the URL that it has: no bytes may crash the parsers, and no answer is longer than allowed.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "server/peer_client.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMost = 1000;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto response = redoubt::parse_peer_response(text, kMost);
  if (response && (response->body.size() > kMost || response->status < 200)) std::abort();
  const auto url = redoubt::parse_peer_url(text);
  if (url && (url->host.empty() || url->path.find_first_of("\r\n ") != std::string::npos)) std::abort();
  return 0;
}
