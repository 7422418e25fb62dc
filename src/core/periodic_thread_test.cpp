#include "core/periodic_thread.h"

#include <gtest/gtest.h>

#include <atomic>

namespace redoubt {
namespace {

using std::chrono::milliseconds;

TEST(PeriodicThread, WorksAfterEachPauseUntilItIsStopped) {
  std::atomic<int> done{0};
  PeriodicThread thread;
  EXPECT_FALSE(thread.stop()) << "it does not run";
  thread.start(milliseconds(1), [&] { ++done; });
  while (done < 3) std::this_thread::yield();
  EXPECT_TRUE(thread.stop());
  const int before = done;
  std::this_thread::sleep_for(milliseconds(10));
  EXPECT_EQ(done, before);
  EXPECT_FALSE(thread.stop());
}

TEST(PeriodicThread, DoesNotWaitForAPauseToEnd) {
  std::atomic<int> done{0};
  const auto begun = std::chrono::steady_clock::now();
  {
    PeriodicThread thread;
    thread.start(std::chrono::hours(1), [&] { ++done; });
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::minutes(1));
  EXPECT_EQ(done, 0);
}

TEST(PeriodicThread, EachPauseIsAskedFor) {
  std::atomic<int> asked{0};
  PeriodicThread thread;
  thread.start([&] { return ++asked > 2 ? milliseconds(3'600'000) : milliseconds(0); }, [] {});
  while (asked < 3) std::this_thread::yield();
  EXPECT_TRUE(thread.stop());
  EXPECT_EQ(asked, 3);
}

}  // namespace
}  // namespace redoubt
