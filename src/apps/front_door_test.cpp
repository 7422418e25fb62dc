#include "apps/front_door.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "temporary_folder.h"
#include "test_database.h"

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

TEST(FrontDoor, AdmitsNobodyWhileItsClockIsNotTheDatabases) {
  const test::TestDatabase files(DatabaseKind::postgres, 10'000);
  if (!files.available()) GTEST_SKIP() << files.why_not();
  const SteadyClock clock;
  const test::TemporaryFolder folder;
  for (const int64_t shift_ms : {0, 65'000}) {
    ManualWallClock wall(0);
    wall.advance_ms(SystemWallClock().now_ms() + shift_ms);
    ServeConfig config;
    config.database = files.options().location;
    const auto door = FrontDoor::open(config, folder.path(), kBootstrap, clock, wall);
    ASSERT_TRUE(door) << door.error().message;
    HealthState state;
    (*door)->add_health(state);
    EXPECT_EQ(state.clocks_apart, shift_ms != 0);
    const Route route{.method = "GET", .path = "/v1/models", .rule = read_models_rule()};
    HttpRequest head{.method = "GET", .path = "/v1/models"};
    head.headers = {{"authorization", std::string("Bearer ") + kBootstrap}};
    const auto entered = (*door)->gate()->enter(head, &route);
    const auto* refused = std::get_if<ApiError>(&entered);
    ASSERT_EQ(refused != nullptr, shift_ms != 0);
    if (refused == nullptr) continue;
    EXPECT_EQ(refused->status, 503);
    EXPECT_NE(refused->message.find("the clock of this node says"), std::string::npos) << refused->message;
  }
}

// A copy of the whole folder, beside the process whose folder it was.
TEST(FrontDoor, ACopiedDataFolderIsRefusedUntilItHasAnIdOfItsOwn) {
  const test::TestDatabase files(DatabaseKind::postgres, 10'000);
  if (!files.available()) GTEST_SKIP() << files.why_not();
  const SteadyClock clock;
  const SystemWallClock wall;
  const test::TemporaryFolder first, copy;
  ServeConfig config;
  config.database = files.options().location;
  const auto door = FrontDoor::open(config, first.path(), kBootstrap, clock, wall);
  ASSERT_TRUE(door) << door.error().message;
  std::filesystem::copy(first.path(), copy.path(), std::filesystem::copy_options::recursive);
  const auto refused = FrontDoor::open(config, copy.path(), kBootstrap, clock, wall);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("is a copy of its own: remove " + (copy.path() / "node.id").string()),
            std::string::npos)
      << refused.error().message;
  std::filesystem::remove(copy.path() / "node.id");
  const auto other = FrontDoor::open(config, copy.path(), kBootstrap, clock, wall);
  EXPECT_TRUE(other) << other.error().message;
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
