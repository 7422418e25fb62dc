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

namespace {

// (token, slot) pairs in the order of their experts.
struct SortedPairs {
  int32_t *begins, *tokens;  // where each expert's run of pairs starts; the token of each pair
  int32_t* place;            // of (token, slot) in this order
  int32_t* active;           // the experts that have a run
  int64_t size, num_active = 0;
};

SortedPairs sort_by_expert(OpContext& ctx, const int32_t* experts, int64_t tokens, int64_t k, int64_t n) {
  SortedPairs pairs{.begins = ctx.arena.ints(n + 1),
                    .tokens = ctx.arena.ints(tokens * k),
                    .place = ctx.arena.ints(tokens * k),
                    .active = ctx.arena.ints(n),
                    .size = tokens * k};
  int32_t* next = ctx.arena.ints(n);
  std::fill_n(pairs.begins, n + 1, 0);
  for (int64_t i = 0; i < pairs.size; ++i) ++pairs.begins[experts[i] + 1];
  for (int64_t e = 0; e < n; ++e) {
    if (pairs.begins[e + 1] > 0) pairs.active[pairs.num_active++] = static_cast<int32_t>(e);
    next[e] = pairs.begins[e];
    pairs.begins[e + 1] += pairs.begins[e];
  }
  for (int64_t i = 0; i < pairs.size; ++i) {
    pairs.place[i] = next[experts[i]]++;
    pairs.tokens[pairs.place[i]] = static_cast<int32_t>(i / k);
  }
  return pairs;
}

// The rows of a matrix in chunks of work.
struct RowChunks {
  int64_t rows = 0, step = 1;

  int64_t size() const { return (rows + step - 1) / step; }
  int64_t end(int64_t chunk) const { return std::min(rows, (chunk + 1) * step); }
};

// One step of the experts: two phases, to the inner values and from them, each a single job over the rows of all
// matrices: the shared expert's, which all tokens meet, before those of each active expert.
class MoeStep {
 public:
  MoeStep(OpContext& ctx, Tensor x, const MoeWeights& w, const SortedPairs& pairs)
      : ctx_(ctx), x_(x), w_(w), pairs_(pairs) {
    for (int64_t i = 0; i < pairs.num_active; ++i) make_ready(ctx, expert(i));
    if (has_shared()) make_ready(ctx, w.shared);
  }

  // out [pairs, hidden]: of each pair; y [T, hidden]: of the shared expert, if there is one.
  void run(Tensor out, Tensor y);

 private:
  bool has_shared() const { return !w_.shared.gate.empty(); }
  const MlpWeights& expert(int64_t i) const { return w_.experts[static_cast<size_t>(pairs_.active[i])]; }
  RowChunks shared_chunks(const Weight& w, int64_t cols) const {
    return {w.rows(), rows_per_chunk(w.rows(), cols, x_.rows, ctx_.pool.num_threads())};
  }
  RowChunks expert_chunks(int64_t rows, int64_t cols) const {
    const int64_t n = pairs_.num_active;
    return {rows, rows_per_chunk(rows * n, cols, pairs_.size / n, ctx_.pool.num_threads())};
  }
  template <class OfShared, class OfExpert>
  void over_all(RowChunks shared, RowChunks experts, const OfShared& of_shared, const OfExpert& of_expert);
  LinearInput sorted_input(Tensor from, const int32_t* rows, Weight MlpWeights::*which, InputForms forms);
  GatedInput expert_input(InputForms forms);

