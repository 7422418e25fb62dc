#include "engine/fair_share.h"

#include <algorithm>
#include <limits>

namespace redoubt {

namespace {

double total_weight(std::span<Share* const> shares) {
  double total = 0;
  for (const Share* share : shares) total += share->weight;
  return total;
}

}  // namespace

void FairShare::bound(Share& share) const {
  const double room = burst_ / share.weight;
  share.mark = std::clamp(share.mark, level_ - room, level_ + room);
}

void FairShare::advance(std::span<Share* const> active, int64_t step_tokens) {
  if (active.empty()) return;
  level_ += static_cast<double>(step_tokens) / (total_weight(active) + 1);
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
  const double quarter = static_cast<double>(step_tokens) / 4, total = total_weight(active);
  int64_t left = step_tokens;
  for (Share* share : active) {
    const int64_t part = std::max<int64_t>(1, static_cast<int64_t>(quarter * share->weight / total));
    share->reserved = std::min({part, share->demand, left});
    left -= share->reserved;
  }
}

}  // namespace redoubt
