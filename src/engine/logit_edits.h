// What a request asks to be changed in a row of logits before a token is drawn, in the order in which it is applied:
// bias, penalties, forbidden tokens, grammar mask. A forbidden token's logit is minus infinity.
// Source: repetition penalty of CTRL (arXiv:1909.05858) as commonly served: over the ids of prompt and answer, a
// positive logit is divided, another multiplied. Presence and frequency penalties: OpenAI's definition, over the
// answer.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace redoubt {

// Which ids a sequence has seen among its last `window` (-1: among all); kept only where a penalty needs it.
class SeenTokens {
 public:
  explicit SeenTokens(int64_t window = -1) : window_(window) {}

  struct Seen {
    int64_t in_prompt = 0, in_answer = 0;
  };
  void add_prompt(std::span<const int32_t> prompt);
  void add_answer(int32_t token);
  const std::unordered_map<int32_t, Seen>& tokens() const { return seen_; }

 private:
  struct Place {
    int32_t token;
    bool is_in_answer;
  };
  void add(Place place);

  int64_t window_;
  std::deque<Place> last_;  // of a bounded window, oldest first
  std::unordered_map<int32_t, Seen> seen_;
};

bool has_penalties(const SamplingParams& params);

void apply_bias(std::span<float> logits, std::span<const std::pair<int32_t, float>> bias);
void apply_penalties(std::span<float> logits, const SamplingParams& params, const SeenTokens& seen);
void forbid(std::span<float> logits, std::span<const int32_t> tokens);
// mask: bit i of mask[i / 32] allows token i; tokens beyond the mask are forbidden.
void apply_mask(std::span<float> logits, std::span<const uint32_t> mask);

}  // namespace redoubt
