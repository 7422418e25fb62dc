// Draws a token from a row of (edited) logits: temperature, then top_k, top_p, min_p, then one random number.
//
//   w_i = exp((l_i - max l) / temperature)
//   top_k  keeps the k largest logits (of equal ones the lower ids)
//   top_p  keeps, largest first, until their share of what is left reaches p (at least one)
//   min_p  keeps w_i >= p * max w
//   token  = the first id, in increasing order, at which the running sum of kept weights exceeds u * total
// Temperature 0 (below 1e-5) takes the largest logit, of equal ones the lowest id.
// All arithmetic is our own (exponential.h): the same bits on every machine of one build.
// Bound: memory; three passes over the vocabulary (one if greedy). Order is found by buckets of (max - l)/temperature
// of width 1/64 and a sort inside the one bucket where the cut falls, never by sorting the vocabulary. Thread safety:
// one object per thread (scratch memory).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace redoubt {

class Sampler {
 public:
  // uniform: in [0, 1). nullopt: no token has a finite logit.
  std::optional<int32_t> draw(std::span<const float> logits, const SamplingParams& params, double uniform);

  // Of the last draw with a temperature: the ids that were left to draw from, for tests. Empty: all with weight > 0.
  std::span<const int32_t> kept() const { return kept_; }

 private:
  static constexpr int kBuckets = 2048;
  static constexpr float kBucketsPerUnit = 64.0f;

  void weigh(std::span<const float> logits, float largest, float inverse_temperature);
  void fill_buckets();
  void cut_top_k(std::span<const float> logits, int64_t top_k);
  void cut_top_p(std::span<const float> logits, double top_p);
  void collect_bucket(int bucket);
  int32_t draw_from_all(float least_weight, double uniform);
  int32_t draw_from_kept(float least_weight, double uniform);

  std::vector<float> distance_;  // (max - logit) / temperature; infinite: forbidden
  std::vector<float> weight_;    // exp(-distance)
  std::array<int32_t, kBuckets> bucket_count_{};
  std::array<double, kBuckets> bucket_weight_{};
  // The cut: every token of the buckets before cut_bucket_, and those of cut_bucket_ that are in cut_.
  int cut_bucket_ = kBuckets;
  std::vector<int32_t> cut_;
  std::vector<int32_t> kept_;
  std::vector<double> block_sums_;
};

// The largest logit's id, the lowest of equals; -1 if none is above minus infinity.
int32_t largest_logit(std::span<const float> logits);

}  // namespace redoubt
