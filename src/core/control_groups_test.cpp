#include "core/control_groups.h"

#include <gtest/gtest.h>

#include <optional>

#include "core/thread_pool.h"
#include "machine_folder.h"

namespace redoubt {
namespace {

TEST(ControlGroups, WithoutAQuotaThereIsNone) {
  const test::MachineFolder machine;
  EXPECT_EQ(processor_quota(machine.root()), std::nullopt);
  machine.write("proc/self/cgroup", "0::/user.slice\n");
  machine.write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  EXPECT_EQ(processor_quota(machine.root()), std::nullopt);
  EXPECT_GE(ThreadPool::usable_cores(machine.root()), 1);
}

// A service of systemd without a namespace of its own: the topmost group has no cpu.max, its parents have.
TEST(ControlGroups, TheLeastQuotaOfEveryGroupAboveCounts) {
  const test::MachineFolder machine;
  machine.write("proc/self/cgroup", "0::/system.slice/redoubt.service\n");
  machine.write("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n");
  machine.write("sys/fs/cgroup/system.slice/redoubt.service/cpu.max", "400000 100000\n");
  EXPECT_EQ(processor_quota(machine.root()), 1.5);
  EXPECT_EQ(ThreadPool::usable_cores(machine.root()), 1);
}

TEST(ControlGroups, AContainerSeesItsOwnGroupAsTheTopmost) {
  const test::MachineFolder machine;
  machine.write("proc/self/cgroup", "0::/\n");
  machine.write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(processor_quota(machine.root()), 0.5);
  EXPECT_EQ(ThreadPool::usable_cores(machine.root()), 1);
}

TEST(ControlGroups, TheOldKindIsReadUnderBothItsNames) {
  const test::MachineFolder machine;
  machine.write("proc/self/cgroup", "5:memory:/job\n4:cpu,cpuacct:/job\n1:name=systemd:/job\n");
  machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
  machine.write("sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(machine.root()), 3.0);
  machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(machine.root()), 3.0);
  machine.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "200000\n");
  machine.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(processor_quota(machine.root()), 2.0);
}

}  // namespace
}  // namespace redoubt
