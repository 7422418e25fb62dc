#include "core/control_groups.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "core/thread_pool.h"

namespace redoubt {
namespace {

// A machine as a folder.
class ControlGroups : public testing::Test {
 protected:
  ControlGroups() : root_(std::filesystem::temp_directory_path() / ("control_groups." + std::to_string(::getpid()))) {
    std::filesystem::create_directories(root_);
  }
  ~ControlGroups() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::filesystem::path root_;
};

TEST_F(ControlGroups, WithoutAQuotaThereIsNone) {
  EXPECT_EQ(processor_quota(root_), std::nullopt);
  write("proc/self/cgroup", "0::/user.slice\n");
  write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(processor_quota(root_), std::nullopt);
  EXPECT_GE(ThreadPool::usable_cores(root_), 1);
}

// A service of systemd without a namespace of its own: the topmost group has no cpu.max, its parents have.
TEST_F(ControlGroups, TheLeastQuotaOfEveryGroupAboveCounts) {
  write("proc/self/cgroup", "0::/system.slice/redoubt.service\n");
  write("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n");
  write("sys/fs/cgroup/system.slice/redoubt.service/cpu.max", "400000 100000\n");
  EXPECT_EQ(processor_quota(root_), 1.5);
  EXPECT_EQ(ThreadPool::usable_cores(root_), 1);
}

TEST_F(ControlGroups, AContainerSeesItsOwnGroupAsTheTopmost) {
  write("proc/self/cgroup", "0::/\n");
  write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(processor_quota(root_), 0.5);
  EXPECT_EQ(ThreadPool::usable_cores(root_), 1);
}

TEST_F(ControlGroups, TheOldKindIsReadUnderBothItsNames) {
  write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n");
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(root_), 3.0);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(root_), 3.0);
  write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000\n");
  write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(root_), 2.0);
}

}  // namespace
}  // namespace redoubt
