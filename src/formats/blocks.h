// Decoding and encoding of every stored element type, row by row: the slow and exact definition that vector kernels are
// held to. Order of operations: (d * scale) * q, then minus (dmin * min), in float32 without fused multiply-add.
// Source: GGUF/ggml block layouts; OCP MX; DeepSeek-V3 FP8 weight documentation.
#pragma once

#include <cstddef>
#include <span>

#include "core/dtype.h"
#include "core/result.h"

namespace redoubt {

bool can_decode(DType dtype);
// out.size() elements from `in` (row_bytes(dtype, out.size()) bytes, unaligned). out.size() is a multiple of the block.
void decode_row(DType dtype, const std::byte* in, std::span<float> out);

bool can_encode(
    DType dtype);  // f32 f16 bf16 fp8(values only) q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k iq4_nl mxfp4 tq1_0 tq2_0
void encode_row(DType dtype, std::span<const float> in, std::byte* out);

}  // namespace redoubt
