#include "engine/speculation.h"

#include <algorithm>

namespace redoubt {

namespace {

// What a kind of draft is worth before it was tried, as if seen kPriorTries times.
constexpr std::array<double, kDraftKinds> kPriorChance{0.3, 0.4, 0.6, 0.8, 0.9, 0.8, 0.6, 0.5};
constexpr double kPriorTries = 2;
constexpr double kAcceptanceMemory = 0.95;  // about the last twenty tries

constexpr double kCostMemory = 0.98;  // about the last fifty steps
// One more token costs this share of the mean cost of one, until steps of several sizes were seen; as time goes on
// without a draft the measured slope fades into it, so that a sequence is tried again now and then.
constexpr double kPriorSlope = 0.1;
constexpr double kPriorVariance = 0.05;  // tokens^2: what the prior weighs against steps of several sizes
constexpr double kOutlier = 4;           // a step that took longer than this many times the mean was somebody else's

}  // namespace

DraftKind kind_of_match(int64_t length) {
  if (length >= 16) return DraftKind::match_16;
  if (length >= 8) return DraftKind::match_8_15;
  if (length >= 4) return DraftKind::match_4_7;
  return length == 3 ? DraftKind::match_3 : DraftKind::match_2;
}

DraftKind kind_of_mtp(int64_t depth) {
  if (depth >= 3) return DraftKind::mtp_3;
  return depth == 2 ? DraftKind::mtp_2 : DraftKind::mtp_1;
}

Acceptance::Acceptance() {
  for (size_t i = 0; i < kDraftKinds; ++i) kinds_[i] = {kPriorTries * kPriorChance[i], kPriorTries};
}

double Acceptance::chance(DraftKind kind) const {
  const Kind& k = kinds_[static_cast<size_t>(kind)];
  return k.held / k.tried;
}

void Acceptance::observe(DraftKind kind, bool held) {
  Kind& k = kinds_[static_cast<size_t>(kind)];
  k.held = kAcceptanceMemory * k.held + (held ? 1 : 0);
  k.tried = kAcceptanceMemory * k.tried + 1;
}

void StepCost::observe(int64_t tokens, double seconds) {
  if (weight_ > 0) seconds = std::min(seconds, kOutlier * std::max(this->seconds(static_cast<double>(tokens)), 1e-9));
  const auto n = static_cast<double>(tokens);
  weight_ = kCostMemory * weight_ + 1;
  n_ = kCostMemory * n_ + n;
  nn_ = kCostMemory * nn_ + n * n;
  t_ = kCostMemory * t_ + seconds;
  nt_ = kCostMemory * nt_ + n * seconds;
}

double StepCost::seconds_per_token() const {
  if (weight_ == 0) return 0;
  const double n = n_ / weight_, t = t_ / weight_;
  const double variance = std::max(0.0, nn_ / weight_ - n * n), covariance = nt_ / weight_ - n * t;
  const double slope = (covariance + kPriorVariance * kPriorSlope * t / n) / (variance + kPriorVariance);
  return std::clamp(slope, 0.0, t / n);
}

double StepCost::seconds(double tokens) const {
  if (weight_ == 0) return 0;
  return t_ / weight_ + seconds_per_token() * (tokens - n_ / weight_);
}

void Speculator::begin_step(int64_t decoding) {
  tokens_ = static_cast<double>(decoding);
  seconds_ = cost_.seconds(tokens_);
}

bool Speculator::uses_ngrams() const {
  return options_.max_depth > 0 && (options_.mode == Speculation::automatic || options_.mode == Speculation::ngram);
}

bool Speculator::uses_module() const {
  return options_.max_depth > 0 && (options_.mode == Speculation::automatic || options_.mode == Speculation::mtp);
}

bool Speculator::module_pays(double chance, int64_t sequences) const {
  if (!options_.adaptive) return true;
  const auto n = static_cast<double>(sequences);
  return chance * cost_.seconds(n) > n * cost_.seconds_per_token() + module_cost_.seconds(n);
}

int64_t Speculator::depth(const Acceptance& acceptance, std::span<const DraftedToken> drafts, int64_t room) {
  const int64_t most = std::min({room, options_.max_depth, static_cast<int64_t>(drafts.size())});
  if (!options_.adaptive) return most;
  const double per_token = cost_.seconds_per_token();
  double chance = 1;
  int64_t depth = 0;
  while (depth < most) {
    chance *= acceptance.chance(drafts[static_cast<size_t>(depth)].kind);
    if (chance * seconds_ <= per_token * tokens_) break;
    tokens_ += chance;
    seconds_ += per_token;
    ++depth;
  }
  return depth;
}

}  // namespace redoubt
