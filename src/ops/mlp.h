// The gated MLP of every model here, down(silu(gate x) * (up x)), and its halves, which a mixture of experts runs over
// many of them at once. Source: arXiv:2002.05202.
#pragma once

#include "ops/linear.h"

namespace redoubt {

struct MlpWeights {
  Weight gate, up, down;
};
void make_ready(OpContext& ctx, const MlpWeights& w);

// What gate and up take: one input, or two where their columns stand in different orders.
struct GatedInput {
  LinearInput gate, up;
};
GatedInput gated_input(OpContext& ctx, Tensor x, const MlpWeights& w);

// Inner values, silu(gate x) * (up x), in the form that the downs take. Where that is codes, a chunk's values become
// codes in the second cache, by the thread that computed them, and are never written out as float32.
class InnerValues {
 public:
  // rows of inner values, at most `tokens` of them in one part, `step` outputs in one chunk. as_floats: for downs that
  // take them in an order of their own.
  InnerValues(OpContext& ctx, int64_t rows, int64_t inner, InputForms forms, int64_t tokens, int64_t step,
              bool as_floats);
  // Floats of the arena, that input() takes too.
  static int64_t floats(int64_t rows, int64_t inner, int64_t tokens, int64_t hidden, int threads);

  // Outputs [part.begin, part.end) of gate and up, begin a multiple of 32, for part.tokens rows of the input; they
  // become rows `to` and on. part.y is not looked at.
  void compute(const OpContext& ctx, const GatedInput& in, const MlpWeights& w, LinearPart part, int64_t to,
               int thread) const;
  LinearInput input(OpContext& ctx, const int32_t* columns = nullptr) const;
  Tensor values() const { return values_; }  // as_floats

 private:
  void ask_for(int64_t begin, int64_t row) const;
  void encode(const OpContext& ctx, float* values, int64_t begin, int64_t n, int64_t row) const;

  InputForms forms_;
  bool as_floats_;
  Tensor values_, up_;                  // [rows, inner] of float32; without memory where they become codes at once
  QuantizedRows int8_{}, remainder_{};  // [rows, inner]
  uint16_t* bf16_ = nullptr;
  Tensor chunks_;  // a thread's: gate [tokens, step], up [tokens, step]
  int64_t step_;
};

Tensor mlp(OpContext& ctx, Tensor x, const MlpWeights& w);
// Floats of the arena that mlp takes for [tokens, hidden] beyond its result.
int64_t mlp_floats(int64_t tokens, int64_t hidden, int64_t inner, int threads);

}  // namespace redoubt
