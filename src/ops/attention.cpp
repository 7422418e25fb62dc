#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace redoubt {
namespace {

// The running softmax of some queries.
struct SoftmaxState {
  float* max;      // [queries]
  float* sum;      // [queries]
  int32_t* valid;  // [queries]

  SoftmaxState(float* memory, int64_t queries)
      : max(memory), sum(memory + queries), valid(reinterpret_cast<int32_t*>(memory + 2 * queries)) {
    std::fill_n(max, queries, -INFINITY);
    std::fill_n(sum, queries, 0.0f);
  }
  static int64_t floats(int64_t queries) { return 3 * queries; }
};

void divide_by_sum(float* out, int64_t n, float sum) {
  const float inverse = 1.0f / sum;
  for (int64_t i = 0; i < n; ++i) out[i] *= inverse;
}

int32_t valid_keys(int64_t position, int64_t tile_begin) {
  return static_cast<int32_t>(std::clamp<int64_t>(position + 1 - tile_begin, 0, kKeyTile));
}

// Work is one (chunk, part) pair: part is a head or a group of heads; index runs over all of them.
struct Task {
  const ChunkView* chunk;
  int64_t part;
};
Task task_at(std::span<const ChunkView> chunks, int64_t parts, int64_t index) {
  return {&chunks[static_cast<size_t>(index / parts)], index % parts};
}

}  // namespace

void gqa_attention(OpContext& ctx, const GqaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  const int64_t group = a.heads / a.kv_heads, d = a.head_dim;
  const ArenaScope scope(ctx.arena);
  int64_t max_tokens = 0;
  for (const ChunkView& chunk : chunks) max_tokens = std::max(max_tokens, chunk.tokens);
  const int threads = ctx.pool.num_threads();
  const Tensor qs = ctx.arena.tensor(threads, max_tokens * group * d);  // queries of one kv head, scaled
  const Tensor outs = ctx.arena.tensor(threads, max_tokens * group * d);
  const Tensor states = ctx.arena.tensor(threads, SoftmaxState::floats(max_tokens * group));
  ctx.pool.parallel_for(static_cast<int64_t>(chunks.size()) * a.kv_heads, [&](int64_t index, int thread) {
    const auto [chunk, kv_head] = task_at(chunks, a.kv_heads, index);
    const int64_t queries = chunk->tokens * group;
    float *q = qs.row(thread), *out = outs.row(thread);
    SoftmaxState state(states.row(thread), queries);
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      const float* from = a.q.row(chunk->first_row + t) + kv_head * group * d;
      for (int64_t i = 0; i < group * d; ++i) q[t * group * d + i] = from[i] * a.scale;
    }
    std::fill_n(out, queries * d, 0.0f);
    float* k = ctx.scratch[static_cast<size_t>(thread)] + kLinearScratch;
    float* v = k + kKeyTile * d;
    const int64_t keys = chunk->position + chunk->tokens;
    for (int64_t begin = 0; begin < keys; begin += kKeyTile) {
      const int64_t n = std::min(kKeyTile, keys - begin);
      cache_load(cache, ctx.kernels, chunk->blocks, begin, n, kv_head * d, d, k, d);
      cache_load(cache, ctx.kernels, chunk->blocks, begin, n, (a.kv_heads + kv_head) * d, d, v, d);
      for (int64_t i = 0; i < queries; ++i) state.valid[i] = valid_keys(chunk->position + i / group, begin);
      ctx.kernels.attention_tile({q, d, k, d, v, d, queries, d, d, state.valid, state.max, state.sum, out, d});
    }
    for (int64_t i = 0; i < queries; ++i) divide_by_sum(out + i * d, d, state.sum[i]);
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      std::memcpy(a.out.row(chunk->first_row + t) + kv_head * group * d, out + t * group * d,
                  static_cast<size_t>(group * d) * sizeof(float));
    }
  });
}

