#include "core/mapped_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace redoubt {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Error cannot(const char* verb, const std::filesystem::path& path) {
  const ErrorCode code = errno == ENOENT ? ErrorCode::not_found : ErrorCode::io;
  return {code, fmt::format("cannot {} {}: {}", verb, path.string(), std::strerror(errno)), {}};
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return cannot("open", path);
  struct stat status {};
  if (::fstat(file.fd, &status) != 0) return cannot("stat", path);
  if (!S_ISREG(status.st_mode)) return invalid(fmt::format("{}: expected a regular file", path.string()));
  MappedFile mapped;
  mapped.path_ = path;
  mapped.modified_ns_ = int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
  if (status.st_size == 0) return mapped;
  void* address = ::mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_SHARED, file.fd, 0);
  if (address == MAP_FAILED) return cannot("map", path);
#ifdef MADV_HUGEPAGE
  // Where the file system caches files in huge pages (ext4 since Linux 6.16, XFS before), weights are then read without
  // a miss in the translation buffer for every 4 KB; elsewhere the advice is refused and nothing is lost.
  ::madvise(address, static_cast<size_t>(status.st_size), MADV_HUGEPAGE);
#endif
  mapped.data_ = static_cast<const std::byte*>(address);
  mapped.size_ = static_cast<size_t>(status.st_size);
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void release_pages(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

namespace {

// Whole pages around `bytes`. 0, or the reason.
int advise(std::span<const std::byte> bytes, int advice) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(bytes.data() + bytes.size());
  if (begin >= end) return 0;
  return ::madvise(reinterpret_cast<void*>(begin), end - begin, advice) == 0 ? 0 : errno;
}

}  // namespace

void prefetch_pages(std::span<const std::byte> bytes) { advise(bytes, MADV_WILLNEED); }

bool populate_pages(std::span<const std::byte> bytes) {
#ifdef MADV_POPULATE_READ
  const int why = advise(bytes, MADV_POPULATE_READ);
  return why != EFAULT && why != EHWPOISON && why != EIO;
#else
  static_cast<void>(bytes);
  return true;
#endif
}

Result<std::string> read_text_file(const std::filesystem::path& path, size_t max_bytes) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return cannot("open", path);
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return cannot("read", path);
    if (got == 0) return text;
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > max_bytes) {
      return invalid(fmt::format("{}: expected at most {} bytes", path.string(), max_bytes));
    }
  }
}

}  // namespace redoubt
