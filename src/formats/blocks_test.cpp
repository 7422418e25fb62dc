#include "formats/blocks.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "npz.h"

namespace redoubt {
namespace {

using test::Npz;

const std::byte* as_bytes(const std::vector<uint8_t>& v) { return reinterpret_cast<const std::byte*>(v.data()); }

Npz golden_quants() {
  const auto data = test::test_data();
  return data.empty() ? Npz{} : test::read_npz(data / "golden/quants.npz");
}

TEST(Blocks, GoldenTypesDecodeToTheBit) {
  const Npz npz = golden_quants();
  if (npz.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/quants.npz";
  int types = 0;
  for (const auto& [key, raw] : npz) {
    if (!key.ends_with("_raw")) continue;
    const std::string name = key.substr(0, key.size() - 4);
    const auto dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype) << name;
    ASSERT_TRUE(can_decode(*dtype)) << name;
    const std::vector<float> want = npz.at(name + "_f32").as<float>();
    const auto row = static_cast<size_t>(npz.at(name + "_f32").shape[1]);
    std::vector<float> got(want.size());
    for (size_t r = 0; r * row < want.size(); ++r) {
      decode_row(*dtype, as_bytes(raw.bytes) + static_cast<int64_t>(r) * raw.shape[1], {got.data() + r * row, row});
    }
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(std::bit_cast<uint32_t>(want[i]), std::bit_cast<uint32_t>(got[i]))
          << name << " element " << i << ": want " << want[i] << " got " << got[i];
    }
    ++types;
  }
  EXPECT_GE(types, 23);
}

TEST(Blocks, GoldenRoundingEncodesToTheByte) {
  const Npz npz = golden_quants();
  if (npz.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/quants.npz";
  for (const auto& [key, from] : npz) {
    if (!key.ends_with("_from")) continue;
    const std::string name = key.substr(0, key.size() - 5);
    const auto dtype = dtype_from_name(name);
    ASSERT_TRUE(dtype && can_encode(*dtype)) << name;
    const std::vector<float> in = from.as<float>();
    const auto& want = npz.at(name + "_packed");
    std::vector<uint8_t> got(want.bytes.size());
    const auto row = static_cast<size_t>(from.shape[1]);
    for (size_t r = 0; r * row < in.size(); ++r) {
      encode_row(*dtype, {in.data() + r * row, row},
                 reinterpret_cast<std::byte*>(got.data()) + static_cast<int64_t>(r) * want.shape[1]);
    }
    for (size_t i = 0; i < got.size(); ++i) ASSERT_EQ(want.bytes[i], got[i]) << name << " byte " << i;
  }
}

std::vector<float> gaussian(size_t n) {
  std::mt19937 generator(7);
  std::normal_distribution<float> draw(0.0f, 0.02f);
  std::vector<float> values(n);
  for (float& v : values) v = draw(generator);
  return values;
}

double relative_rms_error(DType dtype, const std::vector<float>& in) {
  std::vector<std::byte> packed(static_cast<size_t>(row_bytes(dtype, static_cast<int64_t>(in.size()))));
  encode_row(dtype, in, packed.data());
  std::vector<float> out(in.size());
  decode_row(dtype, packed.data(), out);
  double error = 0, power = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    error += (in[i] - out[i]) * (in[i] - out[i]);
    power += in[i] * in[i];
  }
  return std::sqrt(error / power);
}

TEST(Blocks, EncodersKeepGaussianWeightsWithinTheFormatsError) {
  const std::vector<float> in = gaussian(256 * 64);
  // Twice a type's bits halves nothing by accident: these are the figures measured for a good encoder, with a margin.
  EXPECT_LT(relative_rms_error(DType::q8_0, in), 0.0062);
  EXPECT_LT(relative_rms_error(DType::q6_k, in), 0.020);
  EXPECT_LT(relative_rms_error(DType::q5_k, in), 0.038);
  EXPECT_LT(relative_rms_error(DType::q4_k, in), 0.076);
  EXPECT_LT(relative_rms_error(DType::iq4_nl, in), 0.085);
  EXPECT_LT(relative_rms_error(DType::q4_0, in), 0.10);
  EXPECT_LT(relative_rms_error(DType::bf16, in), 0.002);
}

TEST(Blocks, EncodersTakeAnyFloats) {  // zeros, constants, infinities, NaN, subnormals: no trap, no read of garbage
  for (const float special : {0.0f, -0.0f, 1.0f, -3.0f, INFINITY, -INFINITY, NAN, 1e-42f, 3e38f}) {
    std::vector<float> in(256, special);
    std::vector<float> out(256);
    for (int type = 0; type <= static_cast<int>(DType::nvfp4); ++type) {
      const auto dtype = static_cast<DType>(type);
      if (!can_encode(dtype)) continue;
      std::vector<std::byte> packed(static_cast<size_t>(row_bytes(dtype, 256)));
      encode_row(dtype, in, packed.data());
      decode_row(dtype, packed.data(), out);
      if (special == 1.0f) {
        EXPECT_NEAR(out[0], 1.0f, 0.08f) << info(dtype).name;
      }
      if (special == 0.0f) {
        EXPECT_EQ(out[0], 0.0f) << info(dtype).name;
      }
    }
    in[17] = 0.5f;
    for (const DType dtype : {DType::q4_k, DType::q6_k, DType::iq4_nl, DType::mxfp4}) {
      std::vector<std::byte> packed(static_cast<size_t>(row_bytes(dtype, 256)));
      encode_row(dtype, in, packed.data());
    }
  }
}

}  // namespace
}  // namespace redoubt
