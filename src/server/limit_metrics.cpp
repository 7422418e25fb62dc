#include "server/limit_metrics.h"

#include <fmt/format.h>

namespace redoubt {
namespace {

using Samples = std::vector<MetricsRegistry::Sample>;

void add(Samples& samples, std::string_view name, std::string_view help, double value, MetricLabels labels = {}) {
  const std::string_view kind = name.ends_with("_total") ? "counter" : "gauge";
  samples.push_back(
      {fmt::format("redoubt_limits_{}", name), std::string(help), std::string(kind), std::move(labels), value});
}

void add_refused(Samples& samples, const std::array<uint64_t, kLimitKinds>& counts, const char* reason) {
  for (int i = 0; i < kLimitKinds; ++i) {
    add(samples, "refused_total", "Requests refused, by the kind of limit and why.",
        static_cast<double>(counts[static_cast<size_t>(i)]),
        {{"kind", std::string(kind_name(static_cast<LimitKind>(i)))}, {"reason", reason}});
  }
}

void collect(const LimitsStats& stats, Samples& samples) {
  constexpr double kSecond = 1e-9;
  const auto count = [](uint64_t value) { return static_cast<double>(value); };
  add(samples, "admitted_total", "Requests that met a limit and were admitted.", count(stats.reserved));
  add_refused(samples, stats.refused, "limit");
  add_refused(samples, stats.unavailable, "unavailable");
  add(samples, "extensions_total", "Further steps of answers, by outcome.", count(stats.extended),
      {{"outcome", "granted"}});
  add(samples, "extensions_total", "Further steps of answers, by outcome.", count(stats.extensions_refused),
      {{"outcome", "refused"}});
  add(samples, "settled_total", "Requests settled to what they used.", count(stats.settled));
  add(samples, "refunded_total", "Requests refunded whole.", count(stats.refunded));
  add(samples, "open_requests", "Requests that hold a reservation.", static_cast<double>(stats.open));
  add(samples, "counters", "Limits of subjects in this node's memory.", static_cast<double>(stats.counters));
  add(samples, "leases", "Of these, with a lease from the ledger.", static_cast<double>(stats.leases));
  add(samples, "ledger_reports_total", "Reports to the ledger.", count(stats.syncs));
  add(samples, "ledger_errors_total", "Reports that failed.", count(stats.failed_syncs));
  add(samples, "ledger_age_seconds",
      "Since a report was recorded; an idle node reports every ten seconds or not at all.",
      static_cast<double>(stats.ledger_age_ns) * kSecond);
  add(samples, "ledger_failing_seconds", "Since the ledger takes no reports and nothing is admitted; 0: it takes them.",
      static_cast<double>(stats.failing_ns) * kSecond);
}

}  // namespace

void add_limit_metrics(const Limits& limits, MetricsRegistry& registry) {
  registry.add_collector([&limits](Samples& samples) { collect(limits.stats(), samples); });
}

}  // namespace redoubt
