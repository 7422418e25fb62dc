#include "ops/experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace redoubt {
namespace {

// exp in double by scaling and a series: routing decides which experts run, so it may not depend on a libm.
double exp_of(double x) {
  if (x < -700) return 0.0;
  const double n = std::nearbyint(x * 1.4426950408889634);
  const double r = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
  double term = 1, sum = 1;
  for (int i = 1; i < 16; ++i) {
    term *= r / i;
    sum += term;
  }
  return std::ldexp(sum, static_cast<int>(n));
}

void affinities(ScoringFunc scoring, float* s, int64_t n) {
  if (scoring == ScoringFunc::sigmoid) {
    for (int64_t e = 0; e < n; ++e) s[e] = static_cast<float>(1.0 / (1.0 + exp_of(-static_cast<double>(s[e]))));
    return;
  }
  const float top = *std::max_element(s, s + n);
  double sum = 0;
  for (int64_t e = 0; e < n; ++e) sum += exp_of(static_cast<double>(s[e] - top));
  for (int64_t e = 0; e < n; ++e) s[e] = static_cast<float>(exp_of(static_cast<double>(s[e] - top)) / sum);
}

// Masks all but the best topk_group groups with -inf.
void limit_groups(const RouterConfig& c, float* choice, float* group_scores) {
  const int64_t size = c.n_routed_experts / c.n_group;
  for (int64_t g = 0; g < c.n_group; ++g) {
    float first = -INFINITY, second = -INFINITY;
    for (int64_t i = 0; i < size; ++i) {
      const float v = choice[g * size + i];
      if (v > first) {
        second = first;
        first = v;
      } else if (v > second) {
        second = v;
      }
    }
    group_scores[g] = c.topk_method == TopkMethod::noaux_tc && size > 1 ? first + second : first;
  }
  for (int64_t g = 0; g < c.n_group; ++g) {
    int64_t better = 0;
    for (int64_t other = 0; other < c.n_group; ++other) {
      better += group_scores[other] > group_scores[g] || (group_scores[other] == group_scores[g] && other < g) ? 1 : 0;
    }
    if (better >= c.topk_group) std::fill_n(choice + g * size, size, -INFINITY);
  }
}

}  // namespace

void route(const RouterConfig& c, float* logits, const float* bias, float* scratch, int32_t* experts, float* gates,
           bool imposed) {
  const int64_t n = c.n_routed_experts, k = c.num_experts_per_tok;
  affinities(c.scoring_func, logits, n);
  if (!imposed) {
    float* choice = scratch;
    for (int64_t e = 0; e < n; ++e) choice[e] = bias != nullptr ? logits[e] + bias[e] : logits[e];
    if (c.topk_method != TopkMethod::greedy && c.n_group > 1) limit_groups(c, choice, scratch + n);
    for (int64_t j = 0; j < k; ++j) {
      const int64_t best = std::max_element(choice, choice + n) - choice;  // the first of equals
      experts[j] = static_cast<int32_t>(best);
      choice[best] = -INFINITY;
    }
  }
  float sum = 0;
  for (int64_t j = 0; j < k; ++j) sum += gates[j] = logits[experts[j]];
  for (int64_t j = 0; j < k; ++j) {
    if (c.norm_topk_prob) gates[j] /= sum + 1e-20f;
    gates[j] *= c.routed_scaling_factor;
  }
}

void MoeWeights::add(const MlpWeights& expert) {
  (input_forms |= expert.gate) |= expert.up;
  inner_forms |= expert.down;
  for (const Weight* w : {&expert.gate, &expert.up, &expert.down}) sorted_columns |= w->columns != nullptr;
  experts.push_back(expert);
}

