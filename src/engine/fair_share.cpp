#include "engine/fair_share.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace redoubt {

namespace {

// From 1 for a tenant with an eighth of the busiest one's sequences to a third for one with a 32nd.
double token_counts(int64_t members, int64_t most) {
  const double times_fewer = static_cast<double>(most) / static_cast<double>(std::max<int64_t>(1, members));
  return 1 - 2.0 / 3 * std::clamp((std::log2(times_fewer) - 3) / 2, 0.0, 1.0);
}

}  // namespace

void FairShare::bound(Share& share) const {
  const double room = burst_ / share.weight;
  share.mark = std::clamp(share.mark, level_ - room, level_ + room);
}

void FairShare::advance(std::span<Share* const> active, int64_t step_tokens) {
  if (active.empty()) return;
  int64_t most = 1;
  for (const Share* share : active) most = std::max(most, share->members);
  double weights = 0;
  for (Share* share : active) {
    share->token_counts = token_counts(share->members, most);
    weights += share->weight / share->token_counts;
  }
  level_ += static_cast<double>(step_tokens) / (weights + 1);
  double least_heavy = std::numeric_limits<double>::infinity();
  for (const Share* share : active)
    if (share->mark > level_) least_heavy = std::min(least_heavy, share->mark);
  if (least_heavy < std::numeric_limits<double>::infinity()) level_ = least_heavy;
  for (Share* share : active) bound(*share);
}

void FairShare::order(std::span<Share*> active, int64_t step_tokens) {
  std::ranges::stable_sort(active, [](const Share* a, const Share* b) {
    return a->mark != b->mark ? a->mark < b->mark : a->demand < b->demand;
  });
  const double eighth = static_cast<double>(step_tokens) / 8;
  double total = 0;
  for (const Share* share : active) total += share->weight;
  int64_t left = step_tokens;
  for (Share* share : active) {
    const int64_t part = std::max<int64_t>(1, static_cast<int64_t>(eighth * share->weight / total));
    share->reserved = std::min({part, share->demand, left});
    left -= share->reserved;
  }
}

}  // namespace redoubt
