// Causal attention of chunks of consecutive positions over a paged cache, in tiles of kKeyTile keys that begin at
// multiples of kKeyTile: the result for a position depends on that position's keys alone (ops/attention_work.h).
// Source: FlashAttention-2 (arXiv:2307.08691) algorithm 1; flash-decoding for the splits; DeepSeek-V2 report
// (arXiv:2405.04434) §2.1 for MLA.
// Bound: arithmetic in prefill and in MLA's decode, memory (the cache) in grouped-query decode.
#pragma once

#include <span>

#include "ops/cache.h"
#include "ops/linear.h"

namespace redoubt {

struct ChunkView {
  int64_t first_row = 0, tokens = 0;  // rows of the step's tensors
  int64_t position = 0;               // of the first
  std::span<const int32_t> blocks;
};

// Whether attention runs over pairs of bfloat16: where the table has such kernels and the cache is no finer than they
// are. MLA then absorbs in prompts too (docs/decisions/0002).
bool attends_in_bf16(const KernelTable& table, CacheFormat format);

// Grouped-query attention. Cache row: keys [kv_heads, head_dim], then values [kv_heads, head_dim].
struct GqaArgs {
  Tensor q;    // [T, heads * head_dim], rotated
  Tensor out;  // [T, heads * head_dim]
  int64_t heads, kv_heads, head_dim;
  float scale;
};
void gqa_attention(OpContext& ctx, const GqaArgs& args, const CacheLayer& cache, std::span<const ChunkView> chunks);
int64_t gqa_attention_floats(int64_t head_dim, int64_t chunks, int threads);  // of the arena, at most

// The per-head halves of kv_b: W_UK and W_UV of DeepSeek-V2 eq. 10-11, as either container stores them.
struct LatentUpProjection {
  Weight kv_b;      // [heads * (nope + v), latent], or empty when split:
  Weight k_b, v_b;  // k_b [heads * latent, nope] (transposed per head), v_b [heads * v, latent]
  int64_t heads = 0, nope = 0, value = 0, latent = 0;
};

struct MlaArgs {
  Tensor q;    // [T, heads * (nope + rope)], rope part last in each head, rotated; not scaled
  Tensor out;  // [T, heads * value]
  const LatentUpProjection& up;
  int64_t rope;
  float scale;
};
// Cache row: normed latent [latent], rotated key [rope].
// Expanded: keys and values of a tile are computed per head from the latents. For prompts, where attention runs over
// floats.
void mla_expanded(OpContext& ctx, const MlaArgs& args, const CacheLayer& cache, std::span<const ChunkView> chunks);
// Absorbed: W_UK moves onto the query and W_UV behind the weighted sum; both meet the latent. For generated tokens, and
// for prompts where attention runs over bfloat16.
void mla_absorbed(OpContext& ctx, const MlaArgs& args, const CacheLayer& cache, std::span<const ChunkView> chunks);
// Floats of the arena that either form takes, at most.
int64_t mla_attention_floats(const LatentUpProjection& up, int64_t rope, int64_t max_tokens, int64_t chunks,
                             int threads);

}  // namespace redoubt
