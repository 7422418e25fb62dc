#include "kernels/packed_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "core/float_bits.h"
#include "emulated_tiles.h"
#include "float_vectors.h"
#include "formats/blocks.h"
#include "formats/packing.h"
#include "packed_matrix.h"

namespace redoubt {
namespace {

using test::Packed;
using test::random_floats;
using test::relative_error;
using test::same_bits;

std::vector<DType> types_for(PackedInput input) {
  std::vector<DType> types;
  for (int i = 0; i < kNumDTypes; ++i) {
    const auto type = static_cast<DType>(i);
    if (can_pack(type, 256) && packed_input(reference_packed_kernels(), type) == input) types.push_back(type);
  }
  return types;
}

// Activations in both forms.
struct Activations {
  int64_t tokens, cols, stride;
  std::vector<float> x;
  std::vector<int8_t> q;
  std::vector<float> scale, sum;
  std::vector<int32_t> minus, pairs;
  std::vector<uint16_t> bf16;

  Activations(const PackedKernels& kernels, int64_t tokens_, int64_t cols_, uint32_t seed)
      : Activations(kernels, tokens_, cols_, random_floats(seed, tokens_ * cols_)) {}
  Activations(const PackedKernels& kernels, int64_t tokens_, int64_t cols_, std::vector<float> x_)
      : tokens(tokens_), cols(cols_), stride((cols_ + 31) / 32 * 32), x(std::move(x_)) {
    q.resize(static_cast<size_t>(tokens * stride));
    scale.resize(static_cast<size_t>(tokens * stride / 32));
    sum.resize(scale.size());
    minus.resize(2 * scale.size());
    pairs.resize(2 * scale.size());
    for (int64_t t = 0; t < tokens; ++t) {
      kernels.quantize_row({x.data() + t * cols, cols, stride, q.data() + t * stride, scale.data() + t * stride / 32,
                            sum.data() + t * stride / 32, minus.data() + t * stride / 16,
                            pairs.data() + t * stride / 16});
      for (int64_t k = 0; k < stride; ++k) {
        bf16.push_back(k < cols ? bf16_from_float(x[static_cast<size_t>(t * cols + k)]) : uint16_t{0});
      }
    }
  }
  QuantizedRows rows() { return {q.data(), scale.data(), sum.data(), minus.data(), pairs.data(), stride}; }
};

class EveryPackedSet : public testing::TestWithParam<const PackedKernels*> {
 protected:
  void SetUp() override {
    if (!inputs().empty()) return;
    // The emulator of `make test-arm` has every extension: a set that it does not run is a fault (RedoubtBuild.cmake).
    ASSERT_EQ(std::getenv("REDOUBT_EVERY_SET"), nullptr) << kernels().name << " was not run";
    GTEST_SKIP() << kernels().name << " is not supported by this CPU";
  }
  std::vector<PackedInput> inputs() {
    std::vector<PackedInput> found;
    if (kernels().supported()) found.push_back(PackedInput::int8);
    if (kernels().bf16_supported()) found.push_back(PackedInput::bf16);
    return found;
  }
  const PackedKernels& kernels() { return *GetParam(); }

