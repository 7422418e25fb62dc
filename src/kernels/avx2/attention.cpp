// attention of the avx2 table: simd/attention_f32.inc over the vector of vec.h.
#include "kernels/avx2/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx2 {
#include "kernels/simd/attention_f32.inc"
}  // namespace redoubt::avx2
