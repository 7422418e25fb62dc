// The products of MLA with W_UK and W_UV, one head at a time: the only places where attention meets stored weights.
#pragma once

#include "ops/attention.h"

namespace redoubt {

// k_nope [n, nope] and v [n, value] of head h from latents [n, *] of row stride `stride`.
void expand_keys(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* latents, int64_t stride,
                 int64_t n, float* k_nope, int thread);
void expand_values(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* latents, int64_t stride,
                   int64_t n, float* v, int thread);
// y [tokens, latent] = q^nope W_UK of head h; row strides given.
void absorb_queries(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* q, int64_t q_stride,
                    int64_t tokens, float* y, int64_t y_stride, int thread);
// y [tokens, value] = W_UV o of head h, o [tokens, latent].
void project_outputs(const OpContext& ctx, const LatentUpProjection& up, int64_t h, const float* o, int64_t o_stride,
                     int64_t tokens, float* y, int64_t y_stride, int thread);

}  // namespace redoubt
