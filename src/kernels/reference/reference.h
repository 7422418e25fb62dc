// The reference kernels: the definition of each operation, in float32, every sum in index order. The compiler may
// vectorise them over outputs, never over a sum.
#pragma once

#include "core/dtype.h"
#include "kernels/kernel_args.h"

namespace redoubt::reference {

void linear(const LinearArgs& args);
void linear_transposed(const LinearTransposedArgs& args);
void rms_norm(const RmsNormArgs& args);
void silu_mul(const SiluMulArgs& args);
void attention_tile(const AttentionTileArgs& args);
void attention_merge(const AttentionMergeArgs& args);
void attention_values(const AttentionValuesArgs& args);
void attention_decode_q8(const AttentionDecodeArgs& args);
void axpy(const AxpyArgs& args);
void bf16_encode(const float* in, uint16_t* out, int64_t n);
DecodeFn decoder(DType dtype);

float exp_approximation(float x);  // e^x as simd/exp.inc has it: never 0, at least the smallest normal number

}  // namespace redoubt::reference
