// packed_linear of ARMv8.2 with dotprod and i8mm: many tokens by products of matrices (panel_tile.inc), few as dotprod
// has them, whose time is the memory's.
#include "kernels/neon_dotprod/dot.h"
#include "kernels/packed_entry.h"

namespace redoubt::neon_i8mm {
namespace {

constexpr int kTileTokens = 4;  // of a panel tile: 4 x 2 dots, 4 x 2 sums, 2 pairs of activations, weights

}  // namespace

#define REDOUBT_PANEL_TILE "kernels/neon_i8mm/panel_tile.inc"
#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::neon_i8mm
