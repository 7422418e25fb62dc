#include "server/health.h"

#include <fmt/format.h>

namespace redoubt {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

Route health_route(std::string path, std::string summary, Handler handler) {
  Route route;
  route.method = "GET";
  route.path = std::move(path);
  route.rule = status_rule();
  route.quick = true;
  route.max_body_bytes = 0;
  route.summary = std::move(summary);
  route.response_schema = Json{
      {"type", "object"}, {"properties", {{"status", {{"type", "string"}}}}}, {"required", Json::array({"status"})}};
  route.handler = std::move(handler);
  return route;
}

void answer(ResponseWriter& writer, bool good, const std::string& reason) {
  if (good) return writer.send(200, "application/json", R"({"status":"ok"})");
  Json body;
  body["status"] = "unavailable";
  body["error"] = Json{{"message", reason}, {"type", "unavailable_error"}, {"param", nullptr}, {"code", 503}};
  writer.send(503, "application/json", dump_json(body), {{"Retry-After", "1"}});
}

}  // namespace

HealthVerdict judge_health(const HealthState& state, int64_t now_ns, const HealthLimits& limits) {
  HealthVerdict verdict;
  const auto not_ready = [&](std::string reason) {
    if (verdict.ready) verdict.ready_reason = std::move(reason);
    verdict.ready = false;
  };
  for (const HealthState::Model& model : state.models) {
    // Strangers read this: which models there are is not theirs to know. A restart mends no file, so it stays alive.
    if (model.stats.is_damaged) not_ready("weights were found damaged");
    if (!model.stats.has_work) continue;
    const int64_t stalled_ns = now_ns - model.stats.last_progress_ns;
    const auto reason = [&] {
      return fmt::format("work waits and no layer has ended for {} s", stalled_ns / kNsPerSecond);
    };
    if (stalled_ns >= limits.ready_stall_s * kNsPerSecond) not_ready(reason());
    if (stalled_ns >= limits.live_stall_s * kNsPerSecond && verdict.live) {
      verdict.live = false;
      verdict.live_reason = reason();
    }
  }
  if (state.draining) not_ready("the server is draining: it ends what it began and takes no more");
  if (state.default_loading) not_ready("the default model is loading");
  return verdict;
}

std::vector<Route> health_routes(std::function<HealthState()> state, const Clock& clock, HealthLimits limits) {
  const auto verdict = [state = std::move(state), &clock, limits] {
    const HealthState now = state();  // before the clock is read: progress is never in its future
    return judge_health(now, clock.now_ns(), limits);
  };
  const Handler live = [verdict](std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter> writer) {
    const HealthVerdict v = verdict();
    answer(*writer, v.live, v.live_reason);
  };
  const Handler ready = [verdict](std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter> writer) {
    const HealthVerdict v = verdict();
    answer(*writer, v.ready && v.live, v.live ? v.ready_reason : v.live_reason);
  };
  return {health_route("/livez", "Alive: 503 asks for a restart", live),
          health_route("/readyz", "Ready for requests", ready),
          health_route("/health", "The same as /readyz, under the name other servers have", ready)};
}

std::function<HealthState()> health_state_of(const ModelHost& host, std::shared_ptr<const HealthFlags> flags) {
  return [&host, flags = std::move(flags)] {
    HealthState state;
    state.draining = flags->draining;
    state.default_loading = flags->default_loading;
    for (const auto& model : host.loaded()) {
      if (model != nullptr && model->engine != nullptr) state.models.push_back({model->name, model->engine->stats()});
    }
    return state;
  };
}

}  // namespace redoubt
