#include "server/health.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/log.h"

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

void answer(ResponseWriter& writer, bool good) {
  if (good) return writer.send(200, "application/json", R"({"status":"ok"})");
  writer.send(503, "application/json", R"({"status":"unavailable"})", {{"Retry-After", "1"}});
}

// Said by others already: every start and every stop has the first two, and clocks and claim are logged as they turn.
bool is_told_elsewhere(HealthCause cause) {
  return cause == HealthCause::draining || cause == HealthCause::loading || cause == HealthCause::clocks_apart ||
         cause == HealthCause::claim_lost;
}

}  // namespace

std::string_view cause_name(HealthCause cause) {
  constexpr std::array<std::string_view, kHealthCauses> kNames = {
      "damaged_weights", "stalled",     "draining",     "loading",   "directory_stale",
      "policies_stale",  "ledger_away", "clocks_apart", "claim_lost"};
  return kNames.at(static_cast<size_t>(cause));
}

HealthVerdict judge_health(const HealthState& state, int64_t now_ns, const HealthLimits& limits) {
  HealthVerdict verdict;
  const auto red_if = [&](bool red, HealthCause cause, std::string reason) {
    if (red) verdict.causes.emplace(cause, std::move(reason));
  };
  for (const HealthState::Model& model : state.models) {
    // A restart mends no file, so it stays alive.
    red_if(model.stats.is_damaged, HealthCause::damaged_weights, model.name + ": weights were found damaged");
    if (!model.stats.has_work) continue;
    const int64_t stalled_ns = now_ns - model.stats.last_progress_ns;
    red_if(stalled_ns >= limits.ready_stall_s * kNsPerSecond, HealthCause::stalled,
           fmt::format("{}: work waits and no layer has ended for {} s", model.name, stalled_ns / kNsPerSecond));
    if (stalled_ns >= limits.live_stall_s * kNsPerSecond) verdict.live = false;
  }
  red_if(state.draining, HealthCause::draining, "the server is draining: it ends what it began and takes no more");
  red_if(state.default_loading, HealthCause::loading, "the default model is loading");
  red_if(state.directory_stale, HealthCause::directory_stale,
         "users and keys cannot be read from the database, and nobody is admitted");
  red_if(state.policies_stale, HealthCause::policies_stale,
         "policies cannot be read from the database, and nobody is admitted");
  red_if(state.ledger_away, HealthCause::ledger_away,
         "what was used cannot be recorded in the database, and nothing that meets a limit is admitted");
  red_if(state.clocks_apart, HealthCause::clocks_apart,
         "this node's clock and the database's are too far apart, and nobody is admitted");
  red_if(state.claim_lost, HealthCause::claim_lost,
         "another process took this node's id, and nobody is admitted: the data folder was copied");
  return verdict;
}

Health::Health(std::function<HealthState()> state, const Clock& clock, HealthLimits limits)
    : state_(std::move(state)), clock_(clock), limits_(limits) {}

HealthVerdict Health::look() {
  const HealthState now = state_();  // before the clock is read: progress is never in its future
  HealthVerdict verdict = judge_health(now, clock_.now_ns(), limits_);
  tell(verdict);
  return verdict;
}

void Health::tell(const HealthVerdict& verdict) {
  const std::lock_guard lock(mutex_);
  for (const auto& [cause, reason] : verdict.causes) {
    if (!is_told_elsewhere(cause) && told_.emplace(cause, reason).second) log::error("not ready: {}", reason);
  }
  std::erase_if(told_, [&](const auto& told) {
    const bool gone = !verdict.causes.contains(told.first);
    if (gone) log::info("no longer so: {}", told.second);
    return gone;
  });
}

std::vector<Route> health_routes(std::shared_ptr<Health> health) {
  const Handler live = [health](std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter> writer) {
    answer(*writer, health->look().live);
  };
  const Handler ready = [health](std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter> writer) {
    answer(*writer, health->look().ready());
  };
  return {health_route("/livez", "Alive: 503 asks for a restart", live),
          health_route("/readyz", "Ready for requests", ready),
          health_route("/health", "The same as /readyz, under the name other servers have", ready)};
}

void add_health_metrics(std::shared_ptr<Health> health, MetricsRegistry& registry) {
  registry.add_collector([health = std::move(health)](std::vector<MetricsRegistry::Sample>& samples) {
    const HealthVerdict verdict = health->look();
    for (int i = 0; i < kHealthCauses; ++i) {
      const auto cause = static_cast<HealthCause>(i);
      samples.push_back({"redoubt_health_red",
                         "1: that keeps the server from being ready",
                         "gauge",
                         {{"cause", std::string(cause_name(cause))}},
                         verdict.causes.contains(cause) ? 1.0 : 0.0});
    }
  });
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
