// packed_linear of the set "avx512_pairs": as avx512, but many tokens meet codes of four bits by products of sums.
#include "kernels/avx512/packed_vec.h"
#include "kernels/packed_entry.h"

#define REDOUBT_PANEL_TILE "kernels/avx512/paired_tile.inc"

namespace redoubt::avx512_pairs {
#include "kernels/simd/packed_panel.inc"

void packed_linear(const PackedLinearArgs& args) {
  constexpr int64_t kFewTokens = 24;  // to spell out a panel pays above
  if (args.tokens * (args.remainder.q != nullptr ? 2 : 1) <= kFewTokens) return avx512::packed_linear(args);
  with_layout(args.w.type, [&]<class L>() {
    if constexpr (L::kBits == 4) {
      panel_linear<L>(args);
    } else {
      avx512::packed_linear(args);
    }
  });
}

}  // namespace redoubt::avx512_pairs
