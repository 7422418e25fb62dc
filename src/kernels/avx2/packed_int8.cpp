// packed_linear of AVX2 alone: products of bytes are added in pairs to sixteen bits, and few codes are so large that a
// pair fills them; so the pairs of several columns are added before they are widened.
#include "kernels/avx2/packed_vec.h"
#include "kernels/packed_entry.h"

namespace redoubt::avx2 {
namespace {

constexpr int kTileTokens = 2;  // of a panel tile: 4 x 2 sums of pairs, 2 activations, 1 weight, 1 of ones
constexpr int kDirectTile = 4, kDirectGroups = 1;
constexpr int64_t kOneGroupTokens = 4, kDirectTokens = 4, kDirectTokens256 = 4;
constexpr bool kSignedBytes = true;

// Activations are -120 .. 120 (kernel_args.h): 2 * 120 * (2^bits - 1) times kRun stays below 2^15.
template <int bits>
inline void i_dot(int z, IVec codes, IVec x, IVec* dot, IVec* part) {
  constexpr int kRun = bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1;
  // Signed codes: their magnitude, and their sign on the activation.
  const IVec pairs = bits == 8 ? _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes))
                               : _mm256_maddubs_epi16(codes, x);
  *part = z % kRun == 0 ? pairs : _mm256_add_epi16(*part, pairs);
  if (z % kRun == kRun - 1) *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(*part, _mm256_set1_epi16(1)));
}

}  // namespace

#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::avx2