  OpContext& ctx_;
  Tensor x_;
  const MoeWeights& w_;
  const SortedPairs& pairs_;
};

// Calls of_shared(begin, end, thread) and of_expert(expert, its part but for y, thread) on ranges of rows.
template <class OfShared, class OfExpert>
void MoeStep::over_all(RowChunks shared, RowChunks experts, const OfShared& of_shared, const OfExpert& of_expert) {
  const int64_t first = shared.size(), each = experts.size();
  ctx_.pool.parallel_for(first + pairs_.num_active * each, [&](int64_t index, int thread) {
    if (index < first) return of_shared(index * shared.step, shared.end(index), thread);
    const int64_t i = (index - first) / each, chunk = (index - first) % each, e = pairs_.active[i];
    of_expert(expert(i),
              LinearPart{.first = pairs_.begins[e],
                         .tokens = pairs_.begins[e + 1] - pairs_.begins[e],
                         .begin = chunk * experts.step,
                         .end = experts.end(chunk)},
              thread);
  });
}

// For experts with columns of their own order: a row of input for each pair, in the order of its expert's matrix.
LinearInput MoeStep::sorted_input(Tensor from, const int32_t* rows, Weight MlpWeights::*which, InputForms forms) {
  const Tensor in_order = ctx_.arena.tensor(pairs_.size, from.cols);
  ctx_.pool.parallel_for(pairs_.num_active, [&](int64_t i, int) {
    const int32_t* columns = (expert(i).*which).columns;
    const int64_t e = pairs_.active[i];
    for (int64_t at = pairs_.begins[e]; at < pairs_.begins[e + 1]; ++at) {
      const float* values = from.row(rows != nullptr ? rows[at] : at);
      float* to = in_order.row(at);
      for (int64_t j = 0; j < from.cols; ++j) to[j] = values[columns != nullptr ? columns[j] : j];
    }
  });
  return linear_input(ctx_, in_order, forms);
}

GatedInput MoeStep::expert_input(InputForms forms) {
  if (!w_.sorted_columns) {
    const LinearInput in = linear_input(ctx_, x_, forms);
    return {in, in};
  }
  return {sorted_input(x_, pairs_.tokens, &MlpWeights::gate, forms),
          sorted_input(x_, pairs_.tokens, &MlpWeights::up, forms)};
}

void MoeStep::run(Tensor out, Tensor y) {
  const MlpWeights& shared = w_.shared;
  const int64_t tokens = x_.rows, inner = w_.experts[0].gate.rows();
  const RowChunks experts = expert_chunks(inner, 2 * x_.cols);
  const RowChunks of_shared = has_shared() ? shared_chunks(shared.gate, 2 * x_.cols) : RowChunks{};
  InputForms shared_forms;
  if (has_shared()) shared_forms |= shared.down;
  const InnerValues values(ctx_, pairs_.size, inner, w_.inner_forms, tokens, experts.step, w_.sorted_columns);
  const InnerValues shared_values(ctx_, has_shared() ? tokens : 0, shared.gate.rows(), shared_forms, tokens,
                                  of_shared.step, shared.down.columns != nullptr);
  {
    const ArenaScope scope(ctx_.arena);
    // One input for all, unless some matrix has an order of its own.
    const bool is_one = !w_.sorted_columns && shared.gate.columns == nullptr && shared.up.columns == nullptr;
    InputForms forms = w_.input_forms;
    if (has_shared() && is_one) (forms |= shared.gate) |= shared.up;
    const GatedInput in = expert_input(forms);
    const GatedInput shared_in = is_one ? in : has_shared() ? gated_input(ctx_, x_, shared) : GatedInput{};
    over_all(
        of_shared, experts,
        [&](int64_t begin, int64_t end, int thread) {
          shared_values.compute(ctx_, shared_in, shared, {.tokens = tokens, .begin = begin, .end = end}, 0, thread);
        },
        [&](const MlpWeights& expert, LinearPart part, int thread) {
          const int64_t to = part.first;
          if (!w_.sorted_columns) part.x_rows = pairs_.tokens + part.first, part.first = 0;
          values.compute(ctx_, in, expert, part, to, thread);
        });
  }
  const LinearInput in = w_.sorted_columns ? sorted_input(values.values(), nullptr, &MlpWeights::down, w_.inner_forms)
                                           : values.input(ctx_);
  const LinearInput shared_in = has_shared() ? shared_values.input(ctx_, shared.down.columns) : LinearInput{};
  over_all(
      has_shared() ? shared_chunks(shared.down, shared.down.cols()) : RowChunks{}, expert_chunks(x_.cols, inner),
      [&](int64_t begin, int64_t end, int thread) {
        linear_part(ctx_, shared_in, shared.down,
                    {.tokens = tokens, .begin = begin, .end = end, .y = y.data, .y_stride = y.cols}, thread);
      },
      [&](const MlpWeights& expert, LinearPart part, int thread) {
        part.y = out.row(part.first);
        part.y_stride = out.cols;
        linear_part(ctx_, in, expert.down, part, thread);
      });
}

}  // namespace

Tensor moe(OpContext& ctx, Tensor x, const MoeWeights& w, const int32_t* experts, const float* gates, int64_t k) {
  const Tensor y = ctx.arena.tensor(x.rows, x.cols);
  const ArenaScope scope(ctx.arena);
  const SortedPairs pairs = sort_by_expert(ctx, experts, x.rows, k, static_cast<int64_t>(w.experts.size()));
  const Tensor out = ctx.arena.tensor(pairs.size, x.cols);
  MoeStep(ctx, x, w, pairs).run(out, y);
  ctx.pool.parallel_for(x.rows, [&](int64_t t, int) {
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
      ctx.kernels.axpy({gates[t * k + slot], out.row(pairs.place[t * k + slot]), sum, x.cols});
    }
  });
  return y;
}

int64_t moe_floats(int64_t tokens, const MoeSizes& s, int threads) {
  const int64_t pairs = tokens * s.k, input = linear_input_floats(tokens, s.hidden);
  const int64_t in_order = s.sorted_columns ? 2 * (pairs * s.hidden + linear_input_floats(pairs, s.hidden)) +
                                                  pairs * s.inner + linear_input_floats(pairs, s.inner)
                                            : input;
  return 4 * (s.n + 16) + 2 * (pairs + 16) + pairs * s.hidden +
         InnerValues::floats(pairs, s.inner, tokens, s.hidden, threads) +
         InnerValues::floats(tokens, s.shared_inner, tokens, s.hidden, threads) + in_order + 2 * input + 128;
}

}  // namespace redoubt
