#include "governance/random_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

#include "crypto/base64url.h"
#include "crypto/random.h"

namespace redoubt {
namespace {

Error failed(const std::filesystem::path& path) {
  return io_error(fmt::format("{}: {}", path.string(), std::strerror(errno)));
}

// Whole or not at all: a half-written key would lock everybody out at the next start.
Status make(const std::filesystem::path& path, size_t bytes) {
  const std::string partial = path.string() + ".partial";
  const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return failed(partial);
  const std::string text = random_token(bytes) + "\n";
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  ::close(fd);
  if (!written) return failed(partial);
  if (::link(partial.c_str(), path.c_str()) != 0 && errno != EEXIST) return failed(path);
  ::unlink(partial.c_str());
  return ok();
}

}  // namespace

Result<std::vector<uint8_t>> open_random_file(const std::filesystem::path& path, size_t bytes) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return failed(path);
    REDOUBT_CHECK(make(path, bytes));
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
