#include "core/control_groups.h"

#include <algorithm>
#include <fstream>
#include <string>

namespace redoubt {

namespace fs = std::filesystem;

namespace {

// Whether "cpu,cpuacct" names "cpu".
bool names(std::string_view controllers, std::string_view wanted) {
  for (;;) {
    const size_t comma = controllers.find(',');
    if (controllers.substr(0, comma) == wanted) return true;
    if (comma == std::string_view::npos) return false;
    controllers.remove_prefix(comma + 1);
  }
}

// "0::/a/b" (v2) or "4:cpu,cpuacct:/a/b" (v1) of /proc/self/cgroup.
fs::path group_of(const fs::path& root, std::string_view controller) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (controller == "cgroup2" ? controllers.empty() : names(controllers, controller))
      return fs::path(line.substr(second + 1)).relative_path();
  }
  return {};
}

std::optional<double> quota_v2(const fs::path& group) {
  std::ifstream file(group / "cpu.max");
  double quota = 0, period = 0;
  if (file >> quota >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;  // absent, or "max"
}

std::optional<double> quota_v1(const fs::path& group) {
  std::ifstream quota_file(group / "cpu.cfs_quota_us"), period_file(group / "cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (quota_file >> quota && period_file >> period && quota > 0 && period > 0) return quota / period;
  return std::nullopt;  // absent, or -1
}

}  // namespace

std::vector<fs::path> control_groups(const fs::path& root, std::string_view controller) {
  // Controllers that are mounted together have a folder with both names; a link with each alone may be missing.
  std::vector<std::string_view> folders{controller};
  if (controller == "cgroup2") folders = {""};
  if (controller == "cpu") folders.push_back("cpu,cpuacct");
  std::vector<fs::path> groups;
  for (fs::path group = group_of(root, controller);; group = group.parent_path()) {
    for (const std::string_view folder : folders) groups.push_back(root / "sys/fs/cgroup" / folder / group);
    if (group.empty()) return groups;
  }
}

std::optional<double> processor_quota(const fs::path& root) {
  std::optional<double> least;
  const auto consider = [&](std::optional<double> quota) {
    if (quota.has_value()) least = std::min(least.value_or(*quota), *quota);
  };
  for (const fs::path& group : control_groups(root, "cgroup2")) consider(quota_v2(group));
  for (const fs::path& group : control_groups(root, "cpu")) consider(quota_v1(group));
  return least;
}

}  // namespace redoubt
