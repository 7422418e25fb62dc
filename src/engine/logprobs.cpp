#include "engine/logprobs.h"

#include <algorithm>
#include <limits>

#include "engine/exponential.h"
#include "engine/sampler.h"

namespace redoubt {

namespace {

// The ids of the largest logits, best first: an insertion into a short list (at most 20 long).
std::vector<int32_t> largest_logits(std::span<const float> logits, int count) {
  std::vector<int32_t> best;
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool full = static_cast<int>(best.size()) == count;
    if (full && !(logits[i] > logits[static_cast<size_t>(best.back())])) continue;
    if (full) best.pop_back();
    const auto at = std::find_if(best.begin(), best.end(),
                                 [&](int32_t other) { return logits[static_cast<size_t>(other)] < logits[i]; });
    best.insert(at, static_cast<int32_t>(i));
  }
  return best;
}

}  // namespace

TokenLogprob token_logprob(std::span<const float> logits, int32_t token, int num_top) {
  const int32_t best = largest_logit(logits);
  const float largest = best < 0 ? 0.0f : logits[static_cast<size_t>(best)];
  double sums[8] = {};  // eight running sums, added in a fixed order
  size_t i = 0;
  for (; i + 8 <= logits.size(); i += 8) {
    float weights[8];
    for (size_t j = 0; j < 8; ++j) weights[j] = exp_of_negative(logits[i + j] - largest);
    for (size_t j = 0; j < 8; ++j) sums[j] += weights[j];
  }
  for (; i < logits.size(); ++i) sums[0] += exp_of_negative(logits[i] - largest);
  double sum = 0.0;
  for (const double part : sums) sum += part;
  const double log_sum = sum > 0.0 ? log_of_positive(sum) : 0.0;
  const auto logprob_of = [&](int32_t id) {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - largest - log_sum);
  };
  TokenLogprob result{.token = token, .logprob = logprob_of(token), .top = {}};
  if (num_top > 0)
    for (const int32_t id : largest_logits(logits, num_top)) result.top.emplace_back(id, logprob_of(id));
  return result;
}

}  // namespace redoubt
