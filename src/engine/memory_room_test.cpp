#include "engine/memory_room.h"

#include <gtest/gtest.h>

#include "machine_folder.h"

namespace redoubt {
namespace {

TEST(MemoryRoom, IsTheMachinesWithoutAControlGroup) {
  const test::MachineFolder machine;
  EXPECT_EQ(available_memory_bytes(machine.root()), 0);
  machine.write("proc/meminfo", "MemTotal:       24683656 kB\nMemFree:  1 kB\nMemAvailable:   1000 kB\n");
  EXPECT_EQ(available_memory_bytes(machine.root()), 1024000);
}

TEST(MemoryRoom, IsTheLeastOfEveryGroupAbove) {
  const test::MachineFolder machine;
  machine.write("proc/meminfo", "MemAvailable:   1000000 kB\n");
  machine.write("proc/self/cgroup", "0::/outer/inner\n");
  machine.write("sys/fs/cgroup/outer/memory.max", "500000\n");
  machine.write("sys/fs/cgroup/outer/memory.current", "200000\n");
  machine.write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 50000\n");
  machine.write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  machine.write("sys/fs/cgroup/outer/inner/memory.current", "200000\n");
  EXPECT_EQ(available_memory_bytes(machine.root()), 350000);  // file pages are given up first
}

TEST(MemoryRoom, ReadsTheOldKindOfGroupToo) {
  const test::MachineFolder machine;
  machine.write("proc/meminfo", "MemAvailable:   1000000 kB\n");
  machine.write("proc/self/cgroup", "5:memory:/job\n2:cpu,cpuacct:/job\n");
  machine.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000000\n");
  machine.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1200000\n");
  EXPECT_EQ(available_memory_bytes(machine.root()), 0);
}

TEST(MemoryRoomOfThisMachine, IsKnown) { EXPECT_GT(available_memory_bytes(), 0); }

}  // namespace
}  // namespace redoubt
