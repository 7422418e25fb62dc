// synth, inspect, npy, and a GGUF file of another program's making.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "formats/checkpoint.h"
#include "formats/convert.h"
#include "formats/gguf.h"
#include "formats/inspect.h"
#include "formats/npy.h"
#include "formats/synth.h"
#include "formats/tokenizer_keys.h"
#include "npz.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

TEST(Npy, IsReadBack) {
  test::TemporaryFolder folder;
  const std::vector<float> values{1, 2, 3, -4.5f, 0, 6};
  const int64_t shape[] = {2, 3};
  ASSERT_TRUE(write_npy(folder / "a.npy", values, shape));
  const test::NpyArray array = test::read_npy(folder / "a.npy");
  EXPECT_EQ(array.dtype, "<f4");
  EXPECT_EQ(array.shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(array.as<float>(), values);
}

// The tensors of a synthetic model are those of a published one of the same configuration, in either container.
TEST(Synth, HasTheShapesOfGoldenModels) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  for (const auto& entry : fs::directory_iterator(data / "golden/models")) {
    SCOPED_TRACE(entry.path());
    test::TemporaryFolder folder;
    ThreadPool pool(2);
    const fs::path config = entry.path() / "config.json";
    for (const auto& [name, type] : std::vector<std::pair<std::string, DType>>{
             {"a", DType::bf16}, {"b", DType::f8_e4m3}, {"a.gguf", DType::q4_k}, {"b.gguf", DType::bf16}}) {
      const auto made = synthesize(config, folder / name, {.type = type, .pool = &pool});
      ASSERT_TRUE(made) << made.error().message;
    }
    ASSERT_TRUE(synthesize(config, folder / "again", {.type = DType::bf16}));
    const auto golden = Checkpoint::open(entry.path()), a = Checkpoint::open(folder / "a"),
               again = Checkpoint::open(folder / "again");
    ASSERT_TRUE(golden && a && again);
    std::set<std::string> want, got;
    for (const TensorView& tensor : golden->tensors()) {
      if (tensor.name.ends_with("_scale_inv")) continue;
      want.emplace(tensor.name);
      const TensorView* found = a->find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      EXPECT_EQ(found->shape, tensor.shape) << tensor.name;
    }
    for (const TensorView& tensor : a->tensors()) {
      got.emplace(tensor.name);
      const TensorView* same = again->find(tensor.name);
      ASSERT_NE(same, nullptr);
      EXPECT_EQ(std::memcmp(tensor.data.data(), same->data.data(), tensor.data.size()), 0) << tensor.name;
    }
    EXPECT_EQ(want, got);
    for (const char* name : {"b", "a.gguf", "b.gguf"}) {
      const auto model = Checkpoint::open(folder / name);
      ASSERT_TRUE(model) << model.error().message;
      EXPECT_EQ(model->config().num_nextn_predict_layers, golden->config().num_nextn_predict_layers) << name;
      EXPECT_EQ(model->config().num_hidden_layers, golden->config().num_hidden_layers) << name;
    }
  }
}

// A file of random weights carries the tokenizer beside its configuration; without one it says so in the key that other
// programs ask for.
TEST(Synth, CarriesTheTokenizerBesideTheConfiguration) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  const fs::path vocabulary = data / "tokenizers/qwen3";
  if (!fs::exists(vocabulary)) GTEST_SKIP() << "NO TEST DATA: " << vocabulary;
  test::TemporaryFolder folder;
  const fs::path config = folder / "config.json";
  std::ofstream(config) << R"({"model_type":"qwen2","hidden_size":32,"num_hidden_layers":1,"num_attention_heads":2,
    "num_key_value_heads":1,"intermediate_size":64,"vocab_size":151936,"max_position_embeddings":128,
    "rms_norm_eps":1e-6,"rope_theta":10000,"tie_word_embeddings":false})";
  const auto without = synthesize(config, folder / "without.gguf", {.type = DType::q4_0});
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_EQ(without->notes.size(), 1u);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) fs::copy(vocabulary / name, folder / name);
  ASSERT_TRUE(synthesize(config, folder / "with.gguf", {.type = DType::q4_0}));

  const auto bare = GgufFile::open(folder / "without.gguf"), full = GgufFile::open(folder / "with.gguf");
  ASSERT_TRUE(bare && full);
  EXPECT_EQ(bare->string("tokenizer.ggml.model"), "no_vocab");
  EXPECT_EQ(full->string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(full->strings("tokenizer.ggml.tokens")->size(), 151936u);
}

