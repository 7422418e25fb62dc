#include "server/health.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "log_lines.h"

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
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready());
  clock.advance_ns(1);
  HealthVerdict verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.ready());
  EXPECT_TRUE(verdict.live);
  EXPECT_EQ(verdict.causes.at(HealthCause::stalled), "r1: work waits and no layer has ended for 10 s");
  clock.advance_ns(50 * kSecond - 1);
  EXPECT_TRUE(judge_health(state, clock.now_ns()).live);
  clock.advance_ns(1);
  verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.live);
  EXPECT_EQ(verdict.causes.at(HealthCause::stalled), "r1: work waits and no layer has ended for 60 s");
}

TEST(Health, ALongPrefillAndAnIdleEngineAreNoStall) {
  ManualClock clock;
  HealthState state = working_since(clock);
  for (int layer = 0; layer < 100; ++layer) {  // 900 s of prefill, a layer every 9 s
    clock.advance_ns(9 * kSecond);
    EXPECT_TRUE(judge_health(state, clock.now_ns()).ready());
    state.models[0].stats.last_progress_ns = clock.now_ns();
  }
  state.models[0].stats.has_work = false;
  clock.advance_ns(3600 * kSecond);
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready());
}

TEST(Health, DamagedWeightsAreNotReadyButAlive) {
  ManualClock clock;
  HealthState state = working_since(clock);
  state.models[0].stats.has_work = false;
  EXPECT_TRUE(judge_health(state, clock.now_ns()).ready());
  state.models[0].stats.is_damaged = true;
  const HealthVerdict verdict = judge_health(state, clock.now_ns());
  EXPECT_FALSE(verdict.ready());
  EXPECT_TRUE(verdict.live);
  EXPECT_EQ(verdict.causes.at(HealthCause::damaged_weights), "r1: weights were found damaged");
}

TEST(Health, DrainingAndLoadingAreNotReadyButAlive) {
  HealthState state;
  state.draining = true;
  HealthVerdict verdict = judge_health(state, 0);
  EXPECT_FALSE(verdict.ready());
  EXPECT_TRUE(verdict.live);
  EXPECT_TRUE(verdict.causes.contains(HealthCause::draining));
  state = {};
  state.default_loading = true;
  verdict = judge_health(state, 0);
  EXPECT_FALSE(verdict.ready());
  EXPECT_EQ(verdict.causes.at(HealthCause::loading), "the default model is loading");
}

TEST(Health, AFrontDoorThatAdmitsNobodyIsNotReadyUntilItDoes) {
  const std::pair<bool HealthState::*, HealthCause> parts[] = {
      {&HealthState::directory_stale, HealthCause::directory_stale},
      {&HealthState::policies_stale, HealthCause::policies_stale},
      {&HealthState::ledger_away, HealthCause::ledger_away},
      {&HealthState::clocks_apart, HealthCause::clocks_apart},
      {&HealthState::claim_lost, HealthCause::claim_lost}};
  for (const auto& [part, cause] : parts) {
    HealthState state;
    state.*part = true;
    const HealthVerdict verdict = judge_health(state, 0);
    EXPECT_TRUE(verdict.live) << "a restart brings no database back";
    ASSERT_EQ(verdict.causes.size(), 1u);
    EXPECT_TRUE(verdict.causes.contains(cause)) << cause_name(cause);
  }
  EXPECT_TRUE(judge_health({}, 0).ready());
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

TEST(Health, RoutesAreOpenAndTellTheStatusAlone) {
  ManualClock clock;
  HealthState state = working_since(clock);
  const auto health = std::make_shared<Health>([&] { return state; }, clock);
  const std::vector<Route> routes = health_routes(health);
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
  EXPECT_EQ(ask("/readyz")->body, R"({"status":"unavailable"})");
  EXPECT_EQ(ask("/health")->body, R"({"status":"unavailable"})");
  clock.advance_ns(60 * kSecond);
  EXPECT_EQ(ask("/livez")->status, 503);
  EXPECT_EQ(ask("/livez")->body, R"({"status":"unavailable"})");
}

TEST(Health, TheLogAndAMetricTellWhyAndTheLogOnce) {
  const test::LogLines log;
  ManualClock clock;
  HealthState state = working_since(clock);
  const auto health = std::make_shared<Health>([&] { return state; }, clock);
  MetricsRegistry registry;
  add_health_metrics(health, registry);
  const auto red = [&](std::string_view cause) {
    const std::string text = registry.text();
    for (const char* value : {"0", "1"}) {
      if (text.find(fmt::format("redoubt_health_red{{cause=\"{}\"}} {}\n", cause, value)) != std::string::npos)
        return std::string_view(value) == "1";
    }
    ADD_FAILURE() << cause << " is not in " << text;
    return false;
  };
  EXPECT_FALSE(red("stalled"));
  EXPECT_EQ(log.count("not ready"), 0);
  for (int second = 0; second < 30; ++second) {
    clock.advance_ns(kSecond);
    health->look();
  }
  EXPECT_TRUE(red("stalled"));
  EXPECT_FALSE(red("ledger_away"));
  EXPECT_EQ(log.count("not ready: r1: work waits and no layer has ended for 10 s"), 1);
  EXPECT_EQ(log.count("not ready"), 1);
  state.ledger_away = true;
  health->look();
  EXPECT_EQ(log.count("not ready"), 2);
  state = HealthState();
  health->look();
  health->look();
  EXPECT_EQ(log.count("no longer so"), 2);
  state.ledger_away = true;
  EXPECT_TRUE(red("ledger_away"));
  EXPECT_EQ(log.count("not ready"), 3) << "each time anew";
  state.draining = state.default_loading = true;
  health->look();
  EXPECT_EQ(log.count("not ready"), 3) << "the program says these itself";
}

}  // namespace
}  // namespace redoubt
