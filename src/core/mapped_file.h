// A file mapped read-only. The bytes live as long as the object; moving it does not move them.
// A file that shrinks while mapped raises SIGBUS: model files are expected to stay as they are while in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/result.h"

namespace redoubt {

class MappedFile {
 public:
  static Result<MappedFile> open(const std::filesystem::path& path);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { swap(other); }
  MappedFile& operator=(MappedFile&& other) noexcept { return swap(other), *this; }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }
  int64_t modified_ns() const { return modified_ns_; }  // since 1970, when it was opened

 private:
  void swap(MappedFile& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(path_, other.path_);
    std::swap(modified_ns_, other.modified_ns_);
  }
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int64_t modified_ns_ = 0;
  std::filesystem::path path_;
};

// Gives back the memory of whole pages inside `bytes` of a mapped file; they are read from the file again when touched.
void release_pages(std::span<const std::byte> bytes);
// Starts reading them from the file; returns at once.
void prefetch_pages(std::span<const std::byte> bytes);
// Maps them now, all at once: cheaper than a fault for every few pages. Where the system cannot, they come by faults.
// False: they cannot be had (the disk fails, the file has shrunk), and to touch them raises SIGBUS.
bool populate_pages(std::span<const std::byte> bytes);

// Reads a whole (small) file; refuses one larger than `max_bytes`.
Result<std::string> read_text_file(const std::filesystem::path& path, size_t max_bytes = size_t{256} << 20);

}  // namespace redoubt
