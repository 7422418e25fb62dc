#include "crypto/random.h"

#include <sys/random.h>

#include <cerrno>
#include <vector>

#include "core/result.h"
#include "crypto/base64url.h"

namespace redoubt {

void fill_random(std::span<uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = getrandom(bytes.data(), bytes.size(), 0);
    REDOUBT_ASSERT(got >= 0 || errno == EINTR);
    if (got > 0) bytes = bytes.subspan(static_cast<size_t>(got));
  }
}

std::string random_token(size_t bytes) {
  std::vector<uint8_t> drawn(bytes);
  fill_random(drawn);
  return base64url(drawn);
}

}  // namespace redoubt
