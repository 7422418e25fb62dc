#include "engine/logit_edits.h"

#include <algorithm>
#include <limits>

namespace redoubt {

namespace {
constexpr float kForbidden = -std::numeric_limits<float>::infinity();
}

void SeenTokens::add_prompt(std::span<const int32_t> prompt) {
  if (window_ >= 0 && static_cast<int64_t>(prompt.size()) > window_) prompt = prompt.last(static_cast<size_t>(window_));
  for (const int32_t token : prompt) add({token, false});
}

void SeenTokens::add_answer(int32_t token) { add({token, true}); }

void SeenTokens::add(Place place) {
  Seen& seen = seen_[place.token];
  ++(place.is_in_answer ? seen.in_answer : seen.in_prompt);
  if (window_ < 0) return;
  last_.push_back(place);
  if (static_cast<int64_t>(last_.size()) <= window_) return;
  const Place gone = last_.front();
  last_.pop_front();
  const auto at = seen_.find(gone.token);
  --(gone.is_in_answer ? at->second.in_answer : at->second.in_prompt);
  if (at->second.in_answer == 0 && at->second.in_prompt == 0) seen_.erase(at);
}

bool has_penalties(const SamplingParams& params) {
  if (params.penalty_window == 0) return false;
  return params.repetition_penalty != 1.0 || params.presence_penalty != 0.0 || params.frequency_penalty != 0.0;
}

void apply_bias(std::span<float> logits, std::span<const std::pair<int32_t, float>> bias) {
  for (const auto& [token, value] : bias) logits[static_cast<size_t>(token)] += value;
}

void apply_penalties(std::span<float> logits, const SamplingParams& params, const SeenTokens& seen) {
  const float repetition = static_cast<float>(params.repetition_penalty);
  for (const auto& [token, where] : seen.tokens()) {  // each id by itself: the order does not matter
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0.0f ? logit / repetition : logit * repetition;
    if (where.in_answer == 0) continue;
    logit -= static_cast<float>(params.frequency_penalty * static_cast<double>(where.in_answer));
    logit -= static_cast<float>(params.presence_penalty);
  }
}

void forbid(std::span<float> logits, std::span<const int32_t> tokens) {
  for (const int32_t token : tokens)
    if (static_cast<size_t>(token) < logits.size()) logits[static_cast<size_t>(token)] = kForbidden;
}

void apply_mask(std::span<float> logits, std::span<const uint32_t> mask) {
  const size_t words = std::min(mask.size(), (logits.size() + 31) / 32);
  for (size_t word = 0; word < words; ++word) {
    const uint32_t allowed = mask[word];
    if (allowed == 0xffffffffu) continue;
    const size_t begin = word * 32, end = std::min(begin + 32, logits.size());
    if (allowed == 0) {
      std::fill(logits.begin() + static_cast<int64_t>(begin), logits.begin() + static_cast<int64_t>(end), kForbidden);
      continue;
    }
    for (size_t i = begin; i < end; ++i)
      if (((allowed >> (i - begin)) & 1u) == 0) logits[i] = kForbidden;
  }
  if (words * 32 < logits.size())
    std::fill(logits.begin() + static_cast<int64_t>(words * 32), logits.end(), kForbidden);
}

}  // namespace redoubt