Tensor moe(OpContext& ctx, Tensor x, const MoeWeights& w, const int32_t* experts, const float* gates, int64_t k) {
  const Tensor y = w.shared.gate.empty() ? ctx.arena.tensor(x.rows, x.cols) : mlp(ctx, x, w.shared);
  const ArenaScope scope(ctx.arena);
  const int64_t tokens = x.rows, n = static_cast<int64_t>(w.experts.size()), inner = w.experts[0].gate.rows();

  // Sort (token, slot) pairs by expert: `rows` lists the tokens, `begins` where each expert's run starts.
  int32_t* begins = ctx.arena.ints(n + 1);
  int32_t* rows = ctx.arena.ints(tokens * k);
  int32_t* place = ctx.arena.ints(tokens * k);  // of (token, slot) in the sorted order
  std::fill_n(begins, n + 1, 0);
  for (int64_t i = 0; i < tokens * k; ++i) ++begins[experts[i] + 1];
  for (int64_t e = 0; e < n; ++e) begins[e + 1] += begins[e];
  int32_t* next = ctx.arena.ints(n);
  std::copy_n(begins, n, next);
  for (int64_t i = 0; i < tokens * k; ++i) {
    place[i] = next[experts[i]]++;
    rows[place[i]] = static_cast<int32_t>(i / k);
  }
  int32_t* active = ctx.arena.ints(n);
  int64_t num_active = 0;
  for (int64_t e = 0; e < n; ++e) {
    if (begins[e + 1] > begins[e]) active[num_active++] = static_cast<int32_t>(e);
  }
  for (int64_t i = 0; i < num_active; ++i) {
    const MlpWeights& expert = w.experts[static_cast<size_t>(active[i])];
    for (const Weight* weight : {&expert.gate, &expert.up, &expert.down}) make_ready(ctx, *weight);
  }

  const Tensor gate = ctx.arena.tensor(tokens * k, inner);
  const Tensor up = ctx.arena.tensor(tokens * k, inner);
  const Tensor out = ctx.arena.tensor(tokens * k, x.cols);
  // Each chunk is a range of rows of one expert's matrix, over all of that expert's tokens.
  const auto over_experts = [&](int64_t out_rows, int64_t cols, const auto& body) {
    const int64_t step = rows_per_chunk(out_rows * num_active, cols, tokens * k / num_active, ctx.pool.num_threads());
    const int64_t parts = (out_rows + step - 1) / step;
    ctx.pool.parallel_for(num_active * parts, [&](int64_t index, int thread) {
      const int64_t e = active[index / parts], begin = index % parts * step;
      body(w.experts[static_cast<size_t>(e)], begins[e], begins[e + 1], begin, std::min(out_rows, begin + step),
           thread);
    });
  };
  // Experts with columns of their own order: a row of input for each (token, slot), in the order of its expert's
  // matrix.
  const auto sorted_input = [&](Tensor from, const int32_t* from_rows, Weight MlpWeights::*which, InputForms forms) {
    const Tensor in_order = ctx.arena.tensor(tokens * k, from.cols);
    ctx.pool.parallel_for(num_active, [&](int64_t index, int) {
      const int64_t e = active[index];
      const int32_t* columns = (w.experts[static_cast<size_t>(e)].*which).columns;
      for (int64_t i = begins[e]; i < begins[e + 1]; ++i) {
        const float* values = from.row(from_rows != nullptr ? from_rows[i] : i);
        float* to = in_order.row(i);
        for (int64_t j = 0; j < from.cols; ++j) to[j] = values[columns != nullptr ? columns[j] : j];
      }
    });
    return linear_input(ctx, in_order, forms);
  };
  {
    const ArenaScope input_scope(ctx.arena);
    const LinearInput in = w.sorted_columns ? sorted_input(x, rows, &MlpWeights::gate, w.input_forms)
                                            : linear_input(ctx, x, w.input_forms);
    const LinearInput in_up = w.sorted_columns ? sorted_input(x, rows, &MlpWeights::up, w.input_forms) : in;
    over_experts(inner, 2 * x.cols,
                 [&](const MlpWeights& expert, int64_t first, int64_t last, int64_t begin, int64_t end, int thread) {
                   const LinearPart part{.x_rows = w.sorted_columns ? nullptr : rows + first,
                                         .first = w.sorted_columns ? first : 0,
                                         .tokens = last - first,
                                         .begin = begin,
                                         .end = end,
                                         .y = gate.row(first),
                                         .y_stride = inner};
                   gated_part(ctx, in, in_up, expert, part, up.row(first), thread);
                 });
  }
  const LinearInput in = w.sorted_columns ? sorted_input(gate, nullptr, &MlpWeights::down, w.inner_forms)
                                          : linear_input(ctx, gate, w.inner_forms);
  over_experts(x.cols, inner,
               [&](const MlpWeights& expert, int64_t first, int64_t last, int64_t begin, int64_t end, int thread) {
                 linear_part(ctx, in, expert.down,
                             {.first = first,
                              .tokens = last - first,
                              .begin = begin,
                              .end = end,
                              .y = out.row(first),
                              .y_stride = out.cols},
                             thread);
               });
  ctx.pool.parallel_for(tokens, [&](int64_t t, int) {
    float* sum = y.row(t);
    if (w.shared.gate.empty()) std::fill_n(sum, x.cols, 0.0f);
    int32_t last = -1;  // slots in the order of their experts
    for (int64_t added = 0; added < k; ++added) {
      int64_t slot = -1;
      for (int64_t j = 0; j < k; ++j) {
        const int32_t e = experts[t * k + j];
        if (e > last && (slot < 0 || e < experts[t * k + slot])) slot = j;
      }
      if (slot < 0) break;  // an imposed choice may repeat an expert
      last = experts[t * k + slot];
      ctx.kernels.axpy({gates[t * k + slot], out.row(place[t * k + slot]), sum, x.cols});
    }
  });
  return y;
}

int64_t moe_floats(int64_t tokens, int64_t hidden, int64_t inner, int64_t k, int64_t n, bool sorted_columns) {
  const int64_t inputs = sorted_columns
                             ? std::max(2 * (tokens * k * hidden + linear_input_floats(tokens * k, hidden)),
                                        tokens * k * inner + linear_input_floats(tokens * k, inner))
                             : std::max(linear_input_floats(tokens, hidden), linear_input_floats(tokens * k, inner));
  return 4 * (n + 16) + 2 * (tokens * k + 16) + tokens * k * (2 * inner + hidden) + inputs + 128;
}

}  // namespace redoubt
