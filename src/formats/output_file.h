// A file that takes its name when it is complete and on the disk; and the streaming of tensors into it. A pipe or a
// character device that is there already, and an open file named by /dev/stdout or /dev/fd/N, get the bytes as they
// come.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>

#include "core/new_file.h"
#include "core/result.h"
#include "formats/model_writer.h"

namespace redoubt {

class OutputFile {
 public:
  // Errors: overloaded, another process is writing the same path; io. One that is never finished leaves nothing.
  static Result<OutputFile> create(const std::filesystem::path& path);
  // The same, and conflict where a file has that name already: for hours of work, so that what another process finished
  // a moment ago is not replaced.
  static Result<OutputFile> create_new(const std::filesystem::path& path);

  Status write(std::span<const std::byte> bytes);
  Status write(std::string_view text) { return write(std::as_bytes(std::span(text))); }
  Status pad_to(int64_t alignment);
  int64_t position() const { return position_; }
  Status overwrite(int64_t offset, std::string_view text);  // what was written there; the end stays where it is
  Status finish();                                          // flush, sync, take the name, sync the folder

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;                // as it was asked for
  NewFile file_;                              // none: the bytes go straight to what is there
  std::unique_ptr<std::FILE, Close> stream_;  // into file_
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
  // Errors: cancelled. Asked before each batch of some tens of megabytes.
  Status go_on() const {
    if (options.stop == nullptr || !*options.stop) return ok();
    return Error{ErrorCode::cancelled, "stopped", {}};
  }
};

Status write_tensor(OutputFile& file, const OutputTensor& tensor, WriteProgress& progress);

}  // namespace redoubt
