// attention of the avx512 table: simd/attention_f32.inc over the vector of vec.h.
#include "kernels/avx512/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx512 {
#include "kernels/simd/attention_f32.inc"
}  // namespace redoubt::avx512
