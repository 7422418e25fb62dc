// The dot product of four bytes a lane that ARMv8.2 has with dotprod.
#pragma once

#include "kernels/neon/packed_vec.h"

namespace {

template <int bits>
inline void i_dot(int, IVec codes, IVec x, IVec* dot, IVec*) {
  *dot = vdotq_s32(*dot, vreinterpretq_s8_s32(codes), vreinterpretq_s8_s32(x));
}

}  // namespace
