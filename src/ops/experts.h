// Mixture of experts: the router that picks, and the experts that compute.
// Source: DeepSeek-V3 report (arXiv:2412.19437) §2.1.2, eq. 12-16; DeepSeek-V2 (arXiv:2405.04434) §2.2 for softmax
// routing.
#pragma once

#include <span>
#include <vector>

#include "formats/model_config.h"
#include "ops/mlp.h"

namespace redoubt {

struct RouterConfig {
  int64_t n_routed_experts = 0, num_experts_per_tok = 0, n_group = 1, topk_group = 1;
  bool norm_topk_prob = false;
  float routed_scaling_factor = 1.0f;
  ScoringFunc scoring_func = ScoringFunc::softmax;
  TopkMethod topk_method = TopkMethod::greedy;
};

// One token. logits [n_routed_experts] are overwritten by the affinities; bias [n_routed_experts] or null steers the
// selection only. Writes num_experts_per_tok experts (best first; ties to the lower index) and their gate values.
// scratch: 2 * n_routed_experts floats. If `imposed`, experts holds the choice already and only the gates are computed.
void route(const RouterConfig& config, float* logits, const float* bias, float* scratch, int32_t* experts, float* gates,
           bool imposed = false);

struct MoeWeights {
  Weight router;  // [n_routed_experts, hidden]
  const float* correction_bias = nullptr;
  std::vector<MlpWeights> experts;
  InputForms input_forms, inner_forms;  // of gates and ups, of downs
  MlpWeights shared;                    // empty gate: none
  bool sorted_columns = false;          // some expert has Weight::columns

  void add(const MlpWeights& expert);
};

// y = sum over chosen e of gate_e * expert_e(x) + shared(x), experts added in index order. experts [T, k], gates [T,
// k].
Tensor moe(OpContext& ctx, Tensor x, const MoeWeights& w, const int32_t* experts, const float* gates, int64_t k);
// Floats of the arena that it takes beyond its result.
struct MoeSizes {
  int64_t hidden, inner, shared_inner;  // shared_inner 0: no shared expert
  int64_t k, n;                         // of n experts, for a token
  bool sorted_columns;                  // MoeWeights
};
int64_t moe_floats(int64_t tokens, const MoeSizes& sizes, int threads);

}  // namespace redoubt
