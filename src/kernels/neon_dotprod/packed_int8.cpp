// packed_linear of ARMv8.2 with dotprod. The mixed-sign product of i8mm would save the flip of eight-bit codes and
// nothing else, so it has no set of its own.
#include "kernels/neon/packed_vec.h"
#include "kernels/packed_entry.h"

namespace redoubt::neon_dotprod {
namespace {

template <int bits>
inline void i_dot(int, IVec codes, IVec x, IVec* dot, IVec*) {
  *dot = vdotq_s32(*dot, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
}

}  // namespace

#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::neon_dotprod
