// The amx kernels over tiles in plain code, beside those compiled in: their logic is tested on any AVX-512 CPU.
#pragma once

#include <algorithm>
#include <vector>

#include "kernels/kernel_table.h"
#include "kernels/vector_tables.h"

REDOUBT_DECLARE_TILE_ATTENTION(amx_emulated)
namespace redoubt::amx_emulated {
void packed_linear(const PackedLinearArgs& args);
void packed_linear_bf16(const PackedLinearArgs& args);
}  // namespace redoubt::amx_emulated

namespace redoubt::test {

inline std::vector<const KernelTable*> tested_tables() {
  std::vector<const KernelTable*> tables(kernel_tables().begin(), kernel_tables().end());
#if defined(__x86_64__)
  static const KernelTable emulated = [] {
    KernelTable table = **std::ranges::find(kernel_tables(), "avx512_bf16", &KernelTable::name);
    table.name = "amx_emulated";
    table.attention_codes = {};
    table.attention_bf16.tile = amx_emulated::attention_tile;
    table.attention_bf16.values = amx_emulated::attention_values;
    table.attention_bf16.few_rows_tile = amx_emulated::attention_few_rows_tile;
    return table;
  }();
  tables.push_back(&emulated);
#endif
  return tables;
}

#if defined(__x86_64__)
inline const PackedKernels& avx512_set() {
  return **std::ranges::find(packed_kernels(), "avx512", &PackedKernels::name);
}
#endif

inline std::vector<const PackedKernels*> tested_sets() {
  std::vector<const PackedKernels*> sets(packed_kernels().begin(), packed_kernels().end());
#if defined(__x86_64__)
  static const PackedKernels emulated = [] {
    PackedKernels set = avx512_set();
    set.name = "amx_emulated";
    set.supported = [] { return avx512_set().supported() && __builtin_cpu_supports("gfni") != 0; };
    set.linear = amx_emulated::packed_linear;
    set.linear_bf16 = amx_emulated::packed_linear_bf16;
    return set;
  }();
  sets.push_back(&emulated);
#endif
  return sets;
}

}  // namespace redoubt::test
