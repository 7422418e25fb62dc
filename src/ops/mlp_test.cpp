// The gated MLP and the mixture of it, chunk by chunk and all experts together, against one token and one matrix at a
// time: equal to the bit, since what becomes codes early is what would become codes late.
#include "ops/mlp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "op_bench.h"
#include "ops/experts.h"
#include "packed_matrix.h"

namespace redoubt {
namespace {

using test::random_floats;

// Owns what a Weight points to.
struct Matrix {
  test::Packed packed;
  Weight weight;

  Matrix(const OpContext& ctx, DType type, int64_t rows, int64_t cols, uint32_t seed, bool fine = false)
      : packed(type, rows, cols, seed) {
    weight.matrix = {.data = reinterpret_cast<const unsigned char*>(packed.stored.data()),
                     .rows = rows,
                     .cols = cols,
                     .row_bytes = row_bytes(type, cols),
                     .dtype = static_cast<int32_t>(type),
                     .block_elems = info(type).block_elems,
                     .block_bytes = info(type).block_bytes,
                     .scales = nullptr,
                     .scale_cols = 0,
                     .decode = decoder_for(ctx.kernels, type)};
    weight.input = packed_input(ctx.packed, type);
    weight.fine = fine;
    if (weight.input != PackedInput::none) weight.packed = packed.matrix;
  }
};

struct Expert {
  Matrix gate, up, down;

  Expert(const OpContext& ctx, DType type, DType down_type, int64_t hidden, int64_t inner, uint32_t seed,
         bool fine = false)
      : gate(ctx, type, inner, hidden, seed),
        up(ctx, type, inner, hidden, seed + 1),
        down(ctx, down_type, hidden, inner, seed + 2, fine) {}
  MlpWeights weights() const { return {gate.weight, up.weight, down.weight}; }
};

bool same_bits(const float* a, const float* b, int64_t n) {
  return std::memcmp(a, b, static_cast<size_t>(n) * sizeof(float)) == 0;
}

// down(silu(gate x) * (up x)) by whole matrices, one after another.
Tensor plain_mlp(OpContext& ctx, Tensor x, const MlpWeights& w) {
  const Tensor gate = linear(ctx, x, w.gate), up = linear(ctx, x, w.up);
  ctx.kernels.silu_mul({gate.data, up.data, gate.data, gate.rows * gate.cols});
  return linear(ctx, gate, w.down);
}

constexpr int64_t kHidden = 64;

class MlpOfEveryTable : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported()) GTEST_SKIP() << GetParam()->name << " is not supported by this CPU";
  }
};

void chunks_equal_whole_rows(const KernelTable& table, DType down, bool fine, int64_t inner, int64_t tokens) {
  // What is asked for is enough: the arena of mlp has no more.
  test::OpBench bench(table, 2, tokens * kHidden + 16 + mlp_floats(tokens, kHidden, inner, 2));
  test::OpBench plain(table, 1, 1 << 24);
  const Expert expert(bench.ctx, DType::q4_0, down, kHidden, inner, 7, fine);
  std::vector<float> values = random_floats(1, tokens * kHidden);
  const Tensor x{values.data(), tokens, kHidden};
  const Tensor y = mlp(bench.ctx, x, expert.weights()), expected = plain_mlp(plain.ctx, x, expert.weights());
  EXPECT_TRUE(same_bits(y.data, expected.data, tokens * kHidden))
      << info(down).name << (fine ? " fine" : "") << " inner " << inner << " tokens " << tokens;
}

TEST_P(MlpOfEveryTable, InnerValuesBecomeTheCodesOfWholeRows) {
  for (const int64_t tokens : {1, 3, 40, 600}) {  // the last: several calls of a kernel
    for (const bool fine : {false, true}) chunks_equal_whole_rows(*GetParam(), DType::q4_0, fine, 224, tokens);
    chunks_equal_whole_rows(*GetParam(), DType::bf16, false, 224, tokens);
    chunks_equal_whole_rows(*GetParam(), DType::q8_0, true, 32, tokens);
  }
  chunks_equal_whole_rows(*GetParam(), DType::q4_0, false, 9280, 2);  // several chunks of rows
}

TEST_P(MlpOfEveryTable, AMixtureIsTheSumOfItsExperts) {
  constexpr int64_t n = 6, k = 3, inner = 96, shared_inner = 192;
  for (const bool has_shared : {true, false}) {
    for (const int64_t tokens : {1, 5, 70}) {
      const MoeSizes sizes{kHidden, inner, has_shared ? shared_inner : 0, k, n, false};
      test::OpBench bench(*GetParam(), 2, tokens * kHidden + 16 + moe_floats(tokens, sizes, 2));
      test::OpBench plain(*GetParam(), 1, 1 << 24);
      MoeWeights weights;
      std::vector<Expert> experts;
      for (uint32_t e = 0; e < n; ++e) {
        experts.emplace_back(bench.ctx, e == 2 ? DType::q8_0 : DType::q4_0, DType::q4_0, kHidden, inner, 10 * e);
        weights.add(experts.back().weights());
      }
      const Expert shared(bench.ctx, DType::q4_0, DType::q8_0, kHidden, shared_inner, 99);
      if (has_shared) weights.shared = shared.weights();
      std::vector<float> values = random_floats(1, tokens * kHidden), gates = random_floats(2, tokens * k);
      const Tensor x{values.data(), tokens, kHidden};
      std::vector<int32_t> chosen;  // never expert 5
      for (int32_t t = 0; t < tokens; ++t) {
        for (int32_t j = 0; j < k; ++j) chosen.push_back((2 * j + t) % 5);
      }
      const Tensor y = moe(bench.ctx, x, weights, chosen.data(), gates.data(), k);
      for (int64_t t = 0; t < tokens; ++t) {
        const ArenaScope scope(plain.arena);
        const Tensor row{x.row(t), 1, kHidden};
        const Tensor sum = plain.arena.tensor(1, kHidden);
        std::fill_n(sum.data, kHidden, 0.0f);
        if (has_shared) std::copy_n(plain_mlp(plain.ctx, row, weights.shared).data, kHidden, sum.data);
        for (int32_t e = 0; e < n; ++e) {
          for (int64_t j = 0; j < k; ++j) {
            if (chosen[static_cast<size_t>(t * k + j)] != e) continue;
            const Tensor out = plain_mlp(plain.ctx, row, weights.experts[static_cast<size_t>(e)]);
            plain.ctx.kernels.axpy({gates[static_cast<size_t>(t * k + j)], out.data, sum.data, kHidden});
          }
        }
        EXPECT_TRUE(same_bits(y.row(t), sum.data, kHidden)) << "token " << t << " of " << tokens;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Mlp, MlpOfEveryTable, testing::ValuesIn(kernel_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace redoubt
