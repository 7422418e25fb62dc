#include "ops/attention_work.h"

namespace redoubt {

void gqa_attention(OpContext& ctx, const GqaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  if (chunks.empty()) return;
  const ArenaScope scope(ctx.arena);
  const int64_t d = a.head_dim;
  const CacheColumns columns{.head = d, .value = d, .k_step = d, .v_offset = a.kv_heads * d, .v_step = d};
  const CacheKeys keys(ctx, cache, columns);
  const AttentionWork work{.q = a.q,
                           .out = a.out,
                           .parts = a.kv_heads,
                           .rows_per_token = a.heads / a.kv_heads,
                           .head = d,
                           .value = d,
                           .scale = a.scale,
                           .split_keys = kSplitKeys,
                           .unit_rows = rows_of_unit(d)};
  run_attention(ctx, work, attention_kernels(ctx.kernels, cache.format, columns), keys, chunks);
}

int64_t gqa_attention_floats(int64_t head_dim, int64_t chunks, int threads) {
  return threads * TileMemory::floats(head_dim, head_dim) +
         run_attention_floats(head_dim, head_dim, rows_of_unit(head_dim), chunks, threads);
}

}  // namespace redoubt
