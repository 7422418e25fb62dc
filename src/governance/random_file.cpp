#include "governance/random_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/private_file.h"
#include "crypto/base64url.h"
#include "crypto/random.h"

namespace redoubt {
namespace {

Error failed(const std::filesystem::path& path) {
  return io_error(fmt::format("{}: {}", path.string(), std::strerror(errno)));
}

}  // namespace

Result<std::vector<uint8_t>> open_random_file(const std::filesystem::path& path, size_t bytes) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return failed(path);
    REDOUBT_CHECK(write_private_file(path, random_token(bytes) + "\n", IfThere::keep));
    if (::stat(path.c_str(), &info) != 0) return failed(path);
  }
  if ((info.st_mode & 077) != 0)
    return io_error(fmt::format("{}: others may read it; expected mode 0600", path.string()));
  std::string text;
  std::ifstream file(path);
  std::getline(file, text);
  auto drawn = parse_base64url(text);
  if (!drawn || drawn->size() != bytes)
    return corrupt(
        fmt::format("{}: expected one line of {} characters of base64url", path.string(), (bytes * 4 + 2) / 3));
  return *std::move(drawn);
}

}  // namespace redoubt
