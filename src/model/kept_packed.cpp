#include "model/kept_packed.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/log.h"
#include "core/low_priority.h"
#include "core/mapped_file.h"
#include "formats/packing.h"

namespace redoubt {
namespace {

// Puts memory with these bytes, then zeros, in place of a chunk's mapped pages: whole pages at once, so that who reads
// a chunk beside this one sees no half of it. Behind a matrix, up to the next page, there is filling or the index,
// which was copied; or, in a model of its own, tensors that are worth as little as the page.
void replace(std::span<const std::byte> chunk, std::span<const std::byte> bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t size = (chunk.size() + page - 1) / page * page;
  void* fresh = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REDOUBT_ASSERT(fresh != MAP_FAILED);
  if (!bytes.empty()) std::memcpy(fresh, bytes.data(), bytes.size());
  void* place = const_cast<std::byte*>(chunk.data());
  REDOUBT_ASSERT(::mremap(fresh, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
}

}  // namespace

class KeptPacked::Matrix final : public FirstUse {
 public:
  Matrix(KeptPacked& owner, const PackedFileTensor& entry, const WeightMatrix& source)
      : owner_(owner),
        entry_(entry),
        source_(source),
        verified_(std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(entry.chunks()))) {}

  std::span<const std::byte> bytes() const { return owner_.file_->bytes_of(entry_); }
  std::span<const std::byte> chunk(int64_t i) const { return entry_.chunk(owner_.file_->bytes(), i); }
  const PackedFileTensor& entry() const { return entry_; }
  const WeightMatrix& source() const { return source_; }
  // Can be read, and has its hash.
  bool is_intact(int64_t i) const { return populate_pages(chunk(i)) && entry_.has_its_hash(owner_.file_->bytes(), i); }

  void verify(int64_t i) {
    std::atomic<bool>& verified = verified_[static_cast<size_t>(i)];
    if (verified.load(std::memory_order_acquire)) return;
    if (!is_intact(i)) owner_.has_source() ? owner_.repair(*this, i) : owner_.note_damage(*this, i);
    verified.store(true, std::memory_order_release);
  }

  void make_ready(ThreadPool& pool) override {
    prefetch_pages(bytes());
    pool.parallel_for(entry_.chunks(), [&](int64_t i, int) { verify(i); });
    ready_.store(true, std::memory_order_release);
  }

  void make_ready_alone(const std::atomic<bool>& stopping) {
    for (int64_t i = 0; i < entry_.chunks(); ++i) {
      if (stopping.load(std::memory_order_relaxed)) return;
      verify(i);
    }
    ready_.store(true, std::memory_order_release);
  }

 private:
  KeptPacked& owner_;
  const PackedFileTensor& entry_;
  const WeightMatrix source_;
  std::unique_ptr<std::atomic<bool>[]> verified_;  // [chunks]; several threads may verify the same one
};

Result<std::unique_ptr<KeptPacked>> KeptPacked::open(const std::filesystem::path& path, const SourceKey& source) {
  REDOUBT_TRY(std::shared_ptr<const PackedFile> file, PackedFile::open(path));
  if (file->index().kind != PackedKind::kept || file->index().source != source)
    return invalid(path.string() + ": was made from another version of the model");
  return std::make_unique<KeptPacked>(std::move(file));
}

KeptPacked::KeptPacked(std::shared_ptr<const PackedFile> file) : file_(std::move(file)) {}

KeptPacked::~KeptPacked() { stop(); }

void KeptPacked::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  wait();
}

void KeptPacked::wait() {
  if (thread_.joinable()) thread_.join();
}

const PackedFileTensor* KeptPacked::find(const std::string& full_name, DType dtype, int64_t rows, int64_t cols) const {
  const PackedFileTensor* entry = file_->find(PackedForm::packed, full_name);
  const bool is_it = entry != nullptr && entry->dtype == dtype && entry->rows() == rows && entry->cols() == cols;
  return is_it ? entry : nullptr;
}

bool KeptPacked::has(const std::string& full_name, DType dtype, int64_t rows, int64_t cols) const {
  return find(full_name, dtype, rows, cols) != nullptr;
}

KeptPacked::Bound KeptPacked::bind(const std::string& name, const WeightMatrix& source) {
  const PackedFileTensor* entry = find(name + ".weight", static_cast<DType>(source.dtype), source.rows, source.cols);
  if (entry == nullptr) return {nullptr, nullptr};
  Matrix& matrix = matrices_.emplace_back(*this, *entry, source);
  return {matrix.bytes().data(), &matrix};
}

void KeptPacked::start(std::function<void(int64_t damaged)> over) {
  thread_ = std::thread([this, over = std::move(over)] {
    lower_thread_priority();
    for (size_t i = 0; i < matrices_.size(); ++i) {
      if (i == 0) prefetch_pages(matrices_[0].bytes());
      if (i + 1 < matrices_.size()) prefetch_pages(matrices_[i + 1].bytes());
      matrices_[i].make_ready_alone(stopping_);
      if (stopping_.load(std::memory_order_relaxed)) return;
    }
    const int64_t damaged = damaged_.load();
    if (damaged > 0) {
      log::warn("{}: {} chunks did not have their hashes and were packed again from the model",
                file_->mapped().path().string(), damaged);
    }
    over(damaged);
  });
}

void KeptPacked::repair(const Matrix& matrix, int64_t chunk) {
  const std::lock_guard lock(repairing_);
  if (matrix.is_intact(chunk)) return;  // another thread was faster
  const PackedFileTensor& m = matrix.entry();
  const WeightMatrix& source = matrix.source();
  const int64_t group_bytes = packed_group_bytes(m.dtype, m.cols()), begin = chunk * kPackedChunkBytes;
  const auto size = static_cast<int64_t>(matrix.chunk(chunk).size());
  const int64_t first = begin / group_bytes, last = (begin + size + group_bytes - 1) / group_bytes;
  std::vector<std::byte> groups(static_cast<size_t>((last - first) * group_bytes));
  for (int64_t g = first; g < last; ++g) {
    const int64_t row = g * kPackedRows;
    pack_group(m.dtype, reinterpret_cast<const std::byte*>(source.data) + row * source.row_bytes, source.row_bytes,
               std::min(kPackedRows, m.rows() - row), m.cols(), groups.data() + (g - first) * group_bytes);
  }
  replace(matrix.chunk(chunk),
          std::span(groups).subspan(static_cast<size_t>(begin - first * group_bytes), static_cast<size_t>(size)));
  damaged_.fetch_add(1);
}

void KeptPacked::note_damage(const Matrix& matrix, int64_t chunk) {
  const std::lock_guard lock(noting_);
  // The step goes on, and must not touch what cannot be read.
  if (!populate_pages(matrix.chunk(chunk))) replace(matrix.chunk(chunk), {});
  if (loss_.has_value()) return;
  loss_ = file_->damage(matrix.entry(), chunk);
  // Whoever asks for an answer is told, and health says in the log that it is red.
  log::info("{}; the model answers no more", loss_->message);
  is_lost_.store(true, std::memory_order_release);
}

Status KeptPacked::damage() const {
  if (!is_lost_.load(std::memory_order_acquire)) return ok();
  const std::lock_guard lock(noting_);
  return *loss_;
}

}  // namespace redoubt
