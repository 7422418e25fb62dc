#include "server/metrics_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/result.h"

namespace redoubt {
namespace {

std::string escaped(std::string_view text, bool quotes) {
  std::string result;
  for (const char c : text) {
    if (c == '\\') {
      result += "\\\\";
    } else if (c == '\n') {
      result += "\\n";
    } else if (c == '"' && quotes) {
      result += "\\\"";
    } else {
      result += c;
    }
  }
  return result;
}

// "" or `a="b",c="d"`, without braces: histograms add `le`.
std::string label_text(const MetricLabels& labels) {
  std::string result;
  for (const auto& [name, value] : labels) {
    result += fmt::format("{}{}=\"{}\"", result.empty() ? "" : ",", name, escaped(value, true));
  }
  return result;
}

std::string braced(const std::string& labels) { return labels.empty() ? labels : "{" + labels + "}"; }

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", value);
}

void add_to(std::atomic<double>& target, double delta) {
  double old = target.load(std::memory_order_relaxed);
  while (!target.compare_exchange_weak(old, old + delta, std::memory_order_relaxed)) {
  }
}

void append_header(std::string& out, std::string_view name, std::string_view help, std::string_view kind) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, escaped(help, false), name, kind);
}

}  // namespace

size_t metric_shard() {
  static std::atomic<size_t> next{0};
  thread_local const size_t shard = next.fetch_add(1, std::memory_order_relaxed) % kMetricShards;
  return shard;
}

uint64_t Counter::value() const {
  uint64_t sum = 0;
  for (const Shard& shard : shards_) sum += shard.value.load(std::memory_order_relaxed);
  return sum;
}

void Gauge::add(double delta) { add_to(value_, delta); }

Histogram::Histogram(std::vector<double> upper_bounds) : bounds_(std::move(upper_bounds)) {
  REDOUBT_ASSERT(std::is_sorted(bounds_.begin(), bounds_.end()));
  for (Shard& shard : shards_) shard.buckets = std::vector<std::atomic<uint64_t>>(bounds_.size() + 1);
}

void Histogram::observe(double value) {
  if (std::isnan(value)) return;
  const auto bucket = static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
  Shard& shard = shards_[metric_shard()];
  shard.buckets[bucket].fetch_add(1, std::memory_order_relaxed);
  add_to(shard.sum, value);
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot result;
  result.cumulative.assign(bounds_.size() + 1, 0);
  for (const Shard& shard : shards_) {
    for (size_t i = 0; i < shard.buckets.size(); ++i) {
      result.cumulative[i] += shard.buckets[i].load(std::memory_order_relaxed);
    }
    result.sum += shard.sum.load(std::memory_order_relaxed);
  }
  for (size_t i = 1; i < result.cumulative.size(); ++i) result.cumulative[i] += result.cumulative[i - 1];
  return result;
}

struct MetricsRegistry::Family {
  std::string help, kind;
  std::map<std::string, std::unique_ptr<Counter>> counters;  // by label text
  std::map<std::string, std::unique_ptr<Gauge>> gauges;
  std::map<std::string, std::unique_ptr<Histogram>> histograms;
};

MetricsRegistry::MetricsRegistry() = default;
MetricsRegistry::~MetricsRegistry() = default;

// Called with mutex_ held.
MetricsRegistry::Family& MetricsRegistry::family(std::string_view name, std::string_view help, std::string_view kind) {
  auto found = families_.find(name);
  if (found == families_.end()) {
    auto made = std::make_unique<Family>();
    made->help = help;
    made->kind = kind;
    found = families_.emplace(std::string(name), std::move(made)).first;
  }
  REDOUBT_ASSERT(found->second->kind == kind);
  return *found->second;
}

Counter& MetricsRegistry::counter(std::string_view name, std::string_view help, const MetricLabels& labels) {
  const std::lock_guard lock(mutex_);
  auto& slot = family(name, help, "counter").counters[label_text(labels)];
  if (slot == nullptr) slot = std::make_unique<Counter>();
  return *slot;
}

Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, const MetricLabels& labels) {
  const std::lock_guard lock(mutex_);
  auto& slot = family(name, help, "gauge").gauges[label_text(labels)];
  if (slot == nullptr) slot = std::make_unique<Gauge>();
  return *slot;
}

Histogram& MetricsRegistry::histogram(std::string_view name, std::string_view help,
                                      const std::vector<double>& upper_bounds, const MetricLabels& labels) {
  const std::lock_guard lock(mutex_);
  auto& slot = family(name, help, "histogram").histograms[label_text(labels)];
  if (slot == nullptr) slot = std::make_unique<Histogram>(upper_bounds);
  return *slot;
}

void MetricsRegistry::add_collector(Collector collector) {
  const std::lock_guard lock(mutex_);
  collectors_.push_back(std::move(collector));
}

void MetricsRegistry::add_alias(std::string_view alias, std::string_view of) {
  const std::lock_guard lock(mutex_);
  aliases_[std::string(alias)] = of;
}

void MetricsRegistry::append_family(std::string& out, const std::string& name, const Family& family) {
  append_header(out, name, family.help, family.kind);
  for (const auto& [labels, counter] : family.counters) {
    out += fmt::format("{}{} {}\n", name, braced(labels), counter->value());
  }
  for (const auto& [labels, gauge] : family.gauges) {
    out += fmt::format("{}{} {}\n", name, braced(labels), number(gauge->value()));
  }
  for (const auto& [labels, histogram] : family.histograms) {
    const Histogram::Snapshot snapshot = histogram->snapshot();
    const std::string before = labels.empty() ? labels : labels + ",";
    for (size_t i = 0; i < snapshot.cumulative.size(); ++i) {
      const bool last = i + 1 == snapshot.cumulative.size();
      out += fmt::format("{}_bucket{{{}le=\"{}\"}} {}\n", name, before,
                         last ? std::string("+Inf") : number(histogram->upper_bounds()[i]), snapshot.cumulative[i]);
    }
    out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, braced(labels), number(snapshot.sum), name, braced(labels),
                       snapshot.cumulative.back());
  }
}

std::string MetricsRegistry::text() const {
  std::string out;
  std::vector<Collector> collectors;
  {
    const std::lock_guard lock(mutex_);
    collectors = collectors_;
    for (const auto& [name, family] : families_) {
      append_family(out, name, *family);
    }
    for (const auto& [alias, of] : aliases_)
      if (const auto found = families_.find(of); found != families_.end()) append_family(out, alias, *found->second);
  }
  // Collectors ask engines, so they run without our lock; samples of one name are put together.
  std::vector<Sample> samples;
  for (const Collector& collector : collectors) collector(samples);
  std::stable_sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.name < b.name; });
  std::string_view last;
  for (const Sample& sample : samples) {
    if (sample.name != last) append_header(out, sample.name, sample.help, sample.kind);
    last = sample.name;
    out +=
        fmt::format("{}{}{} {}\n", sample.name, sample.suffix, braced(label_text(sample.labels)), number(sample.value));
  }
  return out;
}

}  // namespace redoubt
