// The packed forms of a model's matrices, in memory of its own: made at load on all threads, at the stored size. The
// source's pages are given back behind the writer, so that a model never takes its size twice.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/result.h"
#include "core/thread_pool.h"
#include "ops/linear.h"

namespace redoubt {

class PackedStore {
 public:
  explicit PackedStore(ThreadPool& pool) : pool_(pool) {}
  ~PackedStore() { release(); }
  PackedStore(const PackedStore&) = delete;
  PackedStore& operator=(const PackedStore&) = delete;

  // Address space for packed matrices of `bytes` in all; memory is taken as they are added.
  Status reserve(int64_t bytes);

  // Sets weight.packed and weight.input from weight.matrix. No-op for a type that the kernels have no packed form for.
  void add(const PackedKernels& kernels, Weight& weight);

  ThreadPool& pool() const { return pool_; }

 private:
  void release();

  ThreadPool& pool_;
  std::byte* data_ = nullptr;
  int64_t capacity_ = 0, used_ = 0;
};

}  // namespace redoubt
