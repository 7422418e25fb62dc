#include "apps/data_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>

namespace redoubt {
namespace {

// Whoever asks is_held holds the lock for a moment: a server that starts just then waits that out.
constexpr auto kTryAgain = std::chrono::milliseconds(10);
constexpr int kTries = 50;

bool lock_soon(int fd) {
  for (int i = 0; i < kTries; ++i) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK && errno != EINTR) return false;
    std::this_thread::sleep_for(kTryAgain);
  }
  return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

}  // namespace

std::filesystem::path home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != 0) return home;
  const passwd* user = getpwuid(getuid());
  return user != nullptr && user->pw_dir != nullptr && *user->pw_dir != 0 ? user->pw_dir : ".";
}

std::filesystem::path data_folder_path(const std::string& given) {
  if (!given.empty()) return given;
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data != 0)
    return std::filesystem::path(data) / "redoubt";
  return home_folder() / ".local/share/redoubt";
}

Result<DataFolder> DataFolder::open(const std::filesystem::path& path) {
  std::error_code error;
  if (std::filesystem::create_directories(path, error)) {
    std::filesystem::permissions(path, std::filesystem::perms::owner_all, error);
  }
  constexpr std::string_view kWayOut = "--data, or `data` in the configuration, names another";
  if (error && !std::filesystem::is_directory(path))
    return io_error(fmt::format("cannot make the data folder {}: {}; {}", path.string(), error.message(), kWayOut));
  const std::string lock = (path / "lock").string();
  const int fd = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) {
    return io_error(
        fmt::format("cannot write in the data folder {}: {}; {}", path.string(), std::strerror(errno), kWayOut));
  }
  if (!lock_soon(fd)) {
    const int reason = errno;
    close(fd);
    if (reason == EWOULDBLOCK) return io_error(path.string() + ": another redoubt holds this data folder");
    return io_error(fmt::format("{}: {}", lock, std::strerror(reason)));
  }
  return DataFolder(path, fd);
}

std::string DataFolder::open_to_others(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & S_IWOTH) != 0)
    return fmt::format("{}: everyone may write to this data folder, and so become anybody; chmod 700 it",
                       path.string());
  const std::filesystem::path database = path / kDatabaseFile;
  if (::stat(database.c_str(), &info) == 0 && (info.st_mode & (S_IROTH | S_IWOTH)) != 0)
    return fmt::format("{}: everyone may read it; chmod 600 it", database.string());
  return {};
}

bool DataFolder::is_held(const std::filesystem::path& path) {
  const int fd = ::open((path / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return held;
}

DataFolder::~DataFolder() {
  if (lock_fd_ >= 0) close(lock_fd_);
}

}  // namespace redoubt
