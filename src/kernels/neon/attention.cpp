// attention of the neon table: simd/attention.inc over the vector of vec.h.
#include "kernels/neon/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::neon {
#include "kernels/simd/attention.inc"
}  // namespace redoubt::neon
