// The Linux control groups (cgroup v1 and v2) that this process is in, and what they leave it of the processors.
// Sources: cgroups(7); Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst
// (cfs_quota_us).
#pragma once

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace redoubt {

// The folders of the groups with a v1 controller ("memory", "cpu"), or of v2 ("cgroup2"), innermost first, the topmost
// last; some may not exist: a container sees its own group as the topmost. `root`: "/" but in tests.
std::vector<std::filesystem::path> control_groups(const std::filesystem::path& root, std::string_view controller);

// Processors' time per time, such as 1.5: the least that any of the groups allows. nullopt: no limit.
std::optional<double> processor_quota(const std::filesystem::path& root = "/");

}  // namespace redoubt
