// A model whole in one packed file: what goes in comes out to the bit, and damage is refused by name.
#include "formats/packed_model.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include "core/json.h"
#include "formats/config_json.h"
#include "formats/gguf.h"
#include "formats/packed_file.h"
#include "formats/packing.h"
#include "formats/quantized_matrix.h"
#include "formats/tensor_rows.h"
#include "npz.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

class PackedModel : public testing::Test {
 protected:
  static void converted(const fs::path& in, const fs::path& out) {
    ThreadPool pool(2);
    const auto report = convert(in, out, {.pool = &pool});
    ASSERT_TRUE(report) << in << ": " << report.error().message;
  }
  static std::string text_of(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  static std::map<std::string, std::string> files_of(const fs::path& path) {
    std::map<std::string, std::string> files;
    if (!fs::is_directory(path)) return {{"", text_of(path)}};
    for (const auto& entry : fs::directory_iterator(path))
      files[entry.path().filename().string()] = text_of(entry.path());
    return files;
  }
  // A GGUF model with a matrix of every type that GGUF has a number for, random bits, rows that fill no group.
  fs::path model_of_every_type() {
    GgufMetadata metadata{{"general.architecture", std::string("llama")},
                          {"llama.embedding_length", uint32_t{512}},
                          {"llama.feed_forward_length", uint32_t{37}},
                          {"llama.block_count", uint32_t{1}},
                          {"llama.attention.head_count", uint32_t{8}},
                          {"llama.context_length", uint32_t{128}},
                          {"llama.vocab_size", uint32_t{40}},
                          {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                          {"split.count", uint16_t{1}},
                          {"tokenizer.ggml.tokens", std::vector<std::string>{"a", "", "b"}},
                          {"tokenizer.chat_template", std::string("{{ messages }}")}};
    std::vector<OutputTensor> tensors;
    for (int i = 0; i < kNumDTypes; ++i) {
      const auto type = static_cast<DType>(i);
      if (info(type).ggml_type < 0) continue;
      OutputTensor tensor{.name = fmt_name(type), .dtype = type, .shape = {37, 512}};
      tensor.fill = [type](int64_t begin, int64_t end, std::byte* out) {
        std::mt19937 generator(static_cast<uint32_t>(begin));
        for (int64_t at = 0; at < (end - begin) * row_bytes(type, 512); ++at)
          out[at] = static_cast<std::byte>(generator());
      };
      tensors.push_back(std::move(tensor));
    }
    const fs::path path = folder_ / "every.gguf";
    EXPECT_TRUE(write_gguf(path, metadata, tensors));
    return path;
  }
  static std::string fmt_name(DType type) { return "blk." + std::to_string(static_cast<int>(type)) + ".ffn_up.weight"; }
  void change_byte(const fs::path& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(at);
    file.put(byte);
  }

  test::TemporaryFolder folder_;
};

std::vector<std::byte> stored_bytes(const Checkpoint& model, const TensorView& tensor) {
  const TensorRows rows = rows_of(model, tensor);
  std::vector<std::byte> bytes(static_cast<size_t>(rows.rows * row_bytes(tensor.dtype, rows.cols)));
  if (rows.raw) rows.raw(0, rows.rows, bytes.data());
  return bytes;
}

void expect_same_model(const Checkpoint& a, const Checkpoint& b) {
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  for (size_t i = 0; i < a.tensors().size(); ++i) {
    const TensorView &x = a.tensors()[i], &y = b.tensors()[i];
    SCOPED_TRACE(std::string(x.name));
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.dtype, y.dtype);
    EXPECT_EQ(x.shape, y.shape);
    EXPECT_EQ(stored_bytes(a, x), stored_bytes(b, y));
  }
  EXPECT_TRUE(config_to_gguf(a.config()) == config_to_gguf(b.config()));
  EXPECT_EQ(a.generation().eos_token_ids, b.generation().eos_token_ids);
  EXPECT_EQ(a.chat_template(), b.chat_template());
}

TEST_F(PackedModel, HoldsEveryTypeToTheBit) {
  const fs::path source = model_of_every_type(), packed = folder_ / "every.redoubt-packed";
  converted(source, packed);
  const Checkpoint before = Checkpoint::open(source).value(), after = Checkpoint::open(packed).value();
  expect_same_model(before, after);
  int64_t num_packed = 0;
  for (const TensorView& tensor : after.tensors()) {
    ASSERT_NE(tensor.packed, nullptr);
    EXPECT_EQ(tensor.packed->form == PackedForm::packed, can_pack(tensor.dtype, 512));
    num_packed += tensor.packed->form == PackedForm::packed ? 1 : 0;
  }
  EXPECT_GE(num_packed, 11);
  // A middle row of a matrix, as a permutation of rows asks for it.
  for (const TensorView& tensor : after.tensors()) {
    const TensorRows rows = rows_of(after, tensor);
    const auto stride = static_cast<size_t>(row_bytes(tensor.dtype, 512));
    std::vector<std::byte> row(3 * stride);
    rows.raw(15, 18, row.data());
    const std::vector<std::byte> all = stored_bytes(after, tensor);
    EXPECT_EQ(std::memcmp(row.data(), all.data() + 15 * stride, 3 * stride), 0) << tensor.name;
  }
  fs::remove(source);
  converted(packed, folder_ / "back.gguf");
  expect_same_model(after, Checkpoint::open(folder_ / "back.gguf").value());
  converted(packed, folder_ / "again.redoubt-packed");  // from itself: the same file
  EXPECT_EQ(text_of(folder_ / "again.redoubt-packed"), text_of(packed));
}

// Rows of 594 bytes: windows and chunks end inside each other's rows.
TEST_F(PackedModel, TheWindowItIsWrittenByIsNotSeen) {
  const GgufMetadata metadata{
      {"general.architecture", std::string("llama")}, {"llama.embedding_length", uint32_t{1056}},
      {"llama.feed_forward_length", uint32_t{5001}},  {"llama.block_count", uint32_t{1}},
      {"llama.attention.head_count", uint32_t{8}},    {"llama.context_length", uint32_t{128}},
      {"llama.vocab_size", uint32_t{5001}},           {"llama.attention.layer_norm_rms_epsilon", 1e-5f}};
  OutputTensor matrix{.name = "blk.0.ffn_up.weight", .dtype = DType::q4_0, .shape = {5001, 1056}};
  matrix.fill = [](int64_t begin, int64_t end, std::byte* out) {
    for (int64_t row = begin; row < end; ++row) {
      std::mt19937 generator(static_cast<uint32_t>(row));
      for (int64_t i = 0; i < row_bytes(DType::q4_0, 1056); ++i) *out++ = static_cast<std::byte>(generator());
    }
  };
  OutputTensor embedding = matrix;  // stored
  embedding.name = "token_embd.weight";
  const fs::path source = folder_ / "wide.gguf";
  ASSERT_TRUE(write_gguf(source, metadata, std::vector{matrix, embedding}));
  const Checkpoint model = Checkpoint::open(source).value();
  ThreadPool pool(2);
  ASSERT_TRUE(write_packed_model(model, folder_ / "wide", {.pool = &pool}));
  const std::string expected = text_of(folder_ / "wide");
  for (const int64_t window : {int64_t{1}, int64_t{300'000}, int64_t{2'500'000}}) {
    ASSERT_TRUE(write_packed_model(model, folder_ / "windows", {.pool = &pool}, window));
    EXPECT_TRUE(text_of(folder_ / "windows") == expected) << window;
    fs::remove(folder_ / "windows");
  }
  const Checkpoint packed = Checkpoint::open(folder_ / "wide").value();
  EXPECT_EQ(packed.tensors()[0].packed->form, PackedForm::packed);
  EXPECT_EQ(packed.tensors()[0].packed->chunks(), 3);
  EXPECT_EQ(packed.tensors()[1].packed->form, PackedForm::stored);
  expect_same_model(model, packed);
}

TEST_F(PackedModel, FilesThatDoNotTravelAreNamed) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  const fs::path source = folder_ / "model";
  fs::copy(data / "golden/models/qwen2", source);
  fs::remove(source / "golden.npz");
  std::ofstream(source / "README.md") << "license: mit";
  std::ofstream(source / "LICENSE") << "MIT";
  EXPECT_TRUE(convert(source, folder_ / "all.redoubt-packed")->notes.empty());
  std::ofstream(source / "vocab.json") << "{}";
  std::ofstream(source / "pytorch_model.bin") << "x";
  const auto report = convert(source, folder_ / "some.redoubt-packed");
  EXPECT_EQ(report->notes, std::vector<std::string>{"Left out: 'pytorch_model.bin', 'vocab.json'."});
}

// Whatever a golden model becomes of its packed form, it becomes of itself, byte for byte.
TEST_F(PackedModel, GoldenModelsLeadBackAsFromTheSource) {
  const fs::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "NO TEST DATA: set REDOUBT_TEST_DATA to the folder that holds golden/models";
  for (const auto& entry : fs::directory_iterator(data / "golden/models")) {
    if (!entry.is_directory()) continue;
    const fs::path here = folder_ / entry.path().filename();
    fs::create_directory(here);
    SCOPED_TRACE(here.filename().string());
    converted(entry.path(), here / "direct.gguf");
    for (const fs::path& source : {entry.path(), here / "direct.gguf"}) {
      const std::string name = (source == entry.path() ? source.filename() : source.stem()).string();
      const fs::path packed = here / (name + ".redoubt-packed");
      converted(source, packed);
      ASSERT_TRUE(verify_packed_file(packed));
      expect_same_model(Checkpoint::open(source).value(), Checkpoint::open(packed).value());
      for (const std::string ending : {".gguf", ""}) {
        const fs::path one = here / ("one" + ending), other = here / ("other" + ending);
        converted(source, one);
        converted(packed, other);
        EXPECT_EQ(files_of(one), files_of(other));
        fs::remove_all(one);
        fs::remove_all(other);
      }
    }
  }
}

TEST_F(PackedModel, AChangedByteIsRefusedByTheNameOfItsTensor) {
  const fs::path source = model_of_every_type(), packed = folder_ / "every.redoubt-packed";
  converted(source, packed);
  const auto file = PackedFile::open(packed).value();
  for (const PackedFileTensor& tensor : file->index().tensors) {
    change_byte(packed, tensor.offset + tensor.bytes() / 2);
    const auto verified = verify_packed_file(packed);
    ASSERT_FALSE(verified);
    EXPECT_NE(verified.error().message.find(tensor.name), std::string::npos) << verified.error().message;
    const auto back = convert(packed, folder_ / "back.gguf");
    ASSERT_FALSE(back) << tensor.name;
    EXPECT_EQ(back.error().code, ErrorCode::corrupt_data);
    EXPECT_NE(back.error().message.find(tensor.name), std::string::npos) << back.error().message;
    EXPECT_NE(back.error().message.find("chunk 0 of 1"), std::string::npos) << back.error().message;
    EXPECT_FALSE(fs::exists(folder_ / "back.gguf"));
    change_byte(packed, tensor.offset + tensor.bytes() / 2);
  }
  EXPECT_TRUE(verify_packed_file(packed));
}

TEST_F(PackedModel, OtherFilesAndOutputsAreRefusedInOneSentence) {
  const fs::path source = model_of_every_type(), packed = folder_ / "every.redoubt-packed";
  converted(source, packed);
  EXPECT_FALSE(convert(source, packed));  // it exists
  EXPECT_FALSE(convert(source, folder_ / "typed.redoubt-packed", {.type = DType::f32}));
  fs::resize_file(packed, fs::file_size(packed) - 1);
  const auto truncated = Checkpoint::open(packed);
  ASSERT_FALSE(truncated);
  EXPECT_NE(truncated.error().message.find("every.redoubt-packed"), std::string::npos);
  // Names where the program keeps files of its own.
  fs::create_directory(folder_ / "directory");
  std::ofstream(folder_ / "directory/config.json") << "{}";
  for (const char* name : {"every.gguf.redoubt-packed", "directory/weights.redoubt-packed"}) {
    const auto kept = convert(source, folder_ / name);
    ASSERT_FALSE(kept) << name;
    EXPECT_NE(kept.error().message.find("expected another name"), std::string::npos) << kept.error().message;
    EXPECT_FALSE(fs::exists(folder_ / name));
  }
  // A name without an ending, and --to.
  ASSERT_TRUE(convert(source, folder_ / "plain", {.to = Container::packed}));
  EXPECT_TRUE(Checkpoint::open(folder_ / "plain"));
}

}  // namespace
}  // namespace redoubt
