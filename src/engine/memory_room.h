// How much memory this process may still take: the machine's and that of every control group it is in.
// Source: proc(5) MemAvailable; Linux cgroup v2 (memory.max, memory.current, memory.stat) and v1 (limit_in_bytes).
#pragma once

#include <cstdint>
#include <filesystem>

namespace redoubt {

// The least of them, in bytes; 0 if nothing can be read. `root`: "/" but in tests.
int64_t available_memory_bytes(const std::filesystem::path& root = "/");

}  // namespace redoubt
