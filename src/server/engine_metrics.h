// What the engines say of themselves, read at the scrape, under the names of vLLM, SGLang and llama.cpp. A counter of a
// model that was unloaded stays where it was, and goes on from there when the model comes back.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/model_host.h"
#include "server/metrics_registry.h"

namespace redoubt {

MetricLabels model_labels(const std::string& model);  // those of every series of a model

// Thread safety: any thread.
class EngineMetrics {
 public:
  using Samples = std::vector<MetricsRegistry::Sample>;
  void add_deprecated() { deprecated_ = true; }  // also names that vLLM has given up; before the first scrape
  void set_host(const ModelHost* host);          // outlives this, or is taken away with nullptr
  void collect(Samples& samples);

 private:
  // Tokens of a model at a scrape at least a second ago: what has come since then is its throughput.
  struct Rate {
    int64_t at_ns = 0;
    uint64_t tokens = 0;
    double per_second = 0;
  };
  double throughput(const std::string& model, uint64_t generation_tokens);
  // `loaded`: nullptr where it is not.
  void gauges(const std::string& model, const LoadedModel* loaded, const EngineStats& stats, int64_t waiting_for_load,
              Samples& out);
  static void counters(const std::string& model, const EngineStats& total, Samples& out);
  static void deprecated(const std::string& model, const EngineStats& now, const EngineStats& total, Samples& out);

  std::mutex mutex_;
  const ModelHost* host_ = nullptr;
  std::map<std::string, Rate> rates_;
  bool deprecated_ = false;
};

}  // namespace redoubt
