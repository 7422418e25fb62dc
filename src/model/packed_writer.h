// Keeps packed matrices in a file while the model is already at work: a thread of low priority writes what it is given,
// with a hash for every chunk. The file takes its name when it is complete; one that never is leaves nothing (core/
// new_file.h). It is not synced: whatever a power failure leaves is found by its hashes.
// Thread safety: add and finish by one thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <thread>

#include "core/new_file.h"
#include "core/result.h"
#include "formats/packed_file.h"

namespace redoubt {

// A packed matrix in memory.
struct PackedPart {
  std::string name;
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0;
  const std::byte* data = nullptr;  // must stay until the writer is gone
};

class PackedWriter {
 public:
  // A new version of `path`, of about `bytes`. Errors: overloaded, another process is writing the same file; io: the
  // folder cannot be written, the disk has no room; invalid_argument where a model of its own has that name, which is
  // never replaced.
  static Result<std::unique_ptr<PackedWriter>> create(const std::filesystem::path& path, const SourceKey& source,
                                                      int64_t bytes);
  ~PackedWriter();  // at once: what is not complete is given up
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;

  void add(PackedPart part);
  void finish();  // no more parts will come; returns at once
  void wait();    // after finish(): until the file is there, or has failed (then it is logged)

 private:
  PackedWriter(NewFile file, const SourceKey& source);
  void run();
  Status write(const PackedPart& part);
  Status complete();

  NewFile file_;
  PackedFileIndex index_;
  int64_t end_;  // of what is written

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<PackedPart> queue_;
  bool finished_ = false, abandoned_ = false, over_ = false;
  std::thread thread_;
};

}  // namespace redoubt
