// elementwise of the avx2 table: simd/elementwise.inc over the vector of vec.h.
#include "kernels/avx2/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx2 {
#include "kernels/simd/elementwise.inc"
}  // namespace redoubt::avx2
