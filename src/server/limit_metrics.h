// What limits count, in /metrics: names that begin with redoubt_limits_ (docs/limits.md). Labels are kinds of limits
// and reasons; who was refused is in no metric.
#pragma once

#include "governance/limits.h"
#include "server/metrics_registry.h"

namespace redoubt {

// `limits` outlives the registry's use.
void add_limit_metrics(const Limits& limits, MetricsRegistry& registry);

}  // namespace redoubt
