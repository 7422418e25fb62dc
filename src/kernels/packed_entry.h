// The entry points over packed weights of one instruction set; packed_kernels.cpp makes a table of them. Nothing here
// has code that is shared between files, so that files built for an instruction set may include it.
#pragma once

#include "kernels/kernel_args.h"

namespace redoubt {
// Of `left` tokens, those of the next tile of `tile` at most. The last two share what is left: small tiles have too few
// sums to hide the latency of a dot product. Static: each file has its own, built for its own instruction set.
static constexpr int64_t tile_tokens_of(int64_t left, int64_t tile) {
  if (left >= 2 * tile || left == tile) return tile;
  return left > tile ? (left + 1) / 2 : left;
}
// Where scratch memory begins with a cache line: up to 15 floats on.
static inline float* from_a_line(float* scratch) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(scratch) + 63) / 64 * 64);
}
}  // namespace redoubt

#define REDOUBT_DECLARE_PACKED_KERNELS(isa)              \
  namespace redoubt::isa {                               \
  void packed_linear(const PackedLinearArgs& args);      \
  void packed_linear_bf16(const PackedLinearArgs& args); \
  void quantize_row(const QuantizeRowArgs& args);        \
  }

REDOUBT_DECLARE_PACKED_KERNELS(reference)
REDOUBT_DECLARE_PACKED_KERNELS(avx2)
REDOUBT_DECLARE_PACKED_KERNELS(avx_vnni)
REDOUBT_DECLARE_PACKED_KERNELS(avx512)

namespace redoubt::avx512_pairs {
void packed_linear(const PackedLinearArgs& args);
}
namespace redoubt::amx {
void packed_linear(const PackedLinearArgs& args);
void packed_linear_bf16(const PackedLinearArgs& args);
}  // namespace redoubt::amx
REDOUBT_DECLARE_PACKED_KERNELS(neon)
REDOUBT_DECLARE_PACKED_KERNELS(neon_dotprod)
REDOUBT_DECLARE_PACKED_KERNELS(neon_i8mm)
