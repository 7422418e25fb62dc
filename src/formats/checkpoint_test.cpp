#include "formats/checkpoint.h"

#include <gtest/gtest.h>

#include <bit>

#include "core/float_bits.h"
#include "formats/blocks.h"
#include "formats/gguf.h"
#include "npz.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> golden_models() {
  std::vector<fs::path> models;
  const fs::path data = test::test_data();
  if (data.empty()) return models;
  for (const auto& entry : fs::directory_iterator(data / "golden/models")) models.push_back(entry.path());
  return models;
}

TEST(Checkpoint, EveryGoldenModelOpens) {
  const auto models = golden_models();
  if (models.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  for (const fs::path& path : models) {
    auto checkpoint = Checkpoint::open(path);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const ModelConfig& config = checkpoint->config();
    EXPECT_EQ(config.name, path.filename().string());
    EXPECT_EQ(checkpoint->generation().eos_token_ids, std::vector<int32_t>{1});
    EXPECT_EQ(checkpoint->generation().temperature, 0.6);
    const TensorView* embedding = checkpoint->find("model.embed_tokens.weight");
    ASSERT_NE(embedding, nullptr) << path;
    EXPECT_EQ(embedding->shape, (std::vector<int64_t>{config.vocab_size, config.hidden_size}));
    EXPECT_EQ(checkpoint->find("lm_head.weight") == nullptr, config.tie_word_embeddings);
    EXPECT_FALSE(checkpoint->chat_template().empty());
    for (const TensorView& tensor : checkpoint->tensors()) EXPECT_EQ(checkpoint->find(tensor.name), &tensor);
    if (config.architecture == Architecture::deepseek) {
      EXPECT_EQ(config.rope.scaling, RopeConfig::Scaling::yarn);
      EXPECT_EQ(config.rope_style, RopeStyle::interleaved);
    }
  }
}

// e4m3 x scale, computed here from the format's definition rather than with the code under test.
float e4m3_by_definition(uint8_t code) {
  const int exponent = (code >> 3) & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? mantissa / 8.0 * std::exp2(-6) : (1 + mantissa / 8.0) * std::exp2(exponent - 7);
  return static_cast<float>((code & 0x80) != 0 ? -magnitude : magnitude);
}

TEST(Checkpoint, Fp8WeightsDecodeToTheBit) {
  int weights = 0;
  for (const fs::path& path : golden_models()) {
    auto checkpoint = Checkpoint::open(path);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    for (const TensorView& tensor : checkpoint->tensors()) {
      if (tensor.dtype != DType::f8_e4m3) continue;
      ++weights;
      ASSERT_NE(checkpoint->find(std::string(tensor.name) + "_scale_inv"), nullptr) << tensor.name;
      std::vector<float> values(tensor.data.size());
      decode_row(DType::f8_e4m3, tensor.data.data(), values);
      for (size_t i = 0; i < values.size(); ++i) {
        const float expected = e4m3_by_definition(static_cast<uint8_t>(tensor.data[i]));
        ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected)) << tensor.name;
      }
    }
  }
  if (weights == 0) GTEST_SKIP() << "NO TEST DATA: no golden model with FP8 weights";
}

TEST(Checkpoint, VocabularyFilesOpenAsGguf) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds vocab/*.gguf";
  for (const auto& entry : fs::directory_iterator(data / "vocab")) {
    if (entry.path().extension() != ".gguf") continue;
    auto file = GgufFile::open(entry.path());
    ASSERT_TRUE(file) << file.error().message;
    const auto tokens = file->strings("tokenizer.ggml.tokens");
    ASSERT_TRUE(tokens) << entry.path();
    EXPECT_GT(tokens->size(), 30000u);
    EXPECT_EQ(file->integers("tokenizer.ggml.token_type")->size(), tokens->size());
    EXPECT_FALSE(Checkpoint::open(entry.path()).has_value());  // a vocabulary is no model
  }
}

}  // namespace
}  // namespace redoubt