void mla_expanded(OpContext& ctx, const MlaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  const LatentUpProjection& up = a.up;
  const int64_t head = up.nope + a.rope;
  const ArenaScope scope(ctx.arena);
  int64_t max_tokens = 0;
  for (const ChunkView& chunk : chunks) max_tokens = std::max(max_tokens, chunk.tokens);
  const int threads = ctx.pool.num_threads();
  const Tensor qs = ctx.arena.tensor(threads, max_tokens * head);
  const Tensor outs = ctx.arena.tensor(threads, max_tokens * up.value);
  const Tensor states = ctx.arena.tensor(threads, SoftmaxState::floats(max_tokens));
  const int64_t row = up.latent + a.rope;
  const Tensor tiles = ctx.arena.tensor(threads, kKeyTile * (row + up.nope + head + up.value));
  ctx.pool.parallel_for(static_cast<int64_t>(chunks.size()) * up.heads, [&](int64_t index, int thread) {
    const auto [chunk, h] = task_at(chunks, up.heads, index);
    float *q = qs.row(thread), *out = outs.row(thread);
    SoftmaxState state(states.row(thread), chunk->tokens);
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      const float* from = a.q.row(chunk->first_row + t) + h * head;
      for (int64_t i = 0; i < head; ++i) q[t * head + i] = from[i] * a.scale;
    }
    std::fill_n(out, chunk->tokens * up.value, 0.0f);
    float* latents = tiles.row(thread);        // [tile, latent + rope]
    float* k_nope = latents + kKeyTile * row;  // [tile, nope]
    float* k = k_nope + kKeyTile * up.nope;    // [tile, nope + rope]
    float* v = k + kKeyTile * head;            // [tile, value]
    float* scratch = ctx.scratch[static_cast<size_t>(thread)];
    const auto project = [&](const Weight& w, int64_t begin, int64_t count, int64_t n, float* y, int64_t stride) {
      ctx.kernels.linear({.w = w.matrix,
                          .x = latents,
                          .x_stride = row,
                          .x_rows = nullptr,
                          .y = y - begin,
                          .y_stride = stride,
                          .tokens = n,
                          .row_begin = begin,
                          .row_end = begin + count,
                          .bias = nullptr,
                          .scratch = scratch});
    };
    const int64_t keys = chunk->position + chunk->tokens;
    for (int64_t begin = 0; begin < keys; begin += kKeyTile) {
      const int64_t n = std::min(kKeyTile, keys - begin);
      cache_load(cache, ctx.kernels, chunk->blocks, begin, n, 0, row, latents, row);
      if (!up.kv_b.empty()) {
        project(up.kv_b, h * (up.nope + up.value), up.nope, n, k_nope, up.nope);
        project(up.kv_b, h * (up.nope + up.value) + up.nope, up.value, n, v, up.value);
      } else {
        ctx.kernels.linear_transposed({.w = up.k_b.matrix,
                                       .x = latents,
                                       .x_stride = row,
                                       .y = k_nope,
                                       .y_stride = up.nope,
                                       .tokens = n,
                                       .row_begin = h * up.latent,
                                       .row_end = (h + 1) * up.latent,
                                       .scratch = scratch});
        project(up.v_b, h * up.value, up.value, n, v, up.value);
      }
      for (int64_t i = 0; i < n; ++i) {
        std::memcpy(k + i * head, k_nope + i * up.nope, static_cast<size_t>(up.nope) * sizeof(float));
        std::memcpy(k + i * head + up.nope, latents + i * row + up.latent, static_cast<size_t>(a.rope) * sizeof(float));
      }
      for (int64_t t = 0; t < chunk->tokens; ++t) state.valid[t] = valid_keys(chunk->position + t, begin);
      ctx.kernels.attention_tile({q, head, k, head, v, up.value, chunk->tokens, head, up.value, state.valid, state.max,
                                  state.sum, out, up.value});
    }
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      divide_by_sum(out + t * up.value, up.value, state.sum[t]);
      std::memcpy(a.out.row(chunk->first_row + t) + h * up.value, out + t * up.value,
                  static_cast<size_t>(up.value) * sizeof(float));
    }
  });
}

