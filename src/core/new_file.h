// A file that takes its name when it is complete. Until then its bytes have no name at all where the file system can do
// that (O_TMPFILE), so that nothing of them is left whenever the process ends; elsewhere they lie under PATH.partial.
// PATH.partial exists in both cases, empty in the first: who holds its lock is the one writer of PATH. A lock is not
// kept by a file system that has none; then two writers may meet, each with bytes of its own in the first case.
// A symbolic link is replaced, or followed where a person named the path: then what it leads to is replaced. What is
// there and neither file nor link is never replaced.
// Thread safety: none.
#pragma once

#include <filesystem>
#include <utility>

#include "core/result.h"

namespace redoubt {

enum class Bytes : uint8_t {
  nameless_if_possible,
  named,  // PATH.partial, as on a file system without O_TMPFILE
};

enum class Links : uint8_t {
  replaced,  // somebody else may have put one there: never write beyond it
  followed,
};

class NewFile {
 public:
  // Empty, open for reading and writing. Errors: overloaded, another process (or another NewFile) is writing the same
  // path; invalid_argument, a directory, device, pipe or socket is there; io. What an ended process left under the
  // names of this path is taken over.
  static Result<NewFile> create(const std::filesystem::path& path, Links links = Links::replaced,
                                Bytes bytes = Bytes::nameless_if_possible);
  // Removes what an ended process left of `path` and nobody writes now. Leaves it where it may not.
  static void remove_left_over(const std::filesystem::path& path);

  NewFile() = default;
  NewFile(NewFile&& other) noexcept { swap(other); }
  NewFile& operator=(NewFile&& other) noexcept {
    swap(other);
    return *this;
  }
  ~NewFile();  // one that took no name is gone

  const std::filesystem::path& path() const { return path_; }  // what a followed link leads to
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  // Replaces what is there under its path, at once for whoever opens it, and closes the file. It is not synced.
  Status take_name();

 private:
  void swap(NewFile& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(lock_fd_, other.lock_fd_);
    std::swap(fd_, other.fd_);
  }
  bool has_bytes_in_partial() const { return fd_ == lock_fd_; }
  int give_name() const;  // 0 or an errno
  void close();

  std::filesystem::path path_;
  int lock_fd_ = -1, fd_ = -1;  // the same one where the bytes are named
};

}  // namespace redoubt
