// A file that is written beside its place and takes its name when complete; and the streaming of tensors into it.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "core/result.h"
#include "formats/model_writer.h"

namespace redoubt {

class OutputFile {
 public:
  static Result<OutputFile> create(const std::filesystem::path& path);  // writes to path + ".partial"
  OutputFile() = default;
  OutputFile(OutputFile&& other) noexcept = default;
  ~OutputFile();  // an unfinished file is removed

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
  Status pad_to(int64_t alignment);
  int64_t position() const { return position_; }
  Status overwrite(int64_t offset, std::string_view text);  // what was written there; the end stays where it is
  Status finish();                                          // flush, sync, close, rename, sync the folder

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_;
  std::filesystem::path path_, partial_;
  int64_t position_ = 0;
};

// Counts bytes over all files of one model for the progress callback.
struct WriteProgress {
  const WriteOptions& options;
  int64_t total_bytes = 0;
  int64_t done_bytes = 0;
  void add(int64_t bytes) {
    done_bytes += bytes;
    if (options.progress) options.progress(done_bytes, total_bytes);
  }
};

Status write_tensor(OutputFile& file, const OutputTensor& tensor, WriteProgress& progress);

}  // namespace redoubt
