// packed_linear of ARMv8 alone: products of bytes are added in pairs to sixteen bits, and few codes are so large that a
// pair fills them; so the pairs of several columns are added before they are widened.
#include "kernels/neon/packed_vec.h"
#include "kernels/packed_entry.h"

namespace redoubt::neon {
namespace {

constexpr int kTileTokens = 2;  // of a panel tile: 8 x 2 sums of pairs, 2 activations, 8 weights
constexpr int kDirectTile = 4;
constexpr int64_t kDirectTokens = 4, kDirectTokens256 = 4;

// Activations are -120 .. 120 (kernel_args.h): 2 * 120 * (2^bits - 1) times kRun stays below 2^15; signed bytes are
// 128 at most.
template <int bits>
inline void i_dot(int z, IVec codes, IVec x, IVec* dot, IVec* part) {
  constexpr int kRun = bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  const int8x16_t a = vreinterpretq_s8_s32(codes), b = vreinterpretq_s8_s32(x);
  int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)), vmull_high_s8(a, b));
  if (z % kRun != 0) pairs = vaddq_s16(pairs, vreinterpretq_s16_s32(*part));
  *part = vreinterpretq_s32_s16(pairs);
  if (z % kRun == kRun - 1) *dot = vpadalq_s16(*dot, pairs);
}

}  // namespace

#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::neon
