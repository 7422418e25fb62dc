// elementwise of the neon table: simd/elementwise.inc over the vector of vec.h.
#include "kernels/neon/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::neon {
#include "kernels/simd/elementwise.inc"
}  // namespace redoubt::neon
