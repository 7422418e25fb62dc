// linear of the neon table: simd/linear.inc over the vector of vec.h.
#include "kernels/neon/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::neon {
#include "kernels/simd/linear.inc"
}  // namespace redoubt::neon
