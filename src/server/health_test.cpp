#include "server/health.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

HealthState working_since(const ManualClock& clock) {
  HealthState state;
  EngineStats stats;
  stats.has_work = true;
  stats.last_progress_ns = clock.now_ns();
  state.models.push_back({"r1", stats});
  return state;
}

TEST(Health, AStallTurnsReadinessRedAfterTenSecondsAndLivenessAfterSixty) {
  ManualClock clock;
  clock.advance_ns(5 * kSecond);
  const HealthState state = working_since(clock);
  clock.advance_ns(10 * kSecond - 1);
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready);
  clock.advance_ns(1);
  HealthVerdict verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.ready);
  EXPECT_TRUE(verdict.live);
  EXPECT_EQ(verdict.ready_reason, "work waits and no layer has ended for 10 s");
  clock.advance_ns(50 * kSecond - 1);
  EXPECT_TRUE(judge_health(state, clock.now_ns()).live);
  clock.advance_ns(1);
  verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.live);
  EXPECT_EQ(verdict.live_reason, "work waits and no layer has ended for 60 s");
}

TEST(Health, ALongPrefillAndAnIdleEngineAreNoStall) {
  ManualClock clock;
  HealthState state = working_since(clock);
  for (int layer = 0; layer < 100; ++layer) {  // 900 s of prefill, a layer every 9 s
    clock.advance_ns(9 * kSecond);
    EXPECT_TRUE(judge_health(state, clock.now_ns()).ready);
    state.models[0].stats.last_progress_ns = clock.now_ns();
  }
  state.models[0].stats.has_work = false;
  clock.advance_ns(3600 * kSecond);
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready);
}

TEST(Health, DamagedWeightsAreNotReadyButAlive) {
  ManualClock clock;
  HealthState state = working_since(clock);
  state.models[0].stats.has_work = false;
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready);
  state.models[0].stats.is_damaged = true;
  const HealthVerdict verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.ready);
  EXPECT_TRUE(verdict.live);
  EXPECT_EQ(verdict.ready_reason, "weights were found damaged");
}

TEST(Health, DrainingAndLoadingAreNotReadyButAlive) {
  HealthState state;
  state.draining = true;
  HealthVerdict verdict = judge_health(state, 0);
  EXPECT_FALSE(verdict.ready);
  EXPECT_TRUE(verdict.live);
  EXPECT_NE(verdict.ready_reason.find("draining"), std::string::npos);
  state = {};
  state.default_loading = true;
  verdict = judge_health(state, 0);
  EXPECT_FALSE(verdict.ready);
  EXPECT_EQ(verdict.ready_reason, "the default model is loading");
}

class Recorder final : public ResponseWriter {
 public:
  void send(int s, std::string_view, std::string b, HttpHeaders) override { status = s, body = std::move(b); }
  void start_stream(int, std::string_view, HttpHeaders, std::string) override {}
  void write(std::string) override {}
  void end() override {}
  void on_close(std::function<void(bool)>) override {}
  void on_backpressure(std::function<void(bool)>) override {}
  int status = 0;
  std::string body;
};

TEST(Health, RoutesAreOpenAndSayWhyNot) {
  ManualClock clock;
  const HealthState state = working_since(clock);
  const std::vector<Route> routes = health_routes([&] { return state; }, clock);
  const auto ask = [&](std::string_view path) {
    const auto recorder = std::make_shared<Recorder>();
    for (const Route& route : routes) {
      EXPECT_TRUE(route.rule->strangers);
      if (route.path == path) route.handler(std::make_shared<HttpRequest>(), recorder);
    }
    return recorder;
  };
  EXPECT_EQ(ask("/readyz")->body, R"({"status":"ok"})");
  clock.advance_ns(20 * kSecond);
  EXPECT_EQ(ask("/livez")->status, 200);
  EXPECT_EQ(ask("/readyz")->status, 503);
  EXPECT_NE(ask("/health")->body.find("no layer has ended for 20 s"), std::string::npos);
  clock.advance_ns(60 * kSecond);
  EXPECT_EQ(ask("/livez")->status, 503);
}

}  // namespace
}  // namespace redoubt
