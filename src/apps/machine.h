// What this computer is. How fast it can be: ceilings.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace redoubt {

std::string cpu_model();
std::vector<std::string> cpu_features();  // of those that our kernels know: "avx2", "fma", "avx512f", …
int64_t total_memory_bytes();
int64_t peak_rss_bytes();

}  // namespace redoubt
