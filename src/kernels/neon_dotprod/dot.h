// The dot product of four bytes a lane that ARMv8.2 has with dotprod. The panel tiles of dotprod and i8mm stay in
// registers, a direct tile of more than two tokens does not: from three on a panel takes fewer instructions
// (docs/performance.md).
#pragma once

#include "kernels/neon/packed_vec.h"

namespace {

constexpr int kDirectTile = 2;
constexpr int64_t kDirectTokens = 2, kDirectTokens256 = 2;

template <int bits>
inline void i_dot(int, IVec codes, IVec x, IVec* dot, IVec*) {
  *dot = vdotq_s32(*dot, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
}

}  // namespace
