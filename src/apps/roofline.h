// The least time that a piece of work can take: bytes that must be read against the bandwidth, and multiply-adds
// against the peaks. What is counted: weights (each once a step, of the experts those that random choices hit), the
// cache that attention reads, the products of both. What is not: norms, activations, everything that stays in the
// caches.
//
// Weights stored as blocks of integers count against the int8 peak, others (float32, float16, bfloat16, FP8) and
// attention against the bf16 peak. Source of the model: S. Williams et al., "Roofline", CACM 52(4), 2009.
#pragma once

#include <cstdint>

#include "apps/ceilings.h"
#include "formats/checkpoint.h"

namespace redoubt {

struct WeightCount {
  double bytes = 0;
  double integers = 0;  // weights in blocks of integers
  double floats = 0;    // all others
};

// What one step must read of the weights, by the names of a checkpoint's tensors.
struct WeightTraffic {
  WeightCount always;       // read by every step: attention, norms, dense and shared experts
  WeightCount head;         // read where logits are wanted
  WeightCount experts;      // all routed experts together
  double expert_share = 0;  // of the routed experts that one token is sent to

  double bytes_per_token() const { return always.bytes + head.bytes + expert_share * experts.bytes; }
  // Without the head. Experts: those that `tokens` independent choices hit.
  double bytes_per_step(int64_t tokens) const;
};
WeightTraffic weight_traffic(const Checkpoint& checkpoint);

struct Work {
  double bytes = 0, int8_ops = 0, bf16_flops = 0;  // a multiply-add is two operations
};

struct StepShape {
  int64_t depth = 0;   // tokens in the cache before
  int64_t tokens = 1;  // prefill: of one sequence; decode: steps
  int64_t batch = 1;   // sequences
};
// Prompts one after another, each in steps of at most `step_tokens`; logits of its last token.
Work prefill_work(const ModelConfig& config, const WeightTraffic& traffic, const StepShape& shape, int64_t step_tokens);
// All sequences together, one token each a step. cache_token_bytes: of all layers.
Work decode_work(const ModelConfig& config, const WeightTraffic& traffic, const StepShape& shape,
                 double cache_token_bytes);

struct LeastTime {
  double reading_s = 0, computing_s = 0;
  double seconds() const { return reading_s > computing_s ? reading_s : computing_s; }
  bool is_bound_by_memory() const { return reading_s > computing_s; }
  const char* bound() const { return is_bound_by_memory() ? "memory" : "arithmetic"; }
};
// 0 where a ceiling that the work needs is not known.
LeastTime least_time(const Work& work, const Ceilings& ceilings);

}  // namespace redoubt
