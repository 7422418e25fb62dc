// attention of the neon table: simd/attention_f32.inc over the vector of vec.h.
#include "kernels/neon/vec.h"
#include "kernels/vector_tables.h"

namespace redoubt::neon {
#include "kernels/simd/attention_f32.inc"
}  // namespace redoubt::neon
