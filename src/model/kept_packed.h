// The packed form as it was kept on disk, mapped. No chunk is used before its hash was verified: a background pass
// verifies one matrix after the other, and a step that needs one earlier verifies it itself, on all its threads. A
// chunk that does not have its hash is packed again from the source, into memory; nothing is deleted. Thread safety:
// find and bind by the loading thread, before start.
#pragma once

#include <atomic>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "core/mapped_file.h"
#include "core/result.h"
#include "formats/packed_file.h"
#include "ops/linear.h"

namespace redoubt {

class KeptPacked {
 public:
  // Errors: not_found (no such file), invalid_argument (of another version of the source), corrupt_data.
  static Result<std::unique_ptr<KeptPacked>> open(const std::filesystem::path& path, const SourceKey& source);
  ~KeptPacked();
  KeptPacked(const KeptPacked&) = delete;
  KeptPacked& operator=(const KeptPacked&) = delete;

  // The matrix of this name, type and size, its bytes unread; null if the file has none.
  struct Bound {
    const std::byte* data;
    FirstUse* first_use;
  };
  Bound bind(const std::string& name, const WeightMatrix& source);

  // Begins the background pass over all that were bound. `over(damaged)` runs at its end, on its thread, unless it was
  // stopped; damaged: chunks that did not have their hashes.
  void start(std::function<void(int64_t damaged)> over);
  void stop();  // ends the pass where it is; a writer that `over` has filled goes on
  void wait();  // until the pass and `over` have ended

 private:
  class Matrix;
  KeptPacked() = default;
  void repair(const Matrix& matrix, int64_t chunk);

  MappedFile file_;
  PackedFileIndex index_;
  std::unordered_map<std::string_view, size_t> by_name_;
  std::deque<Matrix> matrices_;
  std::mutex repairing_;
  std::atomic<int64_t> damaged_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

// Verifies every chunk of a packed file and counts them. Errors: the file's own, or the first chunk without its hash.
Result<int64_t> verify_packed_file(const std::filesystem::path& path);

}  // namespace redoubt
