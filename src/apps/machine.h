// What this computer is and how fast it can be: the two ceilings that every speed is compared with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/thread_pool.h"

namespace redoubt {

std::string cpu_model();
std::vector<std::string> cpu_features();  // of those that our kernels know: "avx2", "fma", "avx512f", …
int64_t total_memory_bytes();
int64_t peak_rss_bytes();

struct Ceilings {
  double read_bandwidth_bytes_per_s = 0;  // a plain loop over memory larger than the caches
  double int8_ops_per_s = 0;  // multiply-adds, two operations each, in registers alone; 0: not measured here
};

// About a second, on the pool's threads.
Ceilings measure_ceilings(ThreadPool& pool);

}  // namespace redoubt
