// Is the server alive, and may it be sent work? The answer is computed from what the engines say of their own progress,
// so that a decode loop that hangs turns it red; a long prefill does not, because progress is counted per layer.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "engine/engine.h"
#include "engine/model_host.h"
#include "server/http.h"

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
};

struct HealthVerdict {
  bool live = true, ready = true;
  std::string live_reason, ready_reason;  // why not; one sentence each
};

HealthVerdict judge_health(const HealthState& state, int64_t now_ns, const HealthLimits& limits = {});

// GET /livez, /readyz, /health: a status and nothing more. {"status":"ok"}, or 503 with {"status":...,"error":{...}}
// that says why. `state` must not block: it is read while a model loads.
std::vector<Route> health_routes(std::function<HealthState()> state, const Clock& clock, HealthLimits limits = {});

// The usual state: the host's engines and two flags the program sets.
struct HealthFlags {
  std::atomic<bool> draining{false};
  std::atomic<bool> default_loading{false};
};
std::function<HealthState()> health_state_of(const ModelHost& host, std::shared_ptr<const HealthFlags> flags);

}  // namespace redoubt
