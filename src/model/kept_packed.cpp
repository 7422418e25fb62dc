#include "model/kept_packed.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/log.h"
#include "core/low_priority.h"
#include "formats/packing.h"

namespace redoubt {

class KeptPacked::Matrix final : public FirstUse {
 public:
  Matrix(KeptPacked& owner, const PackedFileMatrix& entry, const WeightMatrix& source)
      : owner_(owner),
        entry_(entry),
        source_(source),
        verified_(std::make_unique<std::atomic<bool>[]>(static_cast<size_t>(entry.chunks()))) {}

  std::span<const std::byte> bytes() const {
    return owner_.file_.bytes().subspan(static_cast<size_t>(entry_.offset), static_cast<size_t>(entry_.bytes()));
  }
  std::span<const std::byte> chunk(int64_t i) const { return entry_.chunk(owner_.file_.bytes(), i); }
  const PackedFileMatrix& entry() const { return entry_; }
  const WeightMatrix& source() const { return source_; }
  bool has_its_hash(int64_t i) const { return entry_.has_its_hash(owner_.file_.bytes(), i); }

  void verify(int64_t i) {
    std::atomic<bool>& verified = verified_[static_cast<size_t>(i)];
    if (verified.load(std::memory_order_acquire)) return;
    populate_pages(chunk(i));
    if (!has_its_hash(i)) owner_.repair(*this, i);
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
  const PackedFileMatrix& entry_;
  const WeightMatrix source_;
  std::unique_ptr<std::atomic<bool>[]> verified_;  // [chunks]; several threads may verify the same one
};

Result<std::unique_ptr<KeptPacked>> KeptPacked::open(const std::filesystem::path& path, const SourceKey& source) {
  REDOUBT_TRY(MappedFile file, MappedFile::open(path));
  Result<PackedFileIndex> index = parse_packed_file(file.bytes());
  if (!index) return std::move(index).error().within(path.string());
  if (index->source != source) return invalid(path.string() + ": was made from another version of the model");
  std::unique_ptr<KeptPacked> kept(new KeptPacked);
  kept->file_ = std::move(file);
  kept->index_ = std::move(index).value();
  for (size_t i = 0; i < kept->index_.matrices.size(); ++i) kept->by_name_[kept->index_.matrices[i].name] = i;
  return kept;
}

KeptPacked::~KeptPacked() { stop(); }

void KeptPacked::stop() {
  stopping_.store(true, std::memory_order_relaxed);
  wait();
}

void KeptPacked::wait() {
  if (thread_.joinable()) thread_.join();
}

KeptPacked::Bound KeptPacked::bind(const std::string& name, const WeightMatrix& source) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return {nullptr, nullptr};
  const PackedFileMatrix& entry = index_.matrices[found->second];
  if (entry.dtype != static_cast<DType>(source.dtype) || entry.rows != source.rows || entry.cols != source.cols)
    return {nullptr, nullptr};
  Matrix& matrix = matrices_.emplace_back(*this, entry, source);
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
      log::warn("{}: {} chunks did not have their hashes and were packed again from the model", file_.path().string(),
                damaged);
    }
    over(damaged);
  });
}

// Whole pages are replaced at once, so that who reads a chunk beside this one sees no half of it.
void KeptPacked::repair(const Matrix& matrix, int64_t chunk) {
  const std::lock_guard lock(repairing_);
  if (matrix.has_its_hash(chunk)) return;  // another thread was faster
  const PackedFileMatrix& m = matrix.entry();
  const WeightMatrix& source = matrix.source();
  const int64_t group_bytes = packed_group_bytes(m.dtype, m.cols), begin = chunk * kPackedChunkBytes;
  const auto size = static_cast<int64_t>(matrix.chunk(chunk).size());
  const int64_t first = begin / group_bytes, last = (begin + size + group_bytes - 1) / group_bytes;
  std::vector<std::byte> groups(static_cast<size_t>((last - first) * group_bytes));
  for (int64_t g = first; g < last; ++g) {
    const int64_t row = g * kPackedRows;
    pack_group(m.dtype, reinterpret_cast<const std::byte*>(source.data) + row * source.row_bytes, source.row_bytes,
               std::min(kPackedRows, m.rows - row), m.cols, groups.data() + (g - first) * group_bytes);
  }
  // Behind a matrix, up to the next page, there is filling or the index, which was copied.
  void* fresh = ::mmap(nullptr, kPackedChunkBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REDOUBT_ASSERT(fresh != MAP_FAILED);
  std::memcpy(fresh, groups.data() + (begin - first * group_bytes), static_cast<size_t>(size));
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t here = (static_cast<size_t>(size) + page - 1) / page * page;
  void* place = const_cast<std::byte*>(matrix.chunk(chunk).data());
  REDOUBT_ASSERT(::mremap(fresh, here, here, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place);
  if (here < static_cast<size_t>(kPackedChunkBytes)) {
    ::munmap(static_cast<std::byte*>(fresh) + here, static_cast<size_t>(kPackedChunkBytes) - here);
  }
  damaged_.fetch_add(1);
}

Result<int64_t> verify_packed_file(const std::filesystem::path& path) {
  REDOUBT_TRY(const MappedFile file, MappedFile::open(path));
  const Result<PackedFileIndex> index = parse_packed_file(file.bytes());
  if (!index) return Error(index.error()).within(path.string());
  int64_t chunks = 0;
  for (const PackedFileMatrix& m : index->matrices) {
    for (int64_t i = 0; i < m.chunks(); ++i) {
      if (!m.has_its_hash(file.bytes(), i)) {
        return corrupt(
            fmt::format("{}: {}: chunk {} of {} does not have its hash", path.string(), m.name, i, m.chunks()));
      }
      ++chunks;
    }
  }
  return chunks;
}

}  // namespace redoubt
