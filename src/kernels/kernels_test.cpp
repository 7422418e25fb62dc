#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "core/float_bits.h"
#include "emulated_tiles.h"
#include "float_vectors.h"
#include "formats/blocks.h"
#include "kernels/kernel_table.h"

namespace redoubt {
namespace {

using test::random_floats;
using test::relative_error;
using test::same_bits;

std::vector<DType> decodable_types() {
  std::vector<DType> types;
  for (int i = 0; i < kNumDTypes; ++i) {
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
  for (const DType type : {DType::f32, DType::bf16, DType::f16, DType::f8_e4m3, DType::q4_1, DType::q6_k}) {
    const int64_t rows = 37, cols = info(type).block_elems == 1 ? 547 : 768, tokens = 200;
    const StoredMatrix stored(table(), type, rows, cols, 11, type == DType::f8_e4m3);
    const std::vector<float> x = random_floats(12, tokens * cols);
    const std::vector<float> together = run_linear(table(), stored.matrix, x, tokens, 0, rows);
    for (const int64_t t : {0, 1, 2, 130, 199}) {
      const std::vector<float> one(x.begin() + t * cols, x.begin() + (t + 1) * cols);
      std::vector<float> alone = run_linear(table(), stored.matrix, one, 1, 0, 5);
      const std::vector<float> rest = run_linear(table(), stored.matrix, one, 1, 5, rows);
      std::copy(rest.begin() + 5, rest.end(), alone.begin() + 5);
      EXPECT_TRUE(same_bits(alone, {together.begin() + t * rows, together.begin() + (t + 1) * rows})) << t;
    }
    for (const int64_t few : {2, 3, 4, 5})
      EXPECT_TRUE(same_bits(run_linear(table(), stored.matrix, x, few, 0, rows),
                            {together.begin(), together.begin() + few * rows}))
          << few;
  }
}

TEST_P(EveryTable, LinearTransposedMatchesReference) {
  for (const int64_t rows : {1, 19, 128}) {
    for (const int64_t cols : {8, 513, 576}) {
      const StoredMatrix mine(table(), DType::bf16, rows, cols, 3),
          theirs(reference_kernels(), DType::bf16, rows, cols, 3);
      constexpr int64_t kTokens = 6;
      const std::vector<float> x = random_floats(5, kTokens * rows);
      const auto run = [&](const KernelTable& kernels, const WeightMatrix& w, int64_t first, int64_t tokens) {
        std::vector<float> y(static_cast<size_t>(tokens * cols));
        kernels.linear_transposed({w, x.data() + first * rows, rows, y.data(), cols, tokens, 0, rows, scratch_.data()});
        return y;
      };
      const std::vector<float> together = run(table(), mine.matrix, 0, kTokens);
      EXPECT_LT(relative_error(together, run(reference_kernels(), theirs.matrix, 0, kTokens)), 1e-5f);
      for (const int64_t t : {0, 3, 5}) {
        EXPECT_TRUE(same_bits(run(table(), mine.matrix, t, 1),
                              {together.begin() + t * cols, together.begin() + (t + 1) * cols}));
      }
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

// Two tiles of keys folded for queries at positions 60, 65, 70 ..: inputs in words of `kernels`, whose results are
// compared row by row. With word_elements 2 the values are those that bfloat16 holds.
struct AttentionInput {
  int64_t queries, head, value;
  std::vector<float> q, k, v;

  AttentionInput(int64_t queries_, int64_t head_, int64_t value_)
      : queries(queries_),
        head(head_),
        value(value_),
        q(random_floats(1, queries * head)),
        k(random_floats(2, 2 * kKeyTile * head)),
        v(random_floats(3, 2 * kKeyTile * value)) {
    for (auto* values : {&q, &k, &v}) {
      for (float& x : *values) x = float_from_bf16(bf16_from_float(x));
    }
  }
};

struct AttentionResult {
  std::vector<float> sum, out;  // [queries], [queries, value] divided by the sum
};

std::vector<unsigned char> elements_of(const float* x, int64_t n, int64_t word_elements) {
  std::vector<unsigned char> bytes(static_cast<size_t>((n + word_elements - 1) / word_elements * 4));
  for (int64_t i = 0; i < n; ++i) {
    const uint16_t half = bf16_from_float(x[i]);
    if (word_elements == 2) std::memcpy(bytes.data() + 2 * i, &half, 2);
    if (word_elements == 1) std::memcpy(bytes.data() + 4 * i, x + i, 4);
  }
  return bytes;
}

// Rows first .. first + rows - 1. Split: the second tile is folded by itself and then merged.
AttentionResult run_attention(const AttentionKernels& kernels, const AttentionInput& in, int64_t first, int64_t rows,
                              bool split) {
  const int64_t words = (in.head + kernels.word_elements - 1) / kernels.word_elements;
  const int64_t groups = (rows + kAttentionRows - 1) / kAttentionRows, padded = groups * kAttentionRows;
  const int64_t panels = (in.value + 15) / 16, columns = panels * 16;
  std::vector<uint32_t> q(static_cast<size_t>(padded * words));
  for (int64_t r = 0; r < rows; ++r) {
    const auto bytes = elements_of(in.q.data() + (first + r) * in.head, in.head, kernels.word_elements);
    for (int64_t w = 0; w < words; ++w) {
      std::memcpy(&q[static_cast<size_t>((r / 16 * words + w) * 16 + r % 16)], bytes.data() + 4 * w, 4);
    }
  }
  struct State {
    std::vector<float> max, sum, out;
    State(int64_t n, int64_t c)
        : max(static_cast<size_t>(n), kNoScore), sum(static_cast<size_t>(n)), out(static_cast<size_t>(n * c)) {}
  };
  State state(padded, columns), later(padded, columns);
  for (int64_t tile = 0; tile < 2; ++tile) {
    std::vector<unsigned char> k;
    std::vector<std::vector<unsigned char>> v_rows;
    std::vector<const unsigned char*> v_pointers(kKeyTile, nullptr);
    const int64_t n = tile == 0 ? kKeyTile : 70;  // the last tile is not full: its values are null
    for (int64_t i = 0; i < n; ++i) {
      const auto key = elements_of(in.k.data() + (tile * kKeyTile + i) * in.head, in.head, kernels.word_elements);
      k.insert(k.end(), key.begin(), key.end());
      v_rows.push_back(elements_of(in.v.data() + (tile * kKeyTile + i) * in.value, in.value, kernels.word_elements));
    }
    // What lies behind the last key may be anything.
    const float poison = NAN;
    for (int64_t i = 0; i < 10 * words; ++i) {
      k.insert(k.end(), reinterpret_cast<const unsigned char*>(&poison),
               reinterpret_cast<const unsigned char*>(&poison) + 4);
    }
    for (int64_t i = 0; i < n; ++i) v_pointers[static_cast<size_t>(i)] = v_rows[static_cast<size_t>(i)].data();
    std::vector<uint32_t> v(static_cast<size_t>(panels * kKeyTile / kernels.word_elements * 16), 0xffffffffu);
    kernels.values({v_pointers.data(), in.value, 0, v.data()});
    std::vector<int32_t> valid(static_cast<size_t>(padded));
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t position = 60 + (first + r) * 5;
      valid[static_cast<size_t>(r)] = static_cast<int32_t>(std::clamp<int64_t>(position + 1 - tile * kKeyTile, 0, n));
    }
    State& into = split && tile == 1 ? later : state;
    AttentionTileArgs args{};
    args.q = q.data();
    args.groups = groups;
    args.words = words;
    args.scale = 0.3f;
    for (int64_t i = 0; i < (n + 15) / 16; ++i) args.k[i] = k.data() + i * 16 * words * 4;
    args.k_stride = words * 4;
    args.v = v.data();
    args.panels = panels;
    args.valid = valid.data();
    args.max = into.max.data();
    args.sum = into.sum.data();
    args.out = into.out.data();
    kernels.tile(args);
  }
  if (split) {
    kernels.merge({groups, columns, 0.3f, state.max.data(), state.sum.data(), state.out.data(), later.max.data(),
                   later.sum.data(), later.out.data()});
  }
  AttentionResult result;
  for (int64_t r = 0; r < rows; ++r) {
    const float sum = state.sum[static_cast<size_t>(r)];
    result.sum.push_back(sum);
    for (int64_t c = 0; c < in.value; ++c) {
      result.out.push_back(state.out[static_cast<size_t>((r / 16 * columns + c) * 16 + r % 16)] / sum);
    }
  }
  return result;
}

TEST_P(EveryTable, AttentionMatchesReferenceAndIgnoresItsNeighbours) {
  for (const AttentionKernels& kernels : {table().attention_f32, table().attention_bf16}) {
    if (kernels.tile == nullptr) continue;
    // Float: exponentials of scores that differ in the last bits. Pairs: weights of 8 bits, averaged.
    const float tolerance = kernels.word_elements == 1 ? 1e-4f : 4e-3f;
    for (const int64_t head : {16, 48, 64, 130, 33}) {
      for (const int64_t value : {16, 33, 64}) {
        for (const bool split : {false, true}) {
          SCOPED_TRACE(std::to_string(kernels.word_elements) + ": " + std::to_string(head) + "/" +
                       std::to_string(value));
          const AttentionInput input(37, head, value);
          const AttentionResult mine = run_attention(kernels, input, 0, 27, split),
                                theirs = run_attention(reference_kernels().attention_f32, input, 0, 27, split);
          EXPECT_LT(relative_error(mine.out, theirs.out), tolerance);
          EXPECT_LT(relative_error(mine.sum, theirs.sum), tolerance);
          for (int64_t i = 0; i < 27; ++i) {
            for (const int64_t rows : {1, 10}) {
              const AttentionResult alone = run_attention(kernels, input, i, rows, split);
              const auto own = mine.out.begin() + i * value;
              EXPECT_TRUE(same_bits({alone.out.begin(), alone.out.begin() + value}, {own, own + value})) << i;
            }
          }
        }
      }
    }
  }
}

// Rows of an 8-bit cache: for each group of kCacheGroup values a scale, then the codes.
struct CodedRows {
  int64_t n, stride, scales;  // scales: from a row's codes on
  std::vector<unsigned char> bytes;

  CodedRows(int64_t rows, int64_t values, uint32_t seed) : n(values), stride(values / kCacheGroup * 4 + values) {
    scales = -values / kCacheGroup * 4;
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> scale(0.01f, 0.1f);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t g = 0; g < n / kCacheGroup; ++g) {
        const float value = scale(generator);
        bytes.resize(bytes.size() + 4);
        std::memcpy(bytes.data() + bytes.size() - 4, &value, 4);
      }
      for (int64_t i = 0; i < n; ++i) bytes.push_back(static_cast<unsigned char>(generator() % 255 - 127));
    }
  }
  const unsigned char* row(int64_t r) const { return bytes.data() + r * stride - scales; }
  int8_t code(int64_t r, int64_t i) const { return static_cast<int8_t>(row(r)[i]); }
  float scale(int64_t r, int64_t group) const {
    float value;
    std::memcpy(&value, row(r) + scales + 4 * group, 4);
    return value;
  }
};

// As a table with codes defines it: exact integer dots of groups, in order.
float plain_score(const float* q, const CodedRows& keys, int64_t key) {
  float sum = 0;
  for (int64_t g = 0; g < keys.n / kCacheGroup; ++g, q += kCacheGroup) {
    float largest = 0;
    for (int64_t i = 0; i < kCacheGroup; ++i) largest = std::max(largest, std::fabs(q[i]));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    int32_t dot = 0;
    for (int64_t i = 0; i < kCacheGroup; ++i) {
      dot += static_cast<int32_t>(std::nearbyint(q[i] * inverse)) * keys.code(key, g * kCacheGroup + i);
    }
    sum = std::fma(static_cast<float>(dot) * (largest / 127.0f), keys.scale(key, g), sum);
  }
  return sum;
}

// A row that sees one key alone: its maximum is the score, to the bit, and its sums are the key's values.
void score_codes_exactly(const AttentionKernels& kernels) {
  constexpr int64_t kHead = 96, kValue = 64, kWords = kHead / kCacheGroup * kQueryWords;
  const CodedRows keys(kKeyTile, kHead, 3), values(kKeyTile, kValue, 4);
  for (const int64_t rows : {1, 5, 16, 17, 32, 48}) {
    const int64_t groups = (rows + kAttentionRows - 1) / kAttentionRows, padded = groups * kAttentionRows;
    std::mt19937 generator(7);
    std::normal_distribution<float> normal;
    std::vector<float> q(static_cast<size_t>(rows * kHead));
    for (float& v : q) v = normal(generator);
    std::fill_n(q.begin(), kCacheGroup, 0.0f);  // a group without a scale
    std::vector<uint32_t> packed(static_cast<size_t>(padded * kWords));
    for (int64_t r = 0; r < rows; ++r) {
      kernels.encode_query({q.data() + r * kHead, kHead, packed.data() + r / 16 * kWords * 16 + r % 16});
    }
    for (const int64_t key : {0, 1, 7, 8, 15}) {
      for (const bool few : {false, true}) {
        if (few && groups > 1) continue;
        std::vector<const unsigned char*> v_rows(kKeyTile, values.row(key));
        std::vector<uint32_t> v(static_cast<size_t>(kValue / 16 * kKeyTile / 2 * 16));
        kernels.values({v_rows.data(), kValue, values.scales, v.data()});
        std::vector<int32_t> valid(static_cast<size_t>(padded), 1);
        std::vector<float> max(static_cast<size_t>(padded), kNoScore), sum(max.size()), out(max.size() * kValue);
        AttentionTileArgs args{};
        args.q = packed.data();
        args.groups = groups;
        args.words = kWords;
        args.scale = 0.3f;
        args.k[0] = keys.row(key);
        args.k_stride = keys.stride;
        args.k_scales = keys.scales;
        args.v = v.data();
        args.panels = kValue / 16;
        args.rows = rows;
        args.columns = kValue;
        args.v_rows = v_rows.data();
        args.v_scales = values.scales;
        args.valid = valid.data();
        args.max = max.data();
        args.sum = sum.data();
        args.out = out.data();
        (few ? kernels.few_rows_tile : kernels.tile)(args);
        for (int64_t r = 0; r < rows; ++r) {
          EXPECT_EQ(max[static_cast<size_t>(r)], plain_score(q.data() + r * kHead, keys, key)) << rows << " " << key;
          for (int64_t c = 0; c < kValue; ++c) {
            const float value = static_cast<float>(values.code(key, c)) * values.scale(key, c / kCacheGroup);
            const int64_t at = few ? r * kValue + c : (r / 16 * kValue + c) * 16 + r % 16;
            EXPECT_EQ(out[static_cast<size_t>(at)], float_from_bf16(bf16_from_float(value))) << rows << " " << c;
          }
        }
      }
    }
  }
}

TEST(AttentionOverCodes, IsExact) {
  std::vector<const KernelTable*> tables = test::tested_tables();
  std::erase_if(tables,
                [](const KernelTable* table) { return !table->supported() || table->attention_codes.tile == nullptr; });
  for (const KernelTable* table : tables) {
    SCOPED_TRACE(table->name);
    score_codes_exactly(table->attention_codes);
  }
  if (tables.empty()) GTEST_SKIP() << "no table of this CPU attends over codes";
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryTable, testing::ValuesIn(test::tested_tables()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(ChooseKernels, NamesWhatExists) {
  EXPECT_TRUE(choose_kernels("auto"));
  EXPECT_EQ(choose_kernels("reference").value()->name, "reference");
  EXPECT_EQ(choose_kernels("mmx").error().code, ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace redoubt
