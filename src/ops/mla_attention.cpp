#include <algorithm>
#include <cstring>
#include <new>

#include "ops/attention_work.h"
#include "ops/latent_projection.h"

namespace redoubt {
namespace {

// Rows of queries that share one expansion of a tile: their sums are 256 KB at a value width of 128, still in L2.
constexpr int64_t kExpandedRows = 512;

// Keys and values of one head (the part), computed from the cached latents. In float32: rounding them, the queries and
// the weights to bfloat16 at once leaves a mixture of experts beyond its tolerance of the reference.
class ExpandedKeys final : public KeySource {
 public:
  ExpandedKeys(OpContext& ctx, const CacheLayer& cache, const LatentUpProjection& up, int64_t rope)
      : ctx_(ctx), cache_(cache), up_(up), rope_(rope) {
    const auto threads = static_cast<size_t>(ctx.pool.num_threads());
    auto* memory =
        reinterpret_cast<TileMemory*>(ctx.arena.floats(static_cast<int64_t>(threads * sizeof(TileMemory)) / 4));
    const AttentionKernels& kernels = ctx.kernels.attention_f32;
    for (size_t i = 0; i < threads; ++i) new (memory + i) TileMemory(ctx, kernels, up.nope + rope, up.value);
    memory_ = {memory, threads};
    latents_ = ctx.arena.tensor(ctx.pool.num_threads(), kKeyTile * (up.latent + rope + up.nope));
  }
  static int64_t floats(const LatentUpProjection& up, int64_t rope) {
    return kKeyTile * (up.latent + rope + up.nope) + 32 + TileMemory::floats(up.nope + rope, up.value);
  }

  KeyTile load(const ChunkView& chunk, int64_t h, int64_t begin, int64_t n, int64_t, int thread) const override {
    const TileMemory& memory = memory_[static_cast<size_t>(thread)];
    const int64_t row = up_.latent + rope_, head = up_.nope + rope_;
    float *latents = latents_.row(thread), *k_nope = latents + kKeyTile * row;
    cache_load(cache_, ctx_.kernels, chunk.blocks, begin, n, 0, row, latents, row);
    expand_keys(ctx_, up_, h, latents, row, n, k_nope, thread);
    expand_values(ctx_, up_, h, latents, row, n, memory.value_rows(), thread);
    for (int64_t i = 0; i < n; ++i) {
      float* key = memory.key_rows() + i * head;
      std::copy_n(k_nope + i * up_.nope, up_.nope, key);
      std::copy_n(latents + i * row + up_.latent, rope_, key + up_.nope);
    }
    memory.encode_rows(n);
    return memory.tile_of_elements(n);
  }

 private:
  OpContext& ctx_;
  const CacheLayer& cache_;
  const LatentUpProjection& up_;
  int64_t rope_;
  std::span<const TileMemory> memory_;
  Tensor latents_;  // a thread's: latents [kKeyTile, latent + rope], then k_nope [kKeyTile, nope]
};

void make_ready(OpContext& ctx, const LatentUpProjection& up) {
  for (const Weight* w : {&up.kv_b, &up.k_b, &up.v_b}) make_ready(ctx, *w);
}

}  // namespace

void mla_expanded(OpContext& ctx, const MlaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  make_ready(ctx, a.up);
  if (chunks.empty()) return;
  const ArenaScope scope(ctx.arena);
  const ExpandedKeys keys(ctx, cache, a.up, a.rope);
  const AttentionWork work{.q = a.q,
                           .out = a.out,
                           .parts = a.up.heads,
                           .rows_per_token = 1,
                           .head = a.up.nope + a.rope,
                           .value = a.up.value,
                           .scale = a.scale,
                           .split_keys = 0,
                           .unit_rows = kExpandedRows};
  run_attention(ctx, work, ctx.kernels.attention_f32, keys, chunks);
}

void mla_absorbed(OpContext& ctx, const MlaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  make_ready(ctx, a.up);
  if (chunks.empty()) return;
  const LatentUpProjection& up = a.up;
  const int64_t head = up.nope + a.rope, row = up.latent + a.rope, tokens = a.q.rows;
  const ArenaScope scope(ctx.arena);
  const Tensor q_latent = ctx.arena.tensor(tokens, up.heads * row);  // q^nope W_UK, then q^rope
  const Tensor o_latent = ctx.arena.tensor(tokens, up.heads * up.latent);

  // Only the chunks' rows are touched: a step may hold both forms.
  ctx.pool.parallel_for(up.heads, [&](int64_t h, int thread) {
    for (const ChunkView& chunk : chunks) {
      const float* q = a.q.row(chunk.first_row) + h * head;
      float* y = q_latent.row(chunk.first_row) + h * row;
      absorb_queries(ctx, up, h, q, a.q.cols, chunk.tokens, y, q_latent.cols, thread);
      for (int64_t t = 0; t < chunk.tokens; ++t) {
        std::copy_n(q + t * a.q.cols + up.nope, a.rope, y + t * q_latent.cols + up.latent);
      }
    }
  });

  // All heads of some queries against one latent stream: heads are the rows of a matrix product.
  const CacheColumns columns{.head = row, .value = up.latent};
  const CacheKeys keys(ctx, cache, columns);
  const AttentionWork work{.q = q_latent,
                           .out = o_latent,
                           .parts = 1,
                           .rows_per_token = up.heads,
                           .head = row,
                           .value = up.latent,
                           .scale = a.scale,
                           .split_keys = kSplitKeys,
                           .unit_rows = rows_of_unit(up.latent)};
  run_attention(ctx, work, attention_kernels(ctx.kernels, cache.format, columns), keys, chunks);

  ctx.pool.parallel_for(up.heads, [&](int64_t h, int thread) {
    for (const ChunkView& chunk : chunks) {
      project_outputs(ctx, up, h, o_latent.row(chunk.first_row) + h * up.latent, o_latent.cols, chunk.tokens,
                      a.out.row(chunk.first_row) + h * up.value, a.out.cols, thread);
    }
  });
}

int64_t mla_attention_floats(const LatentUpProjection& up, int64_t rope, int64_t max_tokens, int64_t chunks,
                             int threads) {
  const int64_t row = up.latent + rope, value = up.latent, head = up.nope + rope;
  const int64_t expanded = threads * ExpandedKeys::floats(up, rope) +
                           run_attention_floats(head, up.value, std::min(kExpandedRows, max_tokens), chunks, threads);
  const int64_t absorbed = max_tokens * up.heads * (row + value) + 32 + threads * TileMemory::floats(row, value) +
                           run_attention_floats(row, value, rows_of_unit(value), chunks, threads);
  return std::max(expanded, absorbed);
}

}  // namespace redoubt
