// The packed forms of a model's matrices: mapped from the file that an earlier start kept, or made at load on all
// threads in memory of our own, at the stored size, and then kept. The source's pages are given back behind the
// packing, so that a model never takes its size twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/checkpoint.h"
#include "model/kept_packed.h"
#include "model/model.h"
#include "model/packed_writer.h"
#include "ops/linear.h"

namespace redoubt {

// Where the packed form of a model may be kept, the better place first: beside a file or inside a directory, and in
// options.folder, under a name that tells models of the same name apart.
std::vector<std::filesystem::path> packed_file_places(const std::filesystem::path& model,
                                                      const std::filesystem::path& folder);

struct VerifiedPackedFile {
  std::filesystem::path path;
  int64_t chunks = 0;  // that have their hashes
};
// Compares every hash of the packed files that are kept of a model, or of the packed file that `path` is; and that a
// kept one was made from the model as it is now, where that is known: of a packed file, if the model lies beside it.
// Errors: not_found, nothing is kept; invalid_argument, of another version of the model; corrupt_data.
Result<std::vector<VerifiedPackedFile>> verify_packed_files(const std::filesystem::path& path,
                                                            const std::filesystem::path& folder, ThreadPool& pool);

class PackedStore {
 public:
  explicit PackedStore(ThreadPool& pool) : pool_(pool) {}
  ~PackedStore();
  PackedStore(const PackedStore&) = delete;
  PackedStore& operator=(const PackedStore&) = delete;

  // Once, before the first add: looks for a kept file, and reserves address space for what has to be packed for these
  // kernels; memory is taken as matrices are added, each of the checkpoint's once.
  Status open(const Checkpoint& checkpoint, const PackedKernels& kernels, const PackedOptions& options,
              std::function<void(int64_t done, int64_t total)> progress);
  // Instead, where there is no checkpoint: address space for so many bytes.
  Status reserve(int64_t bytes);

  // Sets weight.packed and weight.input from weight.matrix. No-op for a type that the kernels have no packed form for.
  // A matrix without a name is not kept: one whose source cannot be read again.
  void add(const PackedKernels& kernels, const std::string& name, Weight& weight);

  void finish();  // all were added: the rest happens in the background
  void wait_for_background();
  void wait_until_kept();  // gives up what it verifies, and waits for what it writes
  int64_t private_bytes() const { return used_; }
  int64_t reserved_bytes() const { return capacity_; }  // of address space
  // Weights that lie nowhere else were found damaged. By any thread.
  Status damage() const { return kept_ != nullptr ? kept_->damage() : ok(); }

  ThreadPool& pool() const { return pool_; }

 private:
  void open_kept();
  int64_t bytes_to_pack(const Checkpoint& checkpoint, const PackedKernels& kernels) const;
  void start_writing();  // where it may; what another process is writing is not written twice
  void pack(const PackedPart& part, const WeightMatrix& from, std::byte* to);
  void release();

  ThreadPool& pool_;
  PackedOptions options_;
  std::function<void(int64_t done, int64_t total)> progress_;
  std::vector<std::filesystem::path> places_;  // empty: nothing is kept
  SourceKey source_;
  int64_t total_ = 0, done_ = 0;  // for progress_
  std::byte* data_ = nullptr;
  int64_t capacity_ = 0, used_ = 0;
  bool is_whole_ = false;          // kept_ is the model itself
  int64_t keepable_ = 0;           // of used_, what a kept file would have held
  std::vector<PackedPart> parts_;  // all that were added
  std::unique_ptr<KeptPacked> kept_;
  std::unique_ptr<PackedWriter> writer_;  // gone before data_ and kept_ are
};

}  // namespace redoubt
