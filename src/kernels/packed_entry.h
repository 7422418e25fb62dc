// The entry points over packed weights of one instruction set; packed_kernels.cpp makes a table of them. Plain
// declarations, so that files built for an instruction set may include it.
#pragma once

#include "kernels/kernel_args.h"

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
REDOUBT_DECLARE_PACKED_KERNELS(neon)
REDOUBT_DECLARE_PACKED_KERNELS(neon_dotprod)
