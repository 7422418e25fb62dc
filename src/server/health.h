// Is the server alive, and may it be sent work? The answer is computed from what the engines say of their own progress,
// so that a decode loop that hangs turns it red; a long prefill does not, because progress is counted per layer. And
// from what the front door says of itself: while nobody is admitted, no work is to be sent.
//
// Strangers learn the status alone. Why it is red is told by the log, once, and by the metric redoubt_health_red.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "engine/engine.h"
#include "engine/model_host.h"
#include "server/http.h"
#include "server/metrics_registry.h"

namespace redoubt {

struct HealthLimits {
  int64_t ready_stall_s = 10;  // work waits and no layer ended for so long: send no more
  int64_t live_stall_s = 60;   // for so long: restart the process
};

// What a verdict is made of.
struct HealthState {
  struct Model {
    std::string name;
    EngineStats stats;
  };
  std::vector<Model> models;  // those loaded
  bool draining = false;
  bool default_loading = false;  // the default model was asked for and is not there yet
  // Of the front door: the database was away for too long to admit anybody by what memory holds.
  bool directory_stale = false, policies_stale = false, ledger_away = false;
  bool clocks_apart = false;  // this node's and the database's: nobody is admitted
  bool claim_lost = false;    // another process took this node's id: the same
};

enum class HealthCause : uint8_t {
  damaged_weights,
  stalled,
  draining,
  loading,
  directory_stale,
  policies_stale,
  ledger_away,
  clocks_apart,
  claim_lost,
};
inline constexpr int kHealthCauses = 9;
std::string_view cause_name(HealthCause cause);

struct HealthVerdict {
  bool live = true;
  std::map<HealthCause, std::string> causes;  // why it is not ready, one sentence each
  bool ready() const { return causes.empty(); }
};

HealthVerdict judge_health(const HealthState& state, int64_t now_ns, const HealthLimits& limits = {});

// The verdict of now, and its log: one line when a cause appears and one when it is gone. Thread safety: any.
class Health {
 public:
  // `state` must not block: it is read while a model loads. The clock outlives it.
  Health(std::function<HealthState()> state, const Clock& clock, HealthLimits limits = {});
  HealthVerdict look();

 private:
  void tell(const HealthVerdict& verdict);

  const std::function<HealthState()> state_;
  const Clock& clock_;
  const HealthLimits limits_;
  std::mutex mutex_;
  std::map<HealthCause, std::string> told_;  // causes in the log that are not gone
};

// GET /livez, /readyz, /health: {"status":"ok"}, or 503 with {"status":"unavailable"}, and nothing more.
std::vector<Route> health_routes(std::shared_ptr<Health> health);
// redoubt_health_red{cause}: 1 where that keeps the server from being ready. A scrape looks.
void add_health_metrics(std::shared_ptr<Health> health, MetricsRegistry& registry);

// The usual state: the host's engines and two flags the program sets.
struct HealthFlags {
  std::atomic<bool> draining{false};
  std::atomic<bool> default_loading{false};
};
std::function<HealthState()> health_state_of(const ModelHost& host, std::shared_ptr<const HealthFlags> flags);

}  // namespace redoubt
