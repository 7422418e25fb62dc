#include "formats/packing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "formats/blocks.h"

namespace redoubt {
namespace {

std::vector<DType> packable_types() {
  std::vector<DType> types;
  for (int i = 0; i < kNumDTypes; ++i) {
    if (can_pack(static_cast<DType>(i), 256)) types.push_back(static_cast<DType>(i));
  }
  return types;
}

std::vector<std::byte> random_bytes(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator());
  return bytes;
}

TEST(Packing, IsTheSameSizeAndComesBackToTheBit) {
  for (const DType type : packable_types()) {
    for (const int64_t rows : {1, 7, 16}) {
      SCOPED_TRACE(std::string(info(type).name) + " rows " + std::to_string(rows));
      const int64_t cols = 512, stride = row_bytes(type, cols) + 3;
      const std::vector<std::byte> stored = random_bytes(static_cast<size_t>(rows * stride), 5);
      std::vector<std::byte> packed(static_cast<size_t>(packed_group_bytes(type, cols))), back(stored);
      EXPECT_EQ(static_cast<int64_t>(packed.size()), kPackedRows * row_bytes(type, cols));
      pack_group(type, stored.data(), stride, rows, cols, packed.data());
      for (int64_t r = 0; r < rows; ++r) std::memset(back.data() + r * stride, 0, static_cast<size_t>(stride - 3));
      unpack_group(type, packed.data(), rows, cols, back.data(), stride);
      EXPECT_EQ(back, stored);
    }
  }
}

TEST(Packing, ByWordsIsByCodes) {
  for (const DType type : packable_types()) {
    for (const int64_t rows : {1, 5, 16}) {
      for (const int64_t cols : {int64_t{256}, int64_t{768}}) {
        SCOPED_TRACE(std::string(info(type).name) + " rows " + std::to_string(rows));
        const int64_t stride = row_bytes(type, cols) + 5;
        const std::vector<std::byte> stored = random_bytes(static_cast<size_t>(rows * stride), 7);
        std::vector<std::byte> fast(static_cast<size_t>(packed_group_bytes(type, cols)), std::byte{0xAA});
        std::vector<std::byte> slow(fast.size(), std::byte{0x55});
        pack_group(type, stored.data(), stride, rows, cols, fast.data());
        pack_group_by_codes(type, stored.data(), stride, rows, cols, slow.data());
        EXPECT_EQ(fast, slow);
      }
    }
  }
}

// scale * (code - offset) + minimum, each step rounded, is what the type's own decoder computes.
TEST(Packing, UnitsSpellOutTheValuesOfTheStoredBlocks) {
  for (const DType type : packable_types()) {
    if (!has_packed_codes(type) || packed_shape(type).planes == 2) continue;
    SCOPED_TRACE(std::string(info(type).name));
    const int64_t rows = 11, cols = 512, stride = row_bytes(type, cols);
    const std::vector<std::byte> stored = random_bytes(static_cast<size_t>(rows * stride), 6);
    std::vector<std::byte> packed(static_cast<size_t>(packed_group_bytes(type, cols)));
    pack_group(type, stored.data(), stride, rows, cols, packed.data());
    std::vector<float> expected(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      decode_row(type, stored.data() + r * stride, expected);
      for (int64_t k = 0; k < cols; ++k) {
        const PackedUnit unit = packed_unit(type, packed.data(), cols, k / 32);
        const float scaled =
            unit.scale[k % 32 / 16][r] * static_cast<float>(unit.codes[0][r][k % 32] - packed_shape(type).offset);
        const float found = packed_shape(type).has_minimum ? scaled + unit.minimum[r] : scaled;
        const float wanted = expected[static_cast<size_t>(k)];
        if (std::isnan(wanted)) {
          EXPECT_TRUE(std::isnan(found));
        } else {
          ASSERT_EQ(found, wanted) << "row " << r << " column " << k;
        }
      }
    }
  }
}

// Zero is exact, so that rows of zeros stay zero.
TEST(Packing, TwoCodesMakeALevelOfNf4) {
  std::vector<std::byte> stored(36);
  const float absmax = 1.0f;
  std::memcpy(stored.data(), &absmax, 4);
  for (int j = 0; j < 32; ++j) stored[static_cast<size_t>(4 + j)] = static_cast<std::byte>(j % 16 | j % 16 << 4);
  std::vector<float> levels(64);
  decode_row(DType::nf4, stored.data(), levels);
  std::vector<std::byte> packed(static_cast<size_t>(packed_group_bytes(DType::nf4, 64)));
  pack_group(DType::nf4, stored.data(), 36, 1, 64, packed.data());
  const int offset = packed_shape(DType::nf4).offset;
  for (size_t k = 0; k < 64; ++k) {
    const PackedUnit unit = packed_unit(DType::nf4, packed.data(), 64, static_cast<int64_t>(k / 32));
    const float found = unit.scale[0][0] * static_cast<float>(unit.codes[0][0][k % 32] - offset) +
                        unit.scale[1][0] * static_cast<float>(unit.codes[1][0][k % 32] - offset);
    EXPECT_NEAR(found, levels[k], levels[k] == 0 ? 0.0f : 4e-6f) << k;
  }
}

TEST(Packing, RefusesRowsThatDoNotFillUnits) {
  EXPECT_FALSE(can_pack(DType::q4_0, 48));
  EXPECT_FALSE(can_pack(DType::q4_k, 128));
  EXPECT_FALSE(can_pack(DType::bf16, 33));
  EXPECT_FALSE(can_pack(DType::f32, 256));
  EXPECT_FALSE(can_pack(DType::nf4, 96));
  EXPECT_TRUE(can_pack(DType::q8_0, 96));
}

}  // namespace
}  // namespace redoubt
