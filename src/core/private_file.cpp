#include "core/private_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace redoubt {
namespace {

Error failed(const std::filesystem::path& path, int reason) {
  return io_error(fmt::format("{}: {}", path.string(), std::strerror(reason)));
}

}  // namespace

bool everyone_may_read(const std::filesystem::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IROTH) != 0;
}

Status write_private_file(const std::filesystem::path& path, std::string_view text, IfThere there) {
  const std::string partial = path.string() + ".partial";
  const int fd = ::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return failed(partial, errno);
  // One that a crash left behind may have another mode.
  const bool written = ::fchmod(fd, 0600) == 0 &&
                       ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd) == 0;
  const int why = errno;
  ::close(fd);
  if (!written) return failed(partial, why);
  if (there == IfThere::replace) {
    if (::rename(partial.c_str(), path.c_str()) != 0) return failed(path, errno);
    return ok();
  }
  const int linked = ::link(partial.c_str(), path.c_str());
  const int reason = errno;
  ::unlink(partial.c_str());
  if (linked != 0 && reason != EEXIST) return failed(path, reason);
  return ok();
}

}  // namespace redoubt
