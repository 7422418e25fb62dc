// What the server counts: vLLM's names, so that existing dashboards, autoscalers and gateways work unchanged, and
// deepseek_inference_latency_seconds; the same counts under the names of SGLang and llama.cpp as far as they have them.
// Labels: model_name, engine ("0").
//
// The protocol handlers call observe_*; gauges and token counters are read from the engines at the scrape
// (engine_metrics.h). Thread safety: any thread.
// Source of names and buckets: vLLM's documentation of its metrics; SGLang's and llama.cpp's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/engine.h"
#include "engine/model_host.h"
#include "server/engine_metrics.h"
#include "server/http.h"
#include "server/metrics_registry.h"

namespace redoubt {

// What a handler knows when a request is over.
struct FinishedRequest {
  std::string model;  // the served name, from the configuration
  FinishReason reason = FinishReason::stop;
  GenerationUsage usage;
  double ttft_s = -1;  // arrival to first token; negative: there was none
  double e2e_s = 0;    // arrival to the last token
  int n = 1;
  int64_t max_tokens = 0;   // 0: not given
  bool structured = false;  // the answer had to fit a grammar
};

class ServerMetrics {
 public:
  ServerMetrics();
  ~ServerMetrics();

  void observe_first_token(const std::string& model, double seconds_since_arrival);
  void observe_inter_token(const std::string& model, double seconds);
  // Counts, queue, prefill, decode and whole times, tokens, finish reason. Does not repeat observe_first_token.
  void observe_finished(const FinishedRequest& request);
  void observe_refused(const std::string& model);  // queue full: vllm:admission_rejections

  // Also the names that vLLM has given up and old dashboards still ask for. Before the first scrape.
  void add_deprecated_names();

  // From now on a scrape also reads `host`, which must outlive this object or be taken away with set_host(nullptr).
  void set_host(const ModelHost* host);

  MetricsRegistry& registry();
  std::string text() const { return const_cast<ServerMetrics*>(this)->registry().text(); }

 private:
  struct Series;
  Series& series(const std::string& model);
  void collect_times(std::vector<MetricsRegistry::Sample>& samples);

  MetricsRegistry registry_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Series>> series_;
  EngineMetrics engines_;
};

// Its connections and the bodies that it holds. A scrape reads the server, which must outlive the last one.
void add_http_metrics(const HttpServer& server, MetricsRegistry& registry);

// GET /metrics.
Route metrics_route(std::shared_ptr<ServerMetrics> metrics);

}  // namespace redoubt
