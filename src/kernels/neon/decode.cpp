// decode of the neon table: simd/decode.inc over the vector of vec.h.
#include "kernels/neon/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::neon {
#include "kernels/simd/decode.inc"
}  // namespace redoubt::neon
