#include "engine/step_pace.h"

#include <algorithm>

namespace redoubt {

namespace {

constexpr int64_t kUnknownTokens = 32;  // of the first step that others wait behind
constexpr double kMemory = 0.98;        // about the last fifty steps
constexpr double kPriorSpread = 0.05;   // of tokens, as a share of their mean: what the prior weighs
constexpr double kFade = 0.8;           // of a correction, from step to step
constexpr double kMostCorrection = 4, kLeastCorrection = 0.5;

}  // namespace

double StepPace::seconds_per_token() const {
  const double n = n_ / weight_, t = t_ / weight_;
  const double variance = std::max(0.0, nn_ / weight_ - n * n), covariance = nt_ / weight_ - n * t;
  const double prior = kPriorSpread * n * kPriorSpread * n;
  return std::clamp((covariance + prior * t / n) / (variance + prior), 0.0, t / n);
}

double StepPace::seconds(double tokens) const { return t_ / weight_ + seconds_per_token() * (tokens - n_ / weight_); }

void StepPace::observe(int64_t tokens, double seconds) {
  if (tokens <= 0) return;
  const auto n = static_cast<double>(tokens);
  if (const double expected = weight_ > 0 ? this->seconds(n) : 0; expected > 0) {
    const double ratio = std::clamp(seconds / expected, kLeastCorrection, kMostCorrection);
    correction_ = std::max(ratio, kFade * correction_ + (1 - kFade) * ratio);
    seconds = ratio * expected;  // one that took much longer was somebody else's
  }
  weight_ = kMemory * weight_ + 1;
  n_ = kMemory * n_ + n;
  nn_ = kMemory * nn_ + n * n;
  t_ = kMemory * t_ + seconds;
  nt_ = kMemory * nt_ + n * seconds;
}

int64_t StepPace::tokens_within(double seconds, int64_t most) const {
  if (weight_ == 0) return std::min(kUnknownTokens, most);
  const double one = correction_ * this->seconds(1), each = correction_ * seconds_per_token();
  const double allowed = std::max(seconds, 2 * one);
  if (each <= 0) return most;
  const double tokens = 1 + (allowed - one) / each;
  return tokens >= static_cast<double>(most) ? most : std::max<int64_t>(1, static_cast<int64_t>(tokens));
}

}  // namespace redoubt
