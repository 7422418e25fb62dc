// What is wrong with a model's tensors is told with the file that is to be looked at.
#include <gtest/gtest.h>

#include <string>

#include "altered_model.h"
#include "formats/convert.h"
#include "formats/synth.h"
#include "model/model.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

class WrongWeights : public testing::Test {
 protected:
  void SetUp() override {
    write_config(2);
    const auto made = synthesize(folder_ / "config.json", model_, {.type = DType::bf16});
    ASSERT_TRUE(made.has_value()) << made.error().message;
  }
  void write_config(int layers) const { std::ofstream(folder_ / "config.json") << config(layers); }
  static std::string config(int layers) {
    return R"({"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":64,"intermediate_size":96,
               "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":128,"max_position_embeddings":512,
               "rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":false,"num_hidden_layers":)" +
           std::to_string(layers) + "}";
  }
  static std::string load_error(const fs::path& path) {
    const auto checkpoint = Checkpoint::open(path);
    if (!checkpoint) return "not opened: " + checkpoint.error().message;
    const auto model = Model::load(*checkpoint, {.threads = 1});
    return model ? "" : model.error().message;
  }

  test::TemporaryFolder folder_;
  const fs::path model_ = folder_ / "model";
};

TEST_F(WrongWeights, AShapeIsToldWithTheFileThatHoldsIt) {
  fs::path file = test::say_shape(model_, "model.layers.1.mlp.up_proj.weight", {64, 96});
  EXPECT_EQ(load_error(model_),
            file.string() + ": tensor 'model.layers.1.mlp.up_proj.weight': expected [96, 64], found [64, 96]");
  test::say_shape(model_, "model.layers.1.mlp.up_proj.weight", {96, 64});
  EXPECT_EQ(load_error(model_), "");
  file = test::say_shape(model_, "model.norm.weight", {32, 2});
  EXPECT_EQ(load_error(model_), "") << "as many values";
}

TEST_F(WrongWeights, AMissingTensorIsToldWithTheModel) {
  std::ofstream(model_ / "config.json") << config(3);
  EXPECT_EQ(load_error(model_), model_.string() +
                                    ": tensor 'model.layers.2.input_layernorm.weight': expected 64 values, "
                                    "found no such tensor");
}

TEST_F(WrongWeights, OfGgufByTheNameInTheFile) {
  // The file's own numbers are turned into another width, of which its tensors know nothing.
  const fs::path file = folder_ / "model.gguf";
  ASSERT_TRUE(synthesize(folder_ / "config.json", file, {.type = DType::bf16}).has_value());
  EXPECT_EQ(load_error(file), "");
  std::string bytes = test::file_text(file);
  const auto change = [&](const std::string& key, uint32_t from, uint32_t to) {
    const size_t at = bytes.find(key) + key.size() + 4;  // after the value's type
    ASSERT_LT(at, bytes.size());
    uint32_t found = 0;
    std::memcpy(&found, bytes.data() + at, 4);
    ASSERT_EQ(found, from) << key;
    std::memcpy(bytes.data() + at, &to, 4);
    std::ofstream(file, std::ios::binary) << bytes;
  };
  change("qwen2.feed_forward_length", 96, 95);
  EXPECT_EQ(load_error(file), file.string() + ": tensor 'blk.0.ffn_gate.weight': expected [95, 64], found [96, 64]");
  change("qwen2.feed_forward_length", 95, 96);
  change("qwen2.block_count", 2, 3);
  EXPECT_EQ(load_error(file),
            file.string() + ": tensor 'blk.2.attn_norm.weight': expected 64 values, found no such tensor");
}

}  // namespace
}  // namespace redoubt
