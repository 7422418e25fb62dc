// The packed form as it lies on disk, mapped. No chunk is used before its hash was verified: a background pass verifies
// one matrix after the other, and a step that needs one earlier verifies it itself, on all its threads. A chunk that
// does not have its hash is packed again from the source, into memory; nothing is deleted. A model that is whole in its
// packed file has no source: its first damage is kept, and whatever was computed since is worth nothing.
// Thread safety: bind by the loading thread, before start; damage by any.
#pragma once

#include <atomic>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "core/result.h"
#include "formats/packed_file.h"
#include "ops/linear.h"

namespace redoubt {

class KeptPacked {
 public:
  // Errors: not_found (no such file), invalid_argument (of another version of the source), corrupt_data.
  static Result<std::unique_ptr<KeptPacked>> open(const std::filesystem::path& path, const SourceKey& source);
  explicit KeptPacked(std::shared_ptr<const PackedFile> file);
  ~KeptPacked();
  KeptPacked(const KeptPacked&) = delete;
  KeptPacked& operator=(const KeptPacked&) = delete;

  // The matrix of this name (without ".weight"), type and size, its bytes unread; null if the file has none. It is
  // packed again from source.data, which stays null in a model that is whole in this file.
  struct Bound {
    const std::byte* data;
    FirstUse* first_use;
  };
  Bound bind(const std::string& name, const WeightMatrix& source);
  // Whether bind() would find it.
  bool has(const std::string& full_name, DType dtype, int64_t rows, int64_t cols) const;

  // Begins the background pass over all that were bound. `over(damaged)` runs at its end, on its thread, unless it was
  // stopped; damaged: chunks that did not have their hashes.
  void start(std::function<void(int64_t damaged)> over);
  void stop();            // ends the pass where it is; a writer that `over` has filled goes on
  void wait();            // until the pass and `over` have ended
  Status damage() const;  // the first chunk that did not have its hash and could not be packed again

 private:
  class Matrix;
  const PackedFileTensor* find(const std::string& full_name, DType dtype, int64_t rows, int64_t cols) const;
  bool has_source() const { return file_->index().kind == PackedKind::kept; }  // then every matrix's data is there
  void repair(const Matrix& matrix, int64_t chunk);
  void note_damage(const Matrix& matrix, int64_t chunk);

  const std::shared_ptr<const PackedFile> file_;
  std::deque<Matrix> matrices_;
  mutable std::mutex noting_;
  std::optional<Error> loss_;
  std::atomic<bool> is_lost_{false};
  std::mutex repairing_;
  std::atomic<int64_t> damaged_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace redoubt
