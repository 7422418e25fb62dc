// packed_linear of the avx512 table. Compiled with VNNI: called only where the CPU has it.
#include "kernels/avx512/packed_vec.h"
#include "kernels/packed_entry.h"

#define REDOUBT_QUANTIZE_ROW "kernels/avx512/quantize_row.inc"

namespace redoubt::avx512 {
#include "kernels/simd/packed_int8.inc"
}  // namespace redoubt::avx512
