// packed_linear of the set "avx512_pairs": as avx512, but many tokens meet codes of four bits by products of sums.
#include "kernels/avx512/packed_vec.h"
#include "kernels/packed_entry.h"

#define REDOUBT_PANEL_TILE "kernels/avx512/paired_tile.inc"

namespace redoubt::avx512_pairs {
#include "kernels/simd/packed_panel.inc"

void packed_linear(const PackedLinearArgs& args) {
  constexpr int64_t kFewTokens = 24;  // to spell out a panel pays above
  if (args.tokens * (args.remainder.q != nullptr ? 2 : 1) <= kFewTokens) return avx512::packed_linear(args);
  switch (args.w.type) {
    case PackedType::q4_0:
      return panel_linear<Q4_0>(args);
    case PackedType::q4_1:
      return panel_linear<Q4_1>(args);
    case PackedType::q4_k:
      return panel_linear<Q4_K>(args);
    case PackedType::g4_32:
      return panel_linear<G4_32>(args);
    case PackedType::g4_64:
      return panel_linear<G4_64>(args);
    case PackedType::g4_128:
      return panel_linear<G4_128>(args);
    default:
      return avx512::packed_linear(args);
  }
}

}  // namespace redoubt::avx512_pairs
