#include "apps/first_keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace redoubt {
namespace {

Status write_private(const std::filesystem::path& path, const std::string& text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return io_error(fmt::format("{}: {}", path.string(), std::strerror(errno)));
  const bool written = ::fchmod(fd, 0600) == 0 &&
                       ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  const int reason = errno;
  ::close(fd);
  if (!written) return io_error(fmt::format("{}: {}", path.string(), std::strerror(reason)));
  return ok();
}

}  // namespace

Result<std::string> tell_first_keys(const Directory::FirstKeys& keys, Audience audience,
                                    const std::filesystem::path& data, const std::string& base_url) {
  if (keys.user.empty() && keys.appointing.empty()) return std::string();
  std::string text;
  const bool bootstrapped = keys.user.empty();
  if (!bootstrapped) {
    text += fmt::format(
        "user key        {}\n"
        "                curl {}/v1/chat/completions -H 'Authorization: Bearer {}' \\\n"
        "                  -H 'Content-Type: application/json' -d '{{\"messages\": [{{\"role\": \"user\", \"content\": "
        "\"Hello\"}}]}}'\n",
        keys.user, base_url, keys.user);
  }
  if (!keys.appointing.empty()) {
    text += fmt::format(
        "appointing key  {}\n"
        "                names the three administrators, once: redoubt user appoint --help\n",
        keys.appointing);
  }
  if (audience == Audience::terminal && !bootstrapped)
    return "These keys are shown this once; only their hashes are kept.\n" + text;
  const std::filesystem::path path = data / "first.key";
  REDOUBT_CHECK(write_private(path, text));
  if (bootstrapped) return std::string();
  return fmt::format("keys     {} (read it, then remove it)\n", path.string());
}

}  // namespace redoubt