  std::vector<float> run(const PackedKernels& kernels, PackedInput input, const PackedMatrix& w, Activations& x,
                         const int32_t* x_rows, int64_t tokens, int64_t begin, int64_t end, const float* bias = nullptr,
                         QuantizedRows remainder = {}) {
    std::vector<float> y(static_cast<size_t>(tokens * w.rows), 0.0f);
    const PackedLinearArgs args{w,      x.rows(), x.bf16.data(), x_rows, y.data(),        w.rows,
                                tokens, begin,    end,           bias,   scratch_.data(), remainder};
    (input == PackedInput::int8 ? kernels.linear : kernels.linear_bf16)(args);
    return y;
  }
  std::vector<float> scratch_ = std::vector<float>(kPackedScratch);
};

class EveryIntegerSet : public EveryPackedSet {};

TEST_P(EveryIntegerSet, QuantizesToTheSameBits) {
  for (const int64_t cols : {1, 15, 32, 33, 77, 544, 1536}) {
    std::vector<float> x = random_floats(4, 3 * cols);
    for (int64_t k = 32; k < std::min<int64_t>(64, cols); ++k) x[static_cast<size_t>(k)] = 0;  // has no scale
    Activations mine(kernels(), 3, cols, x), theirs(reference_packed_kernels(), 3, cols, x);
    EXPECT_EQ(mine.q, theirs.q) << cols;
    EXPECT_EQ(mine.minus, theirs.minus) << cols;
    EXPECT_EQ(mine.pairs, theirs.pairs) << cols;
    EXPECT_TRUE(same_bits(mine.scale, theirs.scale)) << cols;
    EXPECT_TRUE(same_bits(mine.sum, theirs.sum)) << cols;
  }
}

TEST_P(EveryIntegerSet, IntegerCodesGiveTheBitsOfTheDefinition) {
  for (const DType type : types_for(PackedInput::int8)) {
    for (const int64_t cols :
         {packed_shape(type).block_columns, int64_t{768}, int64_t{512} + packed_shape(type).block_columns}) {
      for (const int64_t rows : {5, 16, 39, 64}) {
        const Packed w(type, rows, cols, 1);
        const std::vector<float> bias = random_floats(3, rows);
        for (const int64_t tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 33, 101}) {
          SCOPED_TRACE(std::string(info(type).name) + " " + std::to_string(rows) + "x" + std::to_string(cols) +
                       " tokens " + std::to_string(tokens));
          Activations x(reference_packed_kernels(), tokens, cols, 2);
          Activations rest(reference_packed_kernels(), tokens, cols, 5);
          for (const QuantizedRows& remainder : {QuantizedRows{}, rest.rows()}) {
            ASSERT_TRUE(same_bits(
                run(kernels(), PackedInput::int8, w.matrix, x, nullptr, tokens, 0, rows, bias.data(), remainder),
                run(reference_packed_kernels(), PackedInput::int8, w.matrix, x, nullptr, tokens, 0, rows, bias.data(),
                    remainder)));
          }
        }
      }
    }
  }
}

// So many tokens of such wide rows meet a matrix in several blocks, the last one small.
TEST_P(EveryIntegerSet, BlocksOfWideActivationsGiveTheBitsOfTheDefinition) {
  constexpr int64_t kRows = 50, kCols = 7168, kTokens = 77;
  std::vector<int32_t> x_rows(kTokens);
  for (int64_t t = 0; t < kTokens; ++t) x_rows[static_cast<size_t>(t)] = static_cast<int32_t>(t * 30 % kTokens);
  Activations x(reference_packed_kernels(), kTokens, kCols, 2), rest(reference_packed_kernels(), kTokens, kCols, 5);
  for (const DType type : {DType::q4_0, DType::q6_k}) {
    const Packed w(type, kRows, kCols, 1);
    for (const int32_t* order : {static_cast<const int32_t*>(nullptr), static_cast<const int32_t*>(x_rows.data())}) {
      for (const QuantizedRows& remainder : {QuantizedRows{}, rest.rows()}) {
        const auto y = [&](const PackedKernels& set) {
          return run(set, PackedInput::int8, w.matrix, x, order, kTokens, 0, kRows, nullptr, remainder);
        };
        EXPECT_TRUE(same_bits(y(kernels()), y(reference_packed_kernels()))) << info(type).name;
      }
    }
  }
}

// The largest codes and activations: nothing saturates on the way.
TEST_P(EveryIntegerSet, TheLargestCodesGiveTheBitsOfTheDefinition) {
  for (const DType type : types_for(PackedInput::int8)) {
    for (const float sign : {1.0f, -1.0f}) {
      const int64_t rows = 32, cols = 512, tokens = 9;
      std::vector<float> values(static_cast<size_t>(rows * cols), sign), ones(static_cast<size_t>(tokens * cols), 1.0f);
      for (size_t i = 0; i < values.size(); i += 32) values[i] = 0.0f;
      for (size_t i = 0; i < ones.size() / 2; ++i) ones[i] = -1.0f;
      const Packed w(type, rows, cols, values);
      Activations x(reference_packed_kernels(), tokens, cols, ones);
      for (const int64_t n : {int64_t{1}, tokens}) {
        EXPECT_TRUE(same_bits(run(kernels(), PackedInput::int8, w.matrix, x, nullptr, n, 0, rows),
                              run(reference_packed_kernels(), PackedInput::int8, w.matrix, x, nullptr, n, 0, rows)))
            << info(type).name << " tokens " << n;
      }
    }
  }
}

// By name, so that none is lost from the lists of the tests here with its entry in packed_type().
TEST(PackedTypes, AreTheseOfEachKind) {
  EXPECT_EQ(types_for(PackedInput::int8),
            (std::vector{DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0, DType::q4_k, DType::q5_k,
                         DType::q6_k, DType::iq4_nl, DType::mxfp4, DType::g4_32, DType::g4_64, DType::g4_128,
                         DType::g8_32, DType::i8_32, DType::i8_128, DType::nf4}));
  EXPECT_EQ(types_for(PackedInput::bf16), (std::vector{DType::bf16, DType::f8_e4m3}));
}

// The definition itself: dot products of decoded weights with what the activations were rounded to.
TEST_P(EveryPackedSet, EqualsTheProductWithDecodedWeights) {
  for (const PackedInput input : inputs()) {
    for (const DType type : types_for(input)) {
      for (const bool scaled : {false, true}) {
        if (scaled && type != DType::f8_e4m3) continue;
        SCOPED_TRACE(std::string(info(type).name));
        // Integer codes have a test of their own over odd shapes; bf16 has no other definition than this.
        const bool sweeps = input == PackedInput::bf16;
        for (const auto& [rows, cols, tokens] : std::vector<std::array<int64_t, 3>>{{150, 768, 9},
                                                                                    {1, 128, 1},
                                                                                    {15, 256, 2},
                                                                                    {16, 384, 3},
                                                                                    {17, 768, 4},
                                                                                    {33, 128, 8},
                                                                                    {129, 640, 17},
                                                                                    {300, 1152, 33},
                                                                                    {64, 2176, 130}}) {
          if (!sweeps && rows != 150) continue;
          const int64_t scale_cols = (cols + 127) / 128;
          SCOPED_TRACE(testing::Message() << rows << " x " << cols << " by " << tokens);
          const Packed w(type, rows, cols, 1, scaled);
          Activations x(reference_packed_kernels(), tokens, cols, 2);
          std::vector<float> expected(static_cast<size_t>(tokens * rows)), decoded(static_cast<size_t>(cols));
          for (int64_t r = 0; r < rows; ++r) {
            decode_row(type, w.stored.data() + r * row_bytes(type, cols), decoded);
            for (int64_t t = 0; t < tokens; ++t) {
              double sum = 0;
              for (int64_t k = 0; k < cols; ++k) {
                const auto at = static_cast<size_t>(t * cols + k);
                const float value = input == PackedInput::int8 ? static_cast<float>(x.q[at]) * x.scale[at / 32]
                                                               : float_from_bf16(x.bf16[at]);
                const float scale = scaled ? w.scales[static_cast<size_t>(r / 128 * scale_cols + k / 128)] : 1.0f;
                sum += static_cast<double>(decoded[static_cast<size_t>(k)]) * scale * value;
              }
              expected[static_cast<size_t>(t * rows + r)] = static_cast<float>(sum);
            }
          }
          EXPECT_LT(relative_error(run(kernels(), input, w.matrix, x, nullptr, tokens, 0, rows), expected), 1e-5f);
        }
      }
    }
  }
}

// The promise of docs/decisions/0002: neither the other tokens, nor their order, nor the split of rows change a bit.
TEST_P(EveryPackedSet, GivesTheSameBitsAloneAndInABatch) {
  for (const PackedInput input : inputs()) {
    for (const DType type : types_for(input)) {
      SCOPED_TRACE(std::string(info(type).name));
      const int64_t rows = 150, cols = 1280, tokens = 70;
      const Packed w(type, rows, cols, 1, type == DType::f8_e4m3);
      Activations x(reference_packed_kernels(), tokens, cols, 2);
      Activations left(reference_packed_kernels(), tokens, cols, 5);
      const QuantizedRows remainder = input == PackedInput::int8 ? left.rows() : QuantizedRows{};
      const std::vector<float> together =
          run(kernels(), input, w.matrix, x, nullptr, tokens, 0, rows, nullptr, remainder);
      for (const int32_t t : {0, 1, 5, 64, 69}) {
        std::vector<float> alone = run(kernels(), input, w.matrix, x, &t, 1, 0, 48, nullptr, remainder);
        const std::vector<float> rest = run(kernels(), input, w.matrix, x, &t, 1, 48, rows, nullptr, remainder);
        std::copy(rest.begin() + 48, rest.end(), alone.begin() + 48);
        EXPECT_TRUE(same_bits(alone, {together.begin() + t * rows, together.begin() + (t + 1) * rows})) << t;
      }
      const std::vector<int32_t> few{69, 3, 3, 17, 40};
      const std::vector<float> some = run(kernels(), input, w.matrix, x, few.data(), 5, 0, rows, nullptr, remainder);
      for (size_t i = 0; i < few.size(); ++i) {
        const auto at = static_cast<std::ptrdiff_t>(i) * rows, there = few[i] * rows;
        EXPECT_TRUE(same_bits({some.begin() + at, some.begin() + at + rows},
                              {together.begin() + there, together.begin() + there + rows}));
      }
    }
  }
}

// A CPU may have one set's integer codes and another's bf16.
TEST(ChoosePacked, TakesEachKindFromTheFirstSetThatHasIt) {
  const PackedKernels& reference = reference_packed_kernels();
  PackedKernels codes = reference, neither = reference;
  codes.name = "codes";
  codes.bf16_supported = neither.supported = neither.bf16_supported = [] { return false; };
  const std::array sets{static_cast<const PackedKernels*>(&neither), static_cast<const PackedKernels*>(&codes),
                        &reference};
  EXPECT_EQ(packed_input(choose_packed(PackedSets(sets).first(1)), DType::q4_0), PackedInput::none);
  EXPECT_EQ(packed_input(choose_packed(PackedSets(sets).first(2)), DType::bf16), PackedInput::none);
  const PackedKernels chosen = choose_packed(sets);
  EXPECT_EQ(chosen.name, "codes");
  EXPECT_EQ(packed_input(chosen, DType::q4_0), PackedInput::int8);
  EXPECT_EQ(packed_input(chosen, DType::bf16), PackedInput::bf16);
}

std::string set_name(const testing::TestParamInfo<const PackedKernels*>& info) { return std::string(info.param->name); }
INSTANTIATE_TEST_SUITE_P(Kernels, EveryPackedSet, testing::ValuesIn(test::tested_sets()), set_name);
INSTANTIATE_TEST_SUITE_P(Kernels, EveryIntegerSet, testing::ValuesIn(test::tested_sets()), set_name);

}  // namespace
}  // namespace redoubt
