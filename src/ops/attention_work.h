// Attention as units of work: some query rows that meet the same keys, folded tile by tile into a running softmax.
//
// A unit's keys are cut into splits of split_keys positions that begin at multiples of it; each split is folded by
// itself and the splits are joined in order. So a result is a function of its position alone, whether one thread walks
// all splits of a unit or many threads take one each (flash-decoding), and whatever rows share the unit.
#pragma once

#include "ops/attention_keys.h"

namespace redoubt {

constexpr int64_t kSplitKeys = 512;
static_assert(kSplitKeys % kKeyTile == 0 && kCacheRows == kAttentionRows);

// Row r of (chunk, part) is token r / rows_per_token of the chunk, slice part * rows_per_token + r % rows_per_token of
// that token's row of q [T, slices * head] and out [T, slices * value].
struct AttentionWork {
  Tensor q, out;
  int64_t parts, rows_per_token, head, value;
  float scale;         // of a score
  int64_t split_keys;  // a multiple of kKeyTile; 0: never split
  int64_t unit_rows;   // at most, in one unit
};

// Rows whose running sums are 128 KB, half of what a core's L2 has left beside keys, values and queries.
int64_t rows_of_unit(int64_t value);

void run_attention(OpContext& ctx, const AttentionWork& work, const AttentionKernels& kernels, const KeySource& keys,
                   std::span<const ChunkView> chunks);
int64_t run_attention_floats(int64_t head, int64_t value, int64_t unit_rows, int64_t chunks, int threads);

}  // namespace redoubt
