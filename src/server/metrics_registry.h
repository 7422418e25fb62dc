// Counters, gauges and histograms with labels, and their text in the Prometheus exposition format 0.0.4.
//
// Updates are relaxed atomics spread over a few cache lines (shards), so that threads that count at the same time do
// not fight over one line; a scrape adds the shards up. A series, once made, lives as long as its registry: hold the
// reference. Thread safety: everything may be called from any thread. Bound: the number of series is what callers ask
// for, so label values must come from a bounded set (model names of the configuration, never text from a request).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace redoubt {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

// Which of the shards the calling thread counts in.
size_t metric_shard();
inline constexpr size_t kMetricShards = 4;  // more than two or three threads never count at once: loop, engine, workers

class Counter {
 public:
  void add(uint64_t n = 1) { shards_[metric_shard()].value.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const;

 private:
  struct alignas(64) Shard {
    std::atomic<uint64_t> value{0};
  };
  std::array<Shard, kMetricShards> shards_;
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  void add(double delta);
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// Cumulative buckets `le`; the last, +Inf, is implied.
class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);
  void observe(double value);

  struct Snapshot {
    std::vector<uint64_t> cumulative;  // [bounds + 1], the last is the count
    double sum = 0;
  };
  Snapshot snapshot() const;
  const std::vector<double>& upper_bounds() const { return bounds_; }

 private:
  struct alignas(64) Shard {
    std::vector<std::atomic<uint64_t>> buckets;  // [bounds + 1], not cumulative
    std::atomic<double> sum{0};
  };
  std::vector<double> bounds_;  // ascending
  std::array<Shard, kMetricShards> shards_;
};

class MetricsRegistry {
 public:
  MetricsRegistry();
  ~MetricsRegistry();
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  // The series of that name and those labels, made at the first call. `help` and the kind are those of the first call
  // for the name; asking for a name as another kind is a broken invariant.
  Counter& counter(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const MetricLabels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, const std::vector<double>& upper_bounds,
                       const MetricLabels& labels = {});

  // The same series under a second name; `of` may be made later.
  void add_alias(std::string_view alias, std::string_view of);

  // Series whose values are read at the scrape. A collector adds samples; kinds: "gauge", "counter", or "histogram",
  // whose lines differ by their suffix: "_bucket" (with the label le, the last "+Inf"), "_sum", "_count".
  struct Sample {
    std::string name, help, kind;
    MetricLabels labels;
    double value = 0;
    std::string suffix = {};
  };
  using Collector = std::function<void(std::vector<Sample>& samples)>;
  void add_collector(Collector collector);

  std::string text() const;  // content type: kMetricsContentType

 private:
  struct Family;
  static void append_family(std::string& out, const std::string& name, const Family& family);
  Family& family(std::string_view name, std::string_view help, std::string_view kind);

  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<Family>, std::less<>> families_;
  std::map<std::string, std::string, std::less<>> aliases_;  // alias: the name it stands for
  std::vector<Collector> collectors_;
};

inline constexpr std::string_view kMetricsContentType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace redoubt
