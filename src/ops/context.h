// What every op needs: the kernels, the threads with their scratch, and the arena of the step.
#pragma once

#include <memory>
#include <new>
#include <span>

#include "core/result.h"
#include "core/thread_pool.h"
#include "kernels/kernel_table.h"

namespace redoubt {

enum class Device : uint8_t { cpu };

// Rows of float32 in the step's arena. A view: valid until the arena is rewound.
struct Tensor {
  float* data = nullptr;
  int64_t rows = 0, cols = 0;
  Device device = Device::cpu;

  float* row(int64_t i) const { return data + i * cols; }
};

// A bump allocator reserved before the first step, so that a step never allocates.
class Arena {
 public:
  // From a cache line on: vectors of whole lines then never cross one.
  explicit Arena(int64_t floats)
      : memory_(static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), kLine))),
        capacity_(floats) {}

  float* floats(int64_t n) {
    const int64_t rounded = (n + 15) / 16 * 16;
    REDOUBT_ASSERT(used_ + rounded <= capacity_);
    float* result = memory_.get() + used_;
    used_ += rounded;
    return result;
  }
  template <class T>
  T* values(int64_t n) {  // of any plain type of up to 64 bytes' alignment from the arena's start
    return reinterpret_cast<T*>(floats((n * static_cast<int64_t>(sizeof(T)) + 3) / 4));
  }
  int32_t* ints(int64_t n) { return reinterpret_cast<int32_t*>(floats(n)); }
  Tensor tensor(int64_t rows, int64_t cols) { return {floats(rows * cols), rows, cols}; }
  int64_t mark() const { return used_; }
  void rewind(int64_t mark) { used_ = mark; }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, kLine); }
  };
  std::unique_ptr<float, Free> memory_;
  int64_t capacity_, used_ = 0;
};

// Gives back at the end of a scope what was taken inside it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  int64_t mark_;
};

struct OpContext {
  const KernelTable& kernels;
  ThreadPool& pool;
  Arena& arena;
  std::span<float* const> scratch;  // one a thread, kThreadScratch floats
  PackedKernels packed = choose_packed(kernels.packed());

  static constexpr int64_t kKernelScratch = kLinearScratch > kPackedScratch ? kLinearScratch : kPackedScratch;
  // Behind the kernel's scratch: some rows of activations prepared for packed weights by the thread that needs them.
  static constexpr int64_t kProjectionRows = 64, kProjectionCols = 512;
  static constexpr int64_t kThreadScratch =
      kKernelScratch + kProjectionRows * (kProjectionCols / 4 + 6 * kProjectionCols / 32) + 32;
};

// Calls body(begin, end) on ranges of the rows 0 .. rows-1 of row-wise work, on all threads.
template <class Body>
void over_rows(OpContext& ctx, int64_t rows, const Body& body) {
  constexpr int64_t kRowsPerChunk = 8;
  ctx.pool.parallel_for((rows + kRowsPerChunk - 1) / kRowsPerChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kRowsPerChunk, end = begin + kRowsPerChunk;
    body(begin, end < rows ? end : rows);
  });
}

}  // namespace redoubt
