// y = W x + b over stored weights, split over rows of W; and the row-wise operations around it.
#pragma once

#include "ops/context.h"

namespace redoubt {

struct Weight {
  WeightMatrix matrix{};
  const float* bias = nullptr;  // [rows] or null

  bool empty() const { return matrix.data == nullptr; }
  int64_t rows() const { return matrix.rows; }
  int64_t cols() const { return matrix.cols; }
};

Tensor linear(OpContext& ctx, Tensor x, const Weight& w);  // [T, cols] -> [T, rows]
void linear_into(OpContext& ctx, Tensor x, const Weight& w, Tensor y);
Tensor rms_norm(OpContext& ctx, Tensor x, const float* weight, float eps);  // [T, dim]
void rms_norm_into(OpContext& ctx, Tensor x, const float* weight, float eps, Tensor y);
void add_into(OpContext& ctx, Tensor x, Tensor y);                                           // y += x
void embed(OpContext& ctx, const Weight& table, std::span<const int32_t> tokens, float* y);  // [T, cols]

// down(silu(gate x) * (up x)): the MLP of every model here. Source: arXiv:2002.05202.
struct MlpWeights {
  Weight gate, up, down;
};
Tensor mlp(OpContext& ctx, Tensor x, const MlpWeights& w);

}  // namespace redoubt