void mla_absorbed(OpContext& ctx, const MlaArgs& a, const CacheLayer& cache, std::span<const ChunkView> chunks) {
  const LatentUpProjection& up = a.up;
  const int64_t head = up.nope + a.rope, row = up.latent + a.rope, tokens = a.q.rows;
  const ArenaScope scope(ctx.arena);
  const Tensor q_latent = ctx.arena.tensor(tokens * up.heads, row);  // q^nope W_UK, then q^rope; scaled
  const Tensor o_latent = ctx.arena.tensor(tokens * up.heads, up.latent);
  const auto row_of = [&](const Tensor& tensor, int64_t t, int64_t h) { return tensor.row(t * up.heads + h); };

  // Only the chunks' rows are touched: a step may hold both forms.
  ctx.pool.parallel_for(up.heads, [&](int64_t h, int thread) {
    float* scratch = ctx.scratch[static_cast<size_t>(thread)];
    for (const ChunkView& chunk : chunks) {
      const float* q = a.q.row(chunk.first_row) + h * head;
      float* y = row_of(q_latent, chunk.first_row, h);
      const int64_t y_stride = up.heads * row;
      if (!up.kv_b.empty()) {
        const int64_t begin = h * (up.nope + up.value);
        ctx.kernels.linear_transposed({.w = up.kv_b.matrix,
                                       .x = q,
                                       .x_stride = a.q.cols,
                                       .y = y,
                                       .y_stride = y_stride,
                                       .tokens = chunk.tokens,
                                       .row_begin = begin,
                                       .row_end = begin + up.nope,
                                       .scratch = scratch});
      } else {
        ctx.kernels.linear({.w = up.k_b.matrix,
                            .x = q,
                            .x_stride = a.q.cols,
                            .x_rows = nullptr,
                            .y = y - h * up.latent,
                            .y_stride = y_stride,
                            .tokens = chunk.tokens,
                            .row_begin = h * up.latent,
                            .row_end = (h + 1) * up.latent,
                            .bias = nullptr,
                            .scratch = scratch});
      }
      for (int64_t t = 0; t < chunk.tokens; ++t) {
        float* to = y + t * y_stride;
        std::memcpy(to + up.latent, q + t * a.q.cols + up.nope, static_cast<size_t>(a.rope) * sizeof(float));
        for (int64_t i = 0; i < row; ++i) to[i] *= a.scale;
      }
    }
  });

  // All heads of some queries against one latent stream: heads are the rows of a matrix product.
  constexpr int64_t kHeadsPerTask = 16;
  const int64_t parts = (up.heads + kHeadsPerTask - 1) / kHeadsPerTask;
  int64_t max_tokens = 0;
  for (const ChunkView& chunk : chunks) max_tokens = std::max(max_tokens, chunk.tokens);
  const int threads = ctx.pool.num_threads();
  const Tensor states = ctx.arena.tensor(threads, SoftmaxState::floats(max_tokens * kHeadsPerTask));
  const Tensor tiles = ctx.arena.tensor(threads, kKeyTile * row);
  ctx.pool.parallel_for(static_cast<int64_t>(chunks.size()) * parts, [&](int64_t index, int thread) {
    const auto [chunk, part] = task_at(chunks, parts, index);
    const int64_t h0 = part * kHeadsPerTask, heads = std::min(kHeadsPerTask, up.heads - h0);
    float* latents = tiles.row(thread);
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      float* out = row_of(o_latent, chunk->first_row + t, h0);
      std::fill_n(out, heads * up.latent, 0.0f);
    }
    // The state of token t's heads lies at t * heads.
    SoftmaxState state(states.row(thread), chunk->tokens * heads);
    const int64_t keys = chunk->position + chunk->tokens;
    for (int64_t begin = 0; begin < keys; begin += kKeyTile) {
      const int64_t n = std::min(kKeyTile, keys - begin);
      cache_load(cache, ctx.kernels, chunk->blocks, begin, n, 0, row, latents, row);
      for (int64_t t = 0; t < chunk->tokens; ++t) {
        std::fill_n(state.valid + t * heads, heads, valid_keys(chunk->position + t, begin));
        ctx.kernels.attention_tile({row_of(q_latent, chunk->first_row + t, h0), row, latents, row, latents, row, heads,
                                    row, up.latent, state.valid + t * heads, state.max + t * heads,
                                    state.sum + t * heads, row_of(o_latent, chunk->first_row + t, h0), up.latent});
      }
    }
    for (int64_t t = 0; t < chunk->tokens; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        divide_by_sum(row_of(o_latent, chunk->first_row + t, h0 + h), up.latent, state.sum[t * heads + h]);
      }
    }
  });

  const Weight& w = up.kv_b.empty() ? up.v_b : up.kv_b;
  ctx.pool.parallel_for(up.heads, [&](int64_t h, int thread) {
    const int64_t begin = up.kv_b.empty() ? h * up.value : h * (up.nope + up.value) + up.nope;
    for (const ChunkView& chunk : chunks) {
      ctx.kernels.linear({.w = w.matrix,
                          .x = row_of(o_latent, chunk.first_row, h),
                          .x_stride = up.heads * up.latent,
                          .x_rows = nullptr,
                          .y = a.out.row(chunk.first_row) + h * up.value - begin,
                          .y_stride = a.out.cols,
                          .tokens = chunk.tokens,
                          .row_begin = begin,
                          .row_end = begin + up.value,
                          .bias = nullptr,
                          .scratch = ctx.scratch[static_cast<size_t>(thread)]});
    }
  });
}

}  // namespace redoubt
