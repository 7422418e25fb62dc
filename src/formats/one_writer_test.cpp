// Two commands that write the same model: one does, the other is told at once, and what is there is whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <sstream>

#include "formats/convert.h"
#include "formats/quantize.h"
#include "formats/synth.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

class OneWriter : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    config_ = folder_ / "config.json";
    std::ofstream(config_)
        << R"({"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":256,"intermediate_size":512,
               "num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,"vocab_size":512,
               "max_position_embeddings":512,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":false})";
    for (const uint64_t seed : {1, 2}) ASSERT_TRUE(synthesize(config_, model(seed), {.seed = seed}));
    for (const fs::path& folder : {alone_, shared_}) fs::create_directory(folder);
    ASSERT_TRUE(convert(model(1), alone_ / GetParam()));
  }
  fs::path model(uint64_t seed) const { return folder_ / ("model" + std::to_string(seed) + ".gguf"); }

  test::TemporaryFolder folder_;
  fs::path config_;
  const fs::path alone_ = folder_ / "alone", shared_ = folder_ / "shared";
};

TEST_P(OneWriter, IsTheFirst) {
  const fs::path out = shared_ / GetParam();
  std::vector<std::function<Result<ConvertReport>()>> others{[&] { return convert(model(2), out); }};
  if (out.extension() != ".redoubt-packed") {
    others.emplace_back([&] { return quantize(model(2), out, {.type = DType::bf16}); });
    others.emplace_back([&] { return synthesize(config_, out, {.seed = 2}); });
  }
  const std::string reason = ": another process is writing it";
  size_t refused = 0;
  const auto meanwhile = [&](int64_t, int64_t) {
    if (refused > 0) return;
    for (const auto& other : others) {
      const auto report = other();
      ASSERT_FALSE(report);
      EXPECT_NE(report.error().message.find(reason), std::string::npos) << report.error().message;
      ++refused;
    }
  };
  const auto report = convert(model(1), out, {.progress = meanwhile});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(refused, others.size());
  for (const auto& entry : fs::recursive_directory_iterator(shared_)) {
    if (entry.is_directory()) continue;
    EXPECT_TRUE(text_of(entry.path()) == text_of(alone_ / fs::relative(entry.path(), shared_))) << entry.path();
  }
}

TEST_P(OneWriter, TakesTheNameThatAKilledProcessLeft) {
  const fs::path out = shared_ / GetParam();
  if (fs::is_directory(alone_ / GetParam())) {
    fs::create_directory(out);
    for (const char* name : {"config.json.partial", "model.safetensors.partial"}) std::ofstream(out / name) << "half";
  } else {
    std::ofstream(out.string() + ".partial") << "half";
  }
  const auto report = convert(model(1), out);
  ASSERT_TRUE(report) << report.error().message;
  std::vector<fs::path> made, expected;
  for (const auto& entry : fs::recursive_directory_iterator(shared_)) made.push_back(fs::relative(entry, shared_));
  for (const auto& entry : fs::recursive_directory_iterator(alone_)) expected.push_back(fs::relative(entry, alone_));
  std::ranges::sort(made);
  std::ranges::sort(expected);
  EXPECT_EQ(made, expected);
  EXPECT_FALSE(convert(model(2), out));
}

INSTANTIATE_TEST_SUITE_P(OfEveryContainer, OneWriter, testing::Values("out.gguf", "out.redoubt-packed", "out"));

}  // namespace
}  // namespace redoubt
