#include "apps/front_door.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "temporary_folder.h"

namespace redoubt {
namespace {

constexpr const char* kBootstrap = "front-door-test-0123456789";

bool eventually(const std::function<bool()>& what) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < until) {
    if (what()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

TEST(FrontDoor, IsNotReadyWhileWhatItKnowsIsOldAndReadyAgainByItself) {
  const test::TemporaryFolder folder;
  ManualClock clock;
  const SystemWallClock wall;
  const auto door = FrontDoor::open(ServeConfig(), folder.path(), kBootstrap, clock, wall);
  ASSERT_TRUE(door) << door.error().message;
  const auto health = [&] {
    HealthState state;
    (*door)->add_health(state);
    return state;
  };
  const auto ready = [&] { return judge_health(health(), 0).ready(); };
  EXPECT_TRUE(ready());
  // A look at the database every quarter of a second makes it young again: until one is too late, by this clock.
  EXPECT_TRUE(eventually([&] {
    clock.advance_ns(3'000'000'000);
    const HealthState state = health();
    return state.directory_stale && state.policies_stale;
  }));
  EXPECT_TRUE(eventually(ready));
}

TEST(FrontDoor, WithoutADirectoryNothingIsAwayAndABootstrapKeyIsRefused) {
  const test::TemporaryFolder folder;
  const SteadyClock clock;
  const SystemWallClock wall;
  ServeConfig config;
  config.auth = "off";
  const auto refused = FrontDoor::open(config, folder.path(), kBootstrap, clock, wall);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("REDOUBT_BOOTSTRAP_KEY: excluded by auth: off"), std::string::npos);
  const auto door = FrontDoor::open(config, folder.path(), "", clock, wall);
  ASSERT_TRUE(door) << door.error().message;
  HealthState state;
  (*door)->add_health(state);
  EXPECT_TRUE(judge_health(state, 0).ready());
}

}  // namespace
}  // namespace redoubt
