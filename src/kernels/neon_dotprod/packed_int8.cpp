// packed_linear of ARMv8.2 with dotprod.
#include "kernels/neon_dotprod/dot.h"
#include "kernels/packed_entry.h"

namespace redoubt::neon_dotprod {
namespace {

constexpr int kTileTokens = 4;  // of a panel tile: 2 x 4 dots, 2 x 4 sums, 4 vectors of activations, weights

}  // namespace

#define REDOUBT_PANEL_TILE "kernels/neon_dotprod/panel_tile.inc"
#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::neon_dotprod
