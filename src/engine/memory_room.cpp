#include "engine/memory_room.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <string>

#include "core/control_groups.h"

namespace redoubt {

namespace fs = std::filesystem;

namespace {

std::optional<int64_t> read_number(const fs::path& path) {  // nullopt: absent, or the word "max"
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The number behind `key` in a file of "key value" lines.
std::optional<int64_t> read_field(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.size() <= key.size() || line.compare(0, key.size(), key) != 0) continue;
    return std::strtoll(line.c_str() + key.size(), nullptr, 10);
  }
  return std::nullopt;
}

// Room under a limit; cached file pages count as room, because the kernel gives them up first.
std::optional<int64_t> room(std::optional<int64_t> limit, std::optional<int64_t> used,
                            std::optional<int64_t> file_pages) {
  if (!limit.has_value() || !used.has_value()) return std::nullopt;
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - file_pages.value_or(0)));
}

}  // namespace

int64_t available_memory_bytes(const fs::path& root) {
  std::optional<int64_t> least;
  const auto consider = [&](std::optional<int64_t> bytes) {
    if (bytes.has_value()) least = std::min(least.value_or(*bytes), *bytes);
  };
  if (const auto kib = read_field(root / "proc/meminfo", "MemAvailable:"); kib.has_value()) consider(*kib * 1024);
  for (const fs::path& at : control_groups(root, "cgroup2")) {
    consider(room(read_number(at / "memory.max"), read_number(at / "memory.current"),
                  read_field(at / "memory.stat", "inactive_file ")));
  }
  for (const fs::path& at : control_groups(root, "memory")) {
    consider(room(read_number(at / "memory.limit_in_bytes"), read_number(at / "memory.usage_in_bytes"),
                  read_field(at / "memory.stat", "total_inactive_file ")));
  }
  return least.value_or(0);
}

}  // namespace redoubt