TEST(Inspect, CountsGoldenModels) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  for (const auto& entry : fs::directory_iterator(data / "golden/models")) {
    const auto summary = inspect(entry.path());
    ASSERT_TRUE(summary) << summary.error().message;
    EXPECT_GT(summary->parameters, 100'000);
    EXPECT_LE(summary->active_parameters, summary->parameters);
    EXPECT_EQ(to_json(*summary)["architecture"], summary->architecture);
    EXPECT_NE(to_text(*summary).find(summary->name), std::string::npos);
  }
}

// A vocabulary file's tokenizer.json, composed of its keys, gives the same keys again.
TEST(TokenizerKeys, VocabulariesReturn) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds vocab/*.gguf";
  for (const auto& entry : fs::directory_iterator(data / "vocab")) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path());
    test::TemporaryFolder folder;
    const auto file = GgufFile::open(entry.path());
    ASSERT_TRUE(file);
    std::vector<std::string> notes;
    ASSERT_TRUE(write_tokenizer_files(*file, folder.path(), notes));
    EXPECT_TRUE(notes.empty()) << notes.front();
    GgufMetadata metadata;
    const auto tokens = *file->strings("tokenizer.ggml.tokens");
    ASSERT_TRUE(add_tokenizer_keys(SideFiles::in_directory(folder.path()), static_cast<int64_t>(tokens.size()), {},
                                   metadata, notes));
    std::map<std::string, GgufMetadataValue> keys(metadata.begin(), metadata.end());
    EXPECT_EQ(std::get<std::string>(keys["tokenizer.ggml.pre"]),
              file->string("tokenizer.ggml.pre").value_or("default"));
    const auto& back = std::get<std::vector<std::string>>(keys["tokenizer.ggml.tokens"]);
    const auto& types = std::get<std::vector<int32_t>>(keys["tokenizer.ggml.token_type"]);
    const auto was = *file->integers("tokenizer.ggml.token_type");
    ASSERT_EQ(back.size(), tokens.size());
    for (size_t id = 0; id < tokens.size(); ++id) {
      ASSERT_EQ(types[id], was[id]) << id;
      if (types[id] != 5) {  // filler has no text of its own
        ASSERT_EQ(back[id], tokens[id]) << id;
      }
    }
    const auto merges = *file->strings("tokenizer.ggml.merges");
    EXPECT_TRUE(std::ranges::equal(std::get<std::vector<std::string>>(keys["tokenizer.ggml.merges"]), merges));
  }
}

// The small real model, where REDOUBT_REAL_MODEL names it: a file that we did not write.
TEST(Convert, RealGgufToDirectoryAndBack) {
  const char* path = std::getenv("REDOUBT_REAL_MODEL");
  if (path == nullptr) GTEST_SKIP() << "NO REAL MODEL: set REDOUBT_REAL_MODEL to the .gguf file";
  test::TemporaryFolder folder;
  ThreadPool pool(2);
  const auto there = convert(path, folder / "directory", {.type = DType::bf16, .pool = &pool});
  ASSERT_TRUE(there) << there.error().message;
  for (const std::string& note : there->notes) std::printf("%s\n", note.c_str());
  EXPECT_TRUE(fs::exists(folder / "directory/tokenizer.json"));
  const auto back = convert(folder / "directory", folder / "again.gguf", {.pool = &pool});
  ASSERT_TRUE(back) << back.error().message;
  const auto before = Checkpoint::open(path), after = Checkpoint::open(folder / "again.gguf");
  ASSERT_TRUE(before && after);
  EXPECT_EQ(before->tensors().size(), after->tensors().size());
  EXPECT_EQ(before->chat_template(), after->chat_template());
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    EXPECT_EQ(before->gguf()->strings(key), after->gguf()->strings(key)) << key;
  }
  EXPECT_EQ(before->gguf()->string("tokenizer.ggml.pre"), after->gguf()->string("tokenizer.ggml.pre"));
}

}  // namespace
}  // namespace redoubt
