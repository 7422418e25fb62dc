// Bytes that must be made ready (read, verified) before they are used for the first time. An operation asks before it
// reads them; from then on the answer costs one load.
#pragma once

#include <atomic>

#include "core/thread_pool.h"

namespace redoubt {

class FirstUse {
 public:
  bool is_ready() const { return ready_.load(std::memory_order_acquire); }
  // Returns when the bytes are ready; works on all threads of the pool. Called by the one thread that steps the model.
  virtual void make_ready(ThreadPool& pool) = 0;

 protected:
  ~FirstUse() = default;
  std::atomic<bool> ready_{false};
};

}  // namespace redoubt
