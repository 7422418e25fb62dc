#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "formats/blocks.h"
#include "kernels/kernel_table.h"

namespace redoubt {
namespace {

std::vector<float> random_floats(uint32_t seed, int64_t n) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) v = uniform(generator);
  return values;
}

float relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  float worst = 0, largest = 1e-30f;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    worst = std::max(worst, std::fabs(found[i] - expected[i]));
    largest = std::max(largest, std::fabs(expected[i]));
  }
  return worst / largest;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<DType> decodable_types() {
  std::vector<DType> types;
  for (int i = 0; i <= static_cast<int>(DType::nvfp4); ++i) {
    const auto type = static_cast<DType>(i);
    if (decoder_for(reference_kernels(), type) != nullptr && can_decode(type)) types.push_back(type);
  }
  return types;
}

// A random stored matrix, with FP8 block scales if `scaled`. Bytes are random; halves that would be huge are tamed.
struct StoredMatrix {
  std::vector<std::byte> bytes;
  std::vector<float> scales;
  WeightMatrix matrix;

  StoredMatrix(const KernelTable& table, DType type, int64_t rows, int64_t cols, uint32_t seed, bool scaled = false) {
    const int64_t row = row_bytes(type, cols);
    bytes.resize(static_cast<size_t>(rows * row + 1));
    if (can_encode(type)) {
      const std::vector<float> values = random_floats(seed, rows * cols);
      for (int64_t r = 0; r < rows; ++r) {
        encode_row(type, std::span(values).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)),
                   bytes.data() + 1 + r * row);
      }
    } else {
      std::mt19937 generator(seed);
      for (std::byte& b : bytes) b = static_cast<std::byte>(generator() & 0x3b);  // exponents stay small
    }
    if (scaled) scales = random_floats(seed + 1, ((rows + 127) / 128) * ((cols + 127) / 128));
    matrix = {reinterpret_cast<const unsigned char*>(bytes.data() + 1),
              rows,
              cols,
              row,
              static_cast<int32_t>(type),
              info(type).block_elems,
              info(type).block_bytes,
              scaled ? scales.data() : nullptr,
              (cols + 127) / 128,
              decoder_for(table, type)};
  }
};

class EveryTable : public testing::TestWithParam<const KernelTable*> {
 protected:
  void SetUp() override {
    if (!GetParam()->supported()) GTEST_SKIP() << GetParam()->name << " is not supported by this CPU";
  }
  const KernelTable& table() { return *GetParam(); }
  std::vector<float> scratch_ = std::vector<float>(kLinearScratch);

  std::vector<float> run_linear(const KernelTable& kernels, const WeightMatrix& w, const std::vector<float>& x,
                                int64_t tokens, int64_t begin, int64_t end) {
    std::vector<float> y(static_cast<size_t>(tokens * w.rows), 0.0f);
    kernels.linear({w, x.data(), w.cols, nullptr, y.data(), w.rows, tokens, begin, end, nullptr, scratch_.data()});
    return y;
  }
};

TEST_P(EveryTable, DecodersEqualTheDefinitionToTheBit) {
  for (const DType type : decodable_types()) {
    SCOPED_TRACE(std::string(info(type).name));
    const int64_t n = info(type).block_elems * (info(type).block_elems == 1 ? 37 : 3);
    const StoredMatrix stored(table(), type, 1, n, 7);
    std::vector<float> expected(static_cast<size_t>(n)), found(static_cast<size_t>(n));
    decode_row(type, stored.bytes.data() + 1, expected);
    stored.matrix.decode(stored.matrix.data, found.data(), n);
    EXPECT_TRUE(same_bits(expected, found));
  }
}

TEST_P(EveryTable, EveryE4m3CodeDecodesExactly) {
  std::vector<std::byte> codes(256);
  for (int i = 0; i < 256; ++i) codes[static_cast<size_t>(i)] = static_cast<std::byte>(i);
  std::vector<float> expected(256), found(256);
  decode_row(DType::f8_e4m3, codes.data(), expected);
  decoder_for(table(), DType::f8_e4m3)(reinterpret_cast<const unsigned char*>(codes.data()), found.data(), 256);
  for (size_t i = 0; i < 256; ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(found[i])) << i;
    } else {
      EXPECT_EQ(expected[i], found[i]) << i;
    }
  }
}

