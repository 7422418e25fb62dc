#include "engine/memory_room.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace redoubt {
namespace {

// A machine as a folder.
class MemoryRoom : public testing::Test {
 protected:
  MemoryRoom() : root_(std::filesystem::temp_directory_path() / ("memory_room_test." + std::to_string(::getpid()))) {
    std::filesystem::create_directories(root_);
  }
  ~MemoryRoom() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::filesystem::path root_;
};

TEST_F(MemoryRoom, IsTheMachinesWithoutAControlGroup) {
  EXPECT_EQ(available_memory_bytes(root_), 0);
  write("proc/meminfo", "MemTotal:       24683656 kB\nMemFree:  1 kB\nMemAvailable:   1000 kB\n");
  EXPECT_EQ(available_memory_bytes(root_), 1024000);
}

TEST_F(MemoryRoom, IsTheLeastOfEveryGroupAbove) {
  write("proc/meminfo", "MemAvailable:   1000000 kB\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/memory.max", "500000\n");
  write("sys/fs/cgroup/outer/memory.current", "200000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 1\ninactive_file 50000\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/inner/memory.current", "200000\n");
  EXPECT_EQ(available_memory_bytes(root_), 350000);  // file pages are given up first
}

TEST_F(MemoryRoom, ReadsTheOldKindOfGroupToo) {
  write("proc/meminfo", "MemAvailable:   1000000 kB\n");
  write("proc/self/cgroup", "5:memory:/job\n2:cpu,cpuacct:/job\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "1000000\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1200000\n");
  EXPECT_EQ(available_memory_bytes(root_), 0);
}

TEST(MemoryRoomOfThisMachine, IsKnown) { EXPECT_GT(available_memory_bytes(), 0); }

}  // namespace
}  // namespace redoubt
