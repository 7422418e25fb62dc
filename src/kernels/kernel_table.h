// Every CPU kernel, named once; one table per instruction set. The table is chosen once at start, may be forced by
// name, and is never tested inside a loop. Thread safety: kernels are pure functions of their arguments.
#pragma once

#include <span>
#include <string_view>

#include "core/dtype.h"
#include "core/result.h"
#include "kernels/kernel_args.h"
#include "kernels/packed_kernels.h"

namespace redoubt {

struct KernelTable {
  std::string_view name;  // "reference", "avx2", "avx512", "avx512_bf16", "amx", "neon"
  bool (*supported)();    // by the CPU we are running on
  void (*linear)(const LinearArgs&);
  void (*linear_transposed)(const LinearTransposedArgs&);
  void (*rms_norm)(const RmsNormArgs&);
  void (*silu_mul)(const SiluMulArgs&);
  AttentionKernels attention_f32;
  AttentionKernels attention_bf16;   // tile is null where the CPU has no dot product of bfloat16 pairs
  AttentionKernels attention_codes;  // over 8-bit caches of whole groups; tile is null: attention_bf16 or _f32 is
  void (*axpy)(const AxpyArgs&);
  void (*bf16_encode)(const float* in, uint16_t* out, int64_t n);  // round to nearest even
  DecodeFn (*decoder)(DType);  // null: the type has no vector form here, use the reference's
  PackedSets (*packed)();      // for choose_packed
};

std::span<const KernelTable* const> kernel_tables();  // those compiled in, reference first
const KernelTable& reference_kernels();

// "auto": the last table that this CPU supports and that agrees with the reference in a short self-check.
// Errors: invalid_argument for an unknown name, unsupported for a table that this CPU cannot run.
Result<const KernelTable*> choose_kernels(std::string_view name);

// The decoder a table uses for a type: its own, else the reference's.
DecodeFn decoder_for(const KernelTable& table, DType dtype);

}  // namespace redoubt