TEST_P(EveryTable, LinearMatchesReferenceForEveryTypeAndOddShapes) {
  for (const DType type : decodable_types()) {
    for (const int64_t blocks : {1, 3}) {
      const int64_t cols = info(type).block_elems == 1 ? (blocks == 1 ? 7 : 547) : info(type).block_elems * blocks;
      for (const int64_t rows : {1, 19}) {
        for (const int64_t tokens : {1, 2, 5, 131}) {
          SCOPED_TRACE(std::string(info(type).name) + " " + std::to_string(rows) + "x" + std::to_string(cols));
          const StoredMatrix mine(table(), type, rows, cols, 3), theirs(reference_kernels(), type, rows, cols, 3);
          const std::vector<float> x = random_floats(5, tokens * cols);
          // fp32 sums of at most 768 products in another order
          EXPECT_LT(relative_error(run_linear(table(), mine.matrix, x, tokens, 0, rows),
                                   run_linear(reference_kernels(), theirs.matrix, x, tokens, 0, rows)),
                    1e-5f);
        }
      }
    }
  }
}

TEST_P(EveryTable, Fp8BlocksAreScaledByRowAndColumnBlock) {
  const int64_t rows = 300, cols = 576;
  const StoredMatrix mine(table(), DType::f8_e4m3, rows, cols, 3, true);
  const std::vector<float> x = random_floats(5, 2 * cols);
  std::vector<float> expected(2 * rows);
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; ++r) {
    decode_row(DType::f8_e4m3, mine.bytes.data() + 1 + r * cols, values);
    for (int64_t t = 0; t < 2; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < cols; ++c) {
        sum += static_cast<double>(values[static_cast<size_t>(c)]) *
               mine.scales[static_cast<size_t>(r / 128 * 5 + c / 128)] * x[static_cast<size_t>(t * cols + c)];
      }
      expected[static_cast<size_t>(t * rows + r)] = static_cast<float>(sum);
    }
  }
  EXPECT_LT(relative_error(run_linear(table(), mine.matrix, x, 2, 0, rows), expected), 1e-5f);
}

// The promise of docs/decisions/0002: neither the other tokens nor the split of rows change a bit.
TEST_P(EveryTable, LinearIsTheSameBitsAloneAndInABatch) {
  for (const DType type : {DType::f32, DType::bf16, DType::q4_1, DType::q6_k}) {
    const int64_t rows = 37, cols = type == DType::f32 ? 547 : 768, tokens = 200;
    const StoredMatrix stored(table(), type, rows, cols, 11);
    const std::vector<float> x = random_floats(12, tokens * cols);
    const std::vector<float> together = run_linear(table(), stored.matrix, x, tokens, 0, rows);
    for (const int64_t t : {0, 1, 2, 130, 199}) {
      const std::vector<float> one(x.begin() + t * cols, x.begin() + (t + 1) * cols);
      std::vector<float> alone = run_linear(table(), stored.matrix, one, 1, 0, 5);
      const std::vector<float> rest = run_linear(table(), stored.matrix, one, 1, 5, rows);
      std::copy(rest.begin() + 5, rest.end(), alone.begin() + 5);
      EXPECT_TRUE(same_bits(alone, {together.begin() + t * rows, together.begin() + (t + 1) * rows})) << t;
    }
  }
}

TEST_P(EveryTable, LinearTransposedMatchesReference) {
  for (const int64_t rows : {1, 19, 128}) {
    for (const int64_t cols : {8, 513, 576}) {
      const StoredMatrix mine(table(), DType::bf16, rows, cols, 3),
          theirs(reference_kernels(), DType::bf16, rows, cols, 3);
      const std::vector<float> x = random_floats(5, 3 * rows);
      const auto run = [&](const KernelTable& kernels, const WeightMatrix& w) {
        std::vector<float> y(static_cast<size_t>(3 * cols));
        kernels.linear_transposed({w, x.data(), rows, y.data(), cols, 3, 0, rows, scratch_.data()});
        return y;
      };
      EXPECT_LT(relative_error(run(table(), mine.matrix), run(reference_kernels(), theirs.matrix)), 1e-5f);
    }
  }
}

