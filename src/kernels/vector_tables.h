// The entry points of one instruction set's folder; kernel_table.cpp makes a table of them. Plain declarations, so that
// files built for an instruction set may include it.
#pragma once

#include "kernels/kernel_args.h"

#define REDOUBT_DECLARE_VECTOR_KERNELS(isa)                         \
  namespace redoubt::isa {                                          \
  void linear(const LinearArgs& args);                              \
  void linear_transposed(const LinearTransposedArgs& args);         \
  void rms_norm(const RmsNormArgs& args);                           \
  void silu_mul(const SiluMulArgs& args);                           \
  void attention_tile(const AttentionTileArgs& args);               \
  void attention_merge(const AttentionMergeArgs& args);             \
  void attention_values(const AttentionValuesArgs& args);           \
  void attention_few_rows_tile(const AttentionTileArgs& args);      \
  void attention_few_rows_merge(const AttentionMergeArgs& args);    \
  void attention_decode_q8(const AttentionDecodeArgs& args);        \
  void axpy(const AxpyArgs& args);                                  \
  void bf16_encode(const float* in, uint16_t* out, int64_t n);      \
  void decode_f32(const unsigned char* in, float* out, int64_t n);  \
  void decode_bf16(const unsigned char* in, float* out, int64_t n); \
  void decode_f16(const unsigned char* in, float* out, int64_t n);  \
  void decode_e4m3(const unsigned char* in, float* out, int64_t n); \
  void decode_q4_0(const unsigned char* in, float* out, int64_t n); \
  void decode_q4_1(const unsigned char* in, float* out, int64_t n); \
  void decode_q8_0(const unsigned char* in, float* out, int64_t n); \
  void decode_q4_k(const unsigned char* in, float* out, int64_t n); \
  void decode_q5_k(const unsigned char* in, float* out, int64_t n); \
  void decode_q6_k(const unsigned char* in, float* out, int64_t n); \
  }

REDOUBT_DECLARE_VECTOR_KERNELS(avx2)
REDOUBT_DECLARE_VECTOR_KERNELS(avx512)
REDOUBT_DECLARE_VECTOR_KERNELS(neon)

namespace redoubt::avx512_bf16 {  // what this table does not share with avx512
void attention_tile(const AttentionTileArgs& args);
void attention_merge(const AttentionMergeArgs& args);
void attention_values(const AttentionValuesArgs& args);
void attention_few_rows_tile(const AttentionTileArgs& args);
void attention_few_rows_merge(const AttentionMergeArgs& args);
void attention_decode_q8(const AttentionDecodeArgs& args);
}  // namespace redoubt::avx512_bf16

namespace redoubt::avx512_codes {  // over an 8-bit cache; the rest is avx512_bf16's
void attention_tile(const AttentionTileArgs& args);
void attention_values(const AttentionValuesArgs& args);
void attention_few_rows_tile(const AttentionTileArgs& args);
void attention_encode_query(const AttentionQueryArgs& args);
}  // namespace redoubt::avx512_codes

// What the amx table does not share with avx512_bf16.
#define REDOUBT_DECLARE_TILE_ATTENTION(isa)                    \
  namespace redoubt::isa {                                     \
  void attention_tile(const AttentionTileArgs& args);          \
  void attention_values(const AttentionValuesArgs& args);      \
  void attention_few_rows_tile(const AttentionTileArgs& args); \
  }

REDOUBT_DECLARE_TILE_ATTENTION(amx)
