#include "core/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace redoubt {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kMode = 0666;  // less the umask

Error cannot_write(const fs::path& path, int why) {
  return io_error(fmt::format("cannot write {}: {}", path.string(), std::strerror(why)));
}

std::string partial_of(const fs::path& path) { return path.string() + ".partial"; }
// For the moment between two system calls: nothing can take a name that is taken but by a rename.
std::string complete_of(const fs::path& path) { return path.string() + ".complete"; }

bool is_the_file_there(int fd, const std::string& name) {
  struct stat ours {
  }, there{};
  return ::fstat(fd, &ours) == 0 && ::lstat(name.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

// Of one that we may read at most: another user's.
bool is_locked(const std::string& name) {
  const int fd = ::open(name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return false;
  const bool is_held = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return is_held;
}

// The locked file of this name, or -1 and errno; EWOULDBLOCK: another has the lock.
int open_locked(const std::string& name, int create) {
  while (true) {
    const int fd = ::open(name.c_str(), O_RDWR | create | O_NOFOLLOW | O_CLOEXEC, kMode);
    if (fd < 0) {
      const int why = errno;
      errno = is_locked(name) ? EWOULDBLOCK : why;
      return -1;
    }
    const bool is_held = ::flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (!is_held && is_the_file_there(fd, name)) return fd;
    ::close(fd);
    if (is_held) {
      errno = EWOULDBLOCK;
      return -1;
    }
    // Its writer took the name away between our two calls.
  }
}

int link_to(int fd, const std::string& name) {
  const std::string ours = fmt::format("/proc/self/fd/{}", fd);
  return ::linkat(AT_FDCWD, ours.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

int open_nameless(const fs::path& path) {
  const fs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  return ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, kMode);
}

constexpr int kMaxLinks = 40;  // as the kernel's

// Where symbolic links lead to, though nothing may be there yet.
Result<fs::path> followed(fs::path path) {
  for (int links = 0; links <= kMaxLinks; ++links) {
    std::error_code error;
    const fs::path target = fs::read_symlink(path, error);
    if (error) return path;  // is none
    path = target.is_absolute() ? target : path.parent_path() / target;
  }
  return cannot_write(path, ELOOP);
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

Status check_is_replaceable(const fs::path& path, const fs::path& asked) {
  struct stat there {};
  if (::lstat(path.c_str(), &there) != 0 || S_ISREG(there.st_mode) || S_ISLNK(there.st_mode)) return ok();
  return invalid(fmt::format("{}: expected a file or a new name, found {}", asked.string(), kind_of(there.st_mode)));
}

// Some systems make such a file and then give it no name: without /proc, or by a rule. Better known before the work.
bool can_be_named(const fs::path& path) {
  const int fd = open_nameless(path);
  if (fd < 0) return false;
  const bool linked = link_to(fd, complete_of(path)) == 0;
  ::close(fd);
  if (linked) ::unlink(complete_of(path).c_str());
  return linked;
}

}  // namespace

Result<NewFile> NewFile::create(const fs::path& asked, Links links, Bytes bytes) {
  fs::path path = asked;
  if (links == Links::followed) {
    REDOUBT_TRY(path, followed(asked));
  }
  REDOUBT_CHECK(check_is_replaceable(path, asked));
  const int lock = open_locked(partial_of(path), O_CREAT);
  if (lock < 0 && errno == EWOULDBLOCK)
    return Error{ErrorCode::overloaded, fmt::format("{}: another process is writing it", path.string()), {}};
  if (lock < 0) return cannot_write(path, errno);
  NewFile file;
  file.path_ = path;
  file.lock_fd_ = file.fd_ = lock;
  if (::ftruncate(lock, 0) != 0) return cannot_write(path, errno);
  ::unlink(complete_of(path).c_str());
  if (bytes == Bytes::nameless_if_possible && can_be_named(path)) {
    const int fd = open_nameless(path);
    if (fd >= 0) file.fd_ = fd;
  }
  return file;
}

void NewFile::remove_left_over(const fs::path& path) {
  const int lock = open_locked(partial_of(path), 0);
  if (lock < 0) return;
  ::unlink(complete_of(path).c_str());
  ::unlink(partial_of(path).c_str());
  ::close(lock);
}

NewFile::~NewFile() {
  if (fd_ < 0) return;
  ::unlink(partial_of(path_).c_str());
  close();
}

int NewFile::give_name() const {
  if (has_bytes_in_partial()) return ::rename(partial_of(path_).c_str(), path_.c_str()) == 0 ? 0 : errno;
  int why = link_to(fd_, path_.string());
  if (why != EEXIST) return why;
  why = link_to(fd_, complete_of(path_));
  if (why == 0 && ::rename(complete_of(path_).c_str(), path_.c_str()) != 0) {
    why = errno;
    ::unlink(complete_of(path_).c_str());
  }
  return why;
}

Status NewFile::take_name() {
  const int why = give_name();
  if (why != 0 || !has_bytes_in_partial()) ::unlink(partial_of(path_).c_str());
  close();
  return why == 0 ? ok() : Status(cannot_write(path_, why));
}

void NewFile::close() {
  if (!has_bytes_in_partial()) ::close(fd_);
  ::close(lock_fd_);
  fd_ = lock_fd_ = -1;
}

}  // namespace redoubt
