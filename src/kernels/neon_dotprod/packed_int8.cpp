// packed_linear of ARMv8.2 with dotprod.
#include "kernels/neon_dotprod/dot.h"
#include "kernels/packed_entry.h"

namespace redoubt::neon_dotprod {
namespace {

constexpr int kTileTokens = 2;  // of a panel tile: 8 x 2 dots, 2 activations, 8 weights

}  // namespace

#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::neon_dotprod
