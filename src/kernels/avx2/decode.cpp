// decode of the avx2 table: simd/decode.inc over the vector of vec.h.
#include "kernels/avx2/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::avx2 {
#include "kernels/simd/decode.inc"
}  // namespace redoubt::avx2
