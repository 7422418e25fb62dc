// packed_linear of 256 bits with VNNI, for processors that have it without AVX-512.
#include "kernels/avx2/packed_vec.h"
#include "kernels/packed_entry.h"

namespace redoubt::avx_vnni {
namespace {

constexpr int kTileTokens = 3;  // of a panel tile: 4 x 3 dots, 3 activations, 1 weight
constexpr int kDirectTile = 4, kDirectGroups = 1;
constexpr int64_t kOneGroupTokens = 4, kDirectTokens = 4, kDirectTokens256 = 4;
constexpr bool kSignedBytes = false;

template <int bits>
inline void i_dot(int, IVec codes, IVec x, IVec* dot, IVec*) {
  *dot = _mm256_dpbusd_avx_epi32(*dot, codes, x);
}

}  // namespace

#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::avx_vnni