TEST_P(EveryTable, RowOperationsMatchReference) {
  for (const int64_t dim : {1, 7, 8, 9, 33, 512, 1536}) {
    SCOPED_TRACE("dim=" + std::to_string(dim));
    auto x = random_floats(1, 3 * dim), weight = random_floats(2, 3 * dim);
    for (float& v : x) v *= 20.0f;
    const auto run = [&](const KernelTable& kernels) {
      std::vector<float> y(static_cast<size_t>(9 * dim));
      kernels.rms_norm({x.data(), dim, weight.data(), y.data(), dim, 3, dim, 1e-6f});
      kernels.silu_mul({x.data(), weight.data(), y.data() + 3 * dim, 3 * dim});
      kernels.axpy({0.7f, x.data(), y.data() + 6 * dim, 3 * dim});
      return y;
    };
    EXPECT_LT(relative_error(run(table()), run(reference_kernels())), 1e-5f);
  }
}

TEST_P(EveryTable, SiluFollowsItsDefinitionFarOut) {
  std::vector<float> gate, up, y;
  for (float v = -120.0f; v <= 120.0f; v += 0.37f) gate.push_back(v);
  up.assign(gate.size(), 1.0f);
  y.resize(gate.size());
  table().silu_mul({gate.data(), up.data(), y.data(), static_cast<int64_t>(gate.size())});
  for (size_t i = 0; i < gate.size(); ++i) {
    const double expected = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i])));
    EXPECT_NEAR(y[i], expected, 1e-6 * std::max(1.0, std::fabs(expected))) << gate[i];
  }
}

TEST_P(EveryTable, Bf16RoundsAsTheDefinition) {
  auto x = random_floats(9, 1003);
  x[5] = NAN;
  x[6] = INFINITY;
  x[7] = 1e-40f;
  std::vector<uint16_t> expected(x.size()), found(x.size());
  reference_kernels().bf16_encode(x.data(), expected.data(), static_cast<int64_t>(x.size()));
  table().bf16_encode(x.data(), found.data(), static_cast<int64_t>(x.size()));
  EXPECT_EQ(expected, found);
}

struct TileResult {
  std::vector<float> max, sum, out;
};
TileResult run_tiles(const KernelTable& table, int64_t queries, int64_t head, int64_t value, int64_t first_query) {
  const std::vector<float> q = random_floats(1, 9 * head), k = random_floats(2, kKeyTile * head * 2),
                           v = random_floats(3, kKeyTile * value * 2);
  TileResult r{std::vector<float>(static_cast<size_t>(queries), -INFINITY),
               std::vector<float>(static_cast<size_t>(queries)),
               std::vector<float>(static_cast<size_t>(queries * value))};
  for (int64_t tile = 0; tile < 2; ++tile) {
    std::vector<int32_t> valid;
    for (int64_t i = 0; i < queries; ++i) {
      const int64_t position = 60 + (first_query + i) * 5;
      valid.push_back(static_cast<int32_t>(std::clamp<int64_t>(position + 1 - tile * kKeyTile, 0, kKeyTile)));
    }
    table.attention_tile({q.data() + first_query * head, head, k.data() + tile * kKeyTile * head, head,
                          v.data() + tile * kKeyTile * value, value, queries, head, value, valid.data(), r.max.data(),
                          r.sum.data(), r.out.data(), value});
  }
  return r;
}

TEST_P(EveryTable, AttentionMatchesReferenceAndIgnoresItsNeighbours) {
  for (const int64_t head : {16, 48, 64, 130}) {
    for (const int64_t value : {16, 33, 64}) {
      SCOPED_TRACE(std::to_string(head) + "/" + std::to_string(value));
      const TileResult mine = run_tiles(table(), 9, head, value, 0),
                       theirs = run_tiles(reference_kernels(), 9, head, value, 0);
      EXPECT_LT(relative_error(mine.out, theirs.out), 1e-4f);  // exponentials of scores that differ in the last bits
      EXPECT_LT(relative_error(mine.sum, theirs.sum), 1e-4f);
      for (int64_t i = 0; i < 9; ++i) {
        const TileResult alone = run_tiles(table(), 1, head, value, i);
        EXPECT_TRUE(same_bits(alone.out, {mine.out.begin() + i * value, mine.out.begin() + (i + 1) * value})) << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryTable, testing::ValuesIn(kernel_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(ChooseKernels, NamesWhatExists) {
  EXPECT_TRUE(choose_kernels("auto"));
  EXPECT_EQ(choose_kernels("reference").value()->name, "reference");
  EXPECT_EQ(choose_kernels("mmx").error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace redoubt
