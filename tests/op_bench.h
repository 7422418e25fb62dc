// Kernels, threads with their scratch and an arena, as the ops of a step have them.
#pragma once

#include <vector>

#include "ops/context.h"

namespace redoubt::test {

struct OpBench {
  ThreadPool pool;
  Arena arena;
  std::vector<std::vector<float>> scratch_memory;
  std::vector<float*> scratch;
  OpContext ctx;

  OpBench(const KernelTable& table, int threads, int64_t floats)
      : pool(threads), arena(floats), ctx{table, pool, arena, {}} {
    for (int i = 0; i < threads; ++i) {
      scratch_memory.emplace_back(static_cast<size_t>(OpContext::kThreadScratch));
      scratch.push_back(scratch_memory.back().data());
    }
    ctx.scratch = scratch;
  }
};

}  // namespace redoubt::test
