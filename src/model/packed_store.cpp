#include "model/packed_store.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>

#include "core/mapped_file.h"
#include "formats/packing.h"

namespace redoubt {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kGroupsPerChunk = 8;  // packed by one thread at a time

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

void PackedStore::release() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(capacity_));
  data_ = nullptr;
}

Status PackedStore::reserve(int64_t bytes) {
  release();
  used_ = 0;
  capacity_ = round_up(bytes, kHugePage);
  void* address = ::mmap(nullptr, static_cast<size_t>(capacity_), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) return io_error(fmt::format("cannot reserve {} bytes for packed weights", capacity_));
  data_ = static_cast<std::byte*>(address);
  ::madvise(data_, static_cast<size_t>(capacity_), MADV_HUGEPAGE);
  return ok();
}

void PackedStore::add(const PackedKernels& kernels, Weight& weight) {
  const WeightMatrix& m = weight.matrix;
  const auto dtype = static_cast<DType>(m.dtype);
  const PackedInput input = packed_input(kernels, dtype);
  if (input == PackedInput::none || !can_pack(dtype, m.cols)) return;
  const int64_t group_bytes = packed_group_bytes(dtype, m.cols), groups = packed_groups(m.rows);
  const int64_t bytes = round_up(groups * group_bytes, 64);
  if (used_ + bytes > capacity_) return;  // stays as stored
  std::byte* to = data_ + used_;
  used_ += bytes;
  const auto* from = reinterpret_cast<const std::byte*>(m.data);
  pool_.parallel_for((groups + kGroupsPerChunk - 1) / kGroupsPerChunk, [&](int64_t chunk, int) {
    for (int64_t g = chunk * kGroupsPerChunk; g < std::min(groups, (chunk + 1) * kGroupsPerChunk); ++g) {
      const int64_t row = g * kPackedRows;
      pack_group(dtype, from + row * m.row_bytes, m.row_bytes, std::min(kPackedRows, m.rows - row), m.cols,
                 to + g * group_bytes);
    }
  });
  release_pages({from, static_cast<size_t>(m.rows * m.row_bytes)});
  weight.input = input;
  weight.packed = {.data = reinterpret_cast<const unsigned char*>(to),
                   .rows = m.rows,
                   .cols = m.cols,
                   .group_bytes = group_bytes,
                   .type = packed_type(dtype),
                   .scales = m.scales,
                   .scale_cols = m.scale_cols};
}

}  // namespace redoubt
