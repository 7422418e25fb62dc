// A model whose packed form is kept answers to the bit as one that is packed in memory, whatever happened to the file.
#include "model/packed_store.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <chrono>
#include <fstream>

#include "core/mapped_file.h"
#include "formats/convert.h"
#include "formats/model_writer.h"
#include "formats/packed_file.h"
#include "formats/synth.h"
#include "kernels/kernel_table.h"
#include "log_lines.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;

class KeptModel : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream(folder_ / "config.json")
        << R"({"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":256,"intermediate_size":512,
               "num_attention_heads":4,"num_key_value_heads":2,"num_hidden_layers":2,"vocab_size":2048,
               "max_position_embeddings":512,"rms_norm_eps":1e-6,"rope_theta":10000.0,"tie_word_embeddings":false})";
    model_ = folder_ / "model.gguf";
    kept_ = folder_ / "model.gguf.redoubt-packed";
    const auto made = synthesize(folder_ / "config.json", model_, {.type = DType::q4_0, .seed = 3});
    ASSERT_TRUE(made.has_value()) << made.error().message;
    const KernelTable* kernels = choose_kernels("auto").value();
    if (!choose_packed(kernels->packed()).supported()) {
      GTEST_SKIP() << "the kernels of this machine have no packed form";
    }
  }

  struct Answer {
    std::vector<float> logits;
    int64_t private_bytes = 0;
    Status damage = ok();
  };
  Answer ask(PackedMode mode, bool waits_first = false, const std::string& kernels = "auto") {
    const Checkpoint checkpoint = Checkpoint::open(model_).value();
    ModelOptions options{.kernels = kernels, .threads = 2};
    options.packed = {.mode = mode, .folder = folder_ / "cache", .least_bytes = 0};
    auto model = Model::load(checkpoint, options).value();
    if (waits_first) model->wait_for_background();
    EXPECT_TRUE(model->reserve_cache(4).has_value());
    const std::vector<int32_t> tokens{5, 900, 17, 2047, 3}, blocks{0, 1, 2, 3};
    Answer answer{.logits = std::vector<float>(2048), .private_bytes = model->private_weights_bytes()};
    const SequenceChunk chunk{.tokens = tokens, .blocks = blocks, .num_logits = 1};
    model->step({&chunk, 1}, answer.logits);
    model->wait_for_background();
    answer.damage = model->damage();
    return answer;
  }
  void change_byte(const fs::path& path, int64_t at) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(at);
    const auto byte = static_cast<char>(file.get() ^ 0x40);
    file.seekp(at);
    file.put(byte);
  }
  static PackedFileIndex index_of(const fs::path& path) {
    const MappedFile file = MappedFile::open(path).value();
    return parse_packed_file(file.bytes()).value();
  }
  PackedFileIndex index() { return index_of(kept_); }
  // The same tensors under another index.
  static void write_index(const fs::path& path, const PackedFileIndex& index) {
    const int64_t end = index.tensors.back().offset + index.tensors.back().bytes();
    fs::resize_file(path, static_cast<uintmax_t>(end));
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const std::string bytes = packed_file_index(index), header = packed_file_header(index, end, bytes);
    file.seekp(end);
    file << bytes;
    file.seekp(0);
    file << header;
  }

  test::TemporaryFolder folder_;
  fs::path model_, kept_;
};

TEST_F(KeptModel, IsWrittenOnceThenMapped) {
  const Answer memory = ask(PackedMode::only_memory);
  EXPECT_GT(memory.private_bytes, 0);
  EXPECT_FALSE(fs::exists(kept_));
  EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
  ASSERT_TRUE(fs::exists(kept_));
  EXPECT_FALSE(fs::exists(kept_.string() + ".partial"));
  const auto written = fs::last_write_time(kept_);
  for (const bool waits_first : {false, true}) {
    const Answer mapped = ask(PackedMode::automatic, waits_first);
    EXPECT_EQ(mapped.logits, memory.logits);
    EXPECT_EQ(mapped.private_bytes, 0);
  }
  EXPECT_EQ(fs::last_write_time(kept_), written);
  EXPECT_TRUE(verify_packed_file(kept_).has_value());
}

TEST_F(KeptModel, ADamagedChunkIsPackedAgainAndTheFileMadeWhole) {
  const Answer memory = ask(PackedMode::only_memory);
  ask(PackedMode::automatic);
  for (const bool waits_first : {false, true}) {  // the step finds the damage, or the background pass
    const PackedFileIndex list = index();
    for (const PackedFileTensor& m : list.tensors) change_byte(kept_, m.offset + m.bytes() - 1);
    const auto verified = verify_packed_file(kept_);
    ASSERT_FALSE(verified.has_value());
    EXPECT_NE(verified.error().message.find("does not have its hash"), std::string::npos);
    EXPECT_EQ(ask(PackedMode::automatic, waits_first).logits, memory.logits);
    EXPECT_TRUE(verify_packed_file(kept_).has_value());
  }
}

TEST_F(KeptModel, ADamagedHeaderOrATruncatedFileIsMadeAgain) {
  const Answer memory = ask(PackedMode::only_memory);
  ask(PackedMode::automatic);
  const auto size = static_cast<int64_t>(fs::file_size(kept_));
  for (const int64_t at : {int64_t{0}, int64_t{20}, size - 3}) {
    change_byte(kept_, at);
    EXPECT_FALSE(verify_packed_file(kept_).has_value());
    EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
    EXPECT_TRUE(verify_packed_file(kept_).has_value());
  }
  for (const int64_t kept : {int64_t{0}, int64_t{40}, size / 2}) {
    fs::resize_file(kept_, static_cast<uintmax_t>(kept));
    EXPECT_FALSE(verify_packed_file(kept_).has_value());
    EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
    EXPECT_TRUE(verify_packed_file(kept_).has_value());
  }
}

TEST_F(KeptModel, AnotherVersionOfTheModelIsPackedAgain) {
  ask(PackedMode::automatic);
  const SourceKey first = index().source;
  ThreadPool pool(2);
  for (const fs::path& path : {model_, kept_}) EXPECT_TRUE(verify_packed_files(path, {}, pool).has_value());
  fs::remove(model_);
  EXPECT_TRUE(verify_packed_files(kept_, {}, pool).has_value());  // its hashes; there is no model
  ASSERT_TRUE(synthesize(folder_ / "config.json", model_, {.type = DType::q4_0, .seed = 4}).has_value());
  fs::last_write_time(model_, fs::last_write_time(model_) + std::chrono::seconds(5));
  for (const fs::path& path : {model_, kept_}) {
    const auto verified = verify_packed_files(path, {}, pool);
    ASSERT_FALSE(verified.has_value());
    EXPECT_EQ(verified.error().message, kept_.string() + ": was made from another version of the model");
  }
  const Answer memory = ask(PackedMode::only_memory);
  EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
  EXPECT_NE(index().source, first);
  EXPECT_TRUE(verify_packed_files(model_, {}, pool).has_value());
}

TEST_F(KeptModel, AnIncompleteFileIsCompleted) {
  const Answer memory = ask(PackedMode::only_memory);
  const Checkpoint checkpoint = Checkpoint::open(model_).value();
  {
    auto writer = PackedWriter::create(kept_, checkpoint.source_key(), 0).value();
    writer->finish();
    writer->wait();
  }
  EXPECT_TRUE(index().tensors.empty());
  EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
  EXPECT_FALSE(index().tensors.empty());
  EXPECT_EQ(ask(PackedMode::automatic).private_bytes, 0);
}

TEST_F(KeptModel, LiesInTheFolderWhereNoneMayLieBesideTheModel) {
  fs::create_directory(kept_);                        // a name that is taken
  fs::create_directory(kept_.string() + ".partial");  // and cannot be written
  const Answer memory = ask(PackedMode::only_memory);
  EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
  const fs::path other = packed_file_places(model_, folder_ / "cache").at(1);
  EXPECT_TRUE(fs::is_regular_file(other));
  EXPECT_EQ(ask(PackedMode::automatic).private_bytes, 0);
}

TEST_F(KeptModel, AWriterThatWasNotFinishedLeavesNothing) {
  const Checkpoint checkpoint = Checkpoint::open(model_).value();
  { auto writer = PackedWriter::create(kept_, checkpoint.source_key(), 0).value(); }
  EXPECT_FALSE(fs::exists(kept_));
  EXPECT_FALSE(fs::exists(kept_.string() + ".partial"));
  EXPECT_FALSE(PackedWriter::create(kept_, checkpoint.source_key(), int64_t{1} << 60).has_value());  // no such disk
  EXPECT_FALSE(fs::exists(kept_.string() + ".partial"));
}

// Address space may be limited, so that none is asked for beyond what is filled.
TEST_F(KeptModel, AddressSpaceIsReservedForWhatIsPackedAlone) {
  const fs::path golden = fs::path(REDOUBT_SOURCE_DIR) / "tests/golden/models";
  std::vector<fs::path> models{model_};
  for (const std::string name : {"deepseek_v3", "llama3", "qwen2"}) {  // llama3: the head is the embedding
    for (const DType type : {DType::bf16, DType::q8_0}) {
      models.push_back(folder_ / (name + std::to_string(static_cast<int>(type)) + ".gguf"));
      ASSERT_TRUE(synthesize(golden / name / "config.json", models.back(), {.type = type}));
    }
  }
  const KernelTable& table = *choose_kernels("auto").value();
  ThreadPool pool(2);
  for (const fs::path& path : models) {
    const Checkpoint checkpoint = Checkpoint::open(path).value();
    PackedStore store(pool);
    ASSERT_TRUE(store.open(checkpoint, choose_packed(table.packed()), {}, {}));
    const int64_t used = Model::load(checkpoint, {.threads = 2}).value()->private_weights_bytes();
    EXPECT_EQ(store.reserved_bytes(), used) << path;
    EXPECT_GT(used, 0) << path;
  }
  ask(PackedMode::automatic);
  const Checkpoint checkpoint = Checkpoint::open(model_).value();
  PackedStore store(pool);
  const PackedOptions options{.mode = PackedMode::automatic, .folder = {}, .least_bytes = 0};
  ASSERT_TRUE(store.open(checkpoint, choose_packed(table.packed()), options, {}));
  EXPECT_EQ(store.reserved_bytes(), 0);  // all of it is mapped
}

// A model of its own: nothing is packed, nothing is kept, and there is no source to pack anything again from.
TEST_F(KeptModel, AWholePackedFileIsMappedAndItsDamageNamed) {
  const Answer memory = ask(PackedMode::only_memory);
  const fs::path whole = folder_ / "whole.redoubt-packed";
  ASSERT_TRUE(convert(model_, whole));
  fs::remove(model_);
  model_ = whole;
  for (const PackedMode mode : {PackedMode::only_memory, PackedMode::automatic}) {
    const Answer mapped = ask(mode);
    EXPECT_EQ(mapped.logits, memory.logits);
    EXPECT_EQ(mapped.private_bytes, 0);
  }
  EXPECT_FALSE(fs::exists(whole.string() + ".redoubt-packed"));
  const auto file = PackedFile::open(whole).value();
  for (const std::string name : {"model.layers.1.mlp.down_proj.weight", "lm_head.weight"}) {
    const PackedFileTensor& matrix = *file->find(PackedForm::packed, name);
    change_byte(whole, matrix.offset + 5);
    for (const bool waits_first : {false, true}) {  // the step finds the damage, or the background pass
      const Answer damaged = ask(PackedMode::only_memory, waits_first);
      ASSERT_FALSE(damaged.damage.has_value());
      EXPECT_EQ(damaged.damage.error().code, ErrorCode::corrupt_data);
      EXPECT_NE(damaged.damage.error().message.find(name), std::string::npos) << damaged.damage.error().message;
    }
    change_byte(whole, matrix.offset + 5);
  }
  // What is read at load is refused at load.
  const PackedFileTensor& norm = *file->find(PackedForm::stored, "model.norm.weight");
  change_byte(whole, norm.offset);
  const Checkpoint checkpoint = Checkpoint::open(whole).value();
  const auto refused = Model::load(checkpoint, {.threads = 2});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("model.norm.weight"), std::string::npos) << refused.error().message;
}

// A matrix may have a third dimension, as a file has it: rows are all but the last.
TEST_F(KeptModel, APackedMatrixOfThreeDimensionsIsTheSameMatrix) {
  const fs::path whole = folder_ / "whole.redoubt-packed";
  ASSERT_TRUE(convert(model_, whole));
  model_ = whole;
  const std::vector<float> plain = ask(PackedMode::off, false, "reference").logits;
  const std::vector<float> fast = ask(PackedMode::only_memory).logits;
  for (const int64_t outer : {1, 4}) {
    PackedFileIndex index = index_of(whole);
    for (PackedFileTensor& tensor : index.tensors) {
      if (tensor.form != PackedForm::packed) continue;
      tensor.shape = {outer, tensor.rows() / outer, tensor.cols()};
    }
    write_index(whole, index);
    EXPECT_EQ(ask(PackedMode::off, false, "reference").logits, plain);
    EXPECT_EQ(ask(PackedMode::only_memory).logits, fast);
  }
}

// Some programs write norms and biases as [1, n].
TEST_F(KeptModel, VectorsOfOneRowAreLoadedFromWhatConvertWrote) {
  const fs::path source = folder_ / "one_row", whole = folder_ / "one_row.redoubt-packed";
  fs::create_directory(source);
  fs::copy_file(folder_ / "config.json", source / "config.json");
  const Checkpoint made = Checkpoint::open(model_).value();
  std::vector<OutputTensor> tensors;
  for (const TensorView& tensor : made.tensors()) {
    std::vector<int64_t> shape = tensor.shape;
    if (shape.size() == 1) shape.insert(shape.begin(), 1);
    tensors.push_back(output_tensor(std::string(tensor.name), DType::bf16, shape, rows_of(made, tensor)));
  }
  ASSERT_TRUE(write_safetensors(source, tensors));
  ASSERT_TRUE(convert(source, whole));
  model_ = source;
  const std::vector<float> expected = ask(PackedMode::only_memory).logits;
  model_ = whole;
  EXPECT_EQ(ask(PackedMode::only_memory).logits, expected);
  const auto file = PackedFile::open(whole).value();
  const PackedFileTensor* norm = file->find(PackedForm::stored, "model.norm.weight");
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ(norm->shape, (std::vector<int64_t>{1, 256}));
}

TEST_F(KeptModel, AModelOfItsOwnIsNeverReplaced) {
  const Answer memory = ask(PackedMode::only_memory);
  const fs::path whole = folder_ / "whole.redoubt-packed", other = packed_file_places(model_, folder_ / "cache").at(1);
  EXPECT_FALSE(convert(model_, kept_));
  ASSERT_TRUE(convert(model_, whole));
  fs::rename(whole, kept_);
  for (const bool damaged : {false, true}) {  // whatever else is wrong with it
    if (damaged) fs::resize_file(kept_, fs::file_size(kept_) - 1);
    const auto size = fs::file_size(kept_);
    fs::remove(other);
    EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
    EXPECT_TRUE(is_whole_packed_file(kept_));
    EXPECT_EQ(fs::file_size(kept_), size);
    EXPECT_TRUE(verify_packed_file(other).has_value());
    EXPECT_EQ(ask(PackedMode::automatic).private_bytes, 0);
    EXPECT_FALSE(PackedWriter::create(kept_, Checkpoint::open(model_).value().source_key(), 0).has_value());
  }
}

// A page that the system cannot bring is damage; the step does not touch it.
TEST_F(KeptModel, ChunksThatCannotBeReadAreDamage) {
  const fs::path whole = folder_ / "whole.redoubt-packed";
  ASSERT_TRUE(convert(model_, whole));
  const auto file = PackedFile::open(whole).value();
  const std::string name = "model.layers.1.mlp.down_proj";
  const PackedFileTensor& matrix = *file->find(PackedForm::packed, name + ".weight");
  KeptPacked kept(file);
  const KeptPacked::Bound bound =
      kept.bind(name, {.rows = matrix.rows(), .cols = matrix.cols(), .dtype = static_cast<int32_t>(matrix.dtype)});
  ASSERT_NE(bound.first_use, nullptr);
  fs::resize_file(whole, static_cast<uintmax_t>(matrix.offset));
  if (populate_pages(file->bytes_of(matrix))) GTEST_SKIP() << "this system cannot tell without a signal";
  EXPECT_FALSE(file->verify(matrix));
  ThreadPool pool(2);
  bound.first_use->make_ready(pool);
  ASSERT_FALSE(kept.damage());
  EXPECT_NE(kept.damage().error().message.find(name), std::string::npos);
  EXPECT_EQ(bound.data[0], std::byte{0});
}

TEST_F(KeptModel, WhatWasKeptIsNoModel) {
  ask(PackedMode::automatic);
  const auto refused = Checkpoint::open(kept_);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("beside it"), std::string::npos) << refused.error().message;
}

TEST_F(KeptModel, WhatAnotherProcessIsWritingIsNotWrittenTwice) {
  const Answer memory = ask(PackedMode::only_memory);
  auto writer = PackedWriter::create(kept_, Checkpoint::open(model_).value().source_key(), 0).value();
  const test::LogLines log;
  EXPECT_EQ(ask(PackedMode::automatic).logits, memory.logits);
  EXPECT_FALSE(fs::exists(folder_ / "cache"));
  EXPECT_EQ(log.count("the packed weights are not kept"), 1) << log.text();
  EXPECT_EQ(log.count(kept_.string() + ": another process is writing it"), 1) << log.text();
  writer.reset();
  ask(PackedMode::automatic);
  EXPECT_TRUE(verify_packed_file(kept_).has_value());
}

TEST_F(KeptModel, AutoThatCannotKeepSaysWhyOnce) {
  for (const fs::path& place : packed_file_places(model_, folder_ / "cache"))
    fs::create_directories(place.string() + ".partial");
  for (const PackedMode mode : {PackedMode::only_memory, PackedMode::automatic}) {
    const test::LogLines log;
    ask(mode);
    EXPECT_EQ(log.count("warning"), mode == PackedMode::automatic ? 1 : 0) << log.text();
    EXPECT_EQ(log.count("the packed weights are not kept: cannot write"), mode == PackedMode::automatic ? 1 : 0);
  }
  const test::LogLines log;
  ask(PackedMode::automatic, false, "reference");
  EXPECT_EQ(log.count("the packed weights are not kept: kernels reference"), 1) << log.text();
  for (const fs::path& place : packed_file_places(model_, folder_ / "cache")) fs::remove(place.string() + ".partial");
  fs::remove(model_);
  ASSERT_TRUE(synthesize(folder_ / "config.json", model_, {.type = DType::f32}));
  ask(PackedMode::automatic);
  EXPECT_EQ(log.count("the packed weights are not kept: no type of"), 1) << log.text();
  EXPECT_FALSE(fs::exists(kept_));
}

TEST_F(KeptModel, AModelThatGoesWritesNoFurther) {
  constexpr int64_t kRows = 1 << 16, kCols = 1 << 14;
  const auto bytes = static_cast<size_t>(row_bytes(DType::q4_0, kCols) * kRows);
  void* zeros = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(zeros, MAP_FAILED);
  {
    auto writer = PackedWriter::create(kept_, Checkpoint::open(model_).value().source_key(), 0).value();
    writer->add({.name = "large",
                 .dtype = DType::q4_0,
                 .rows = kRows,
                 .cols = kCols,
                 .data = static_cast<const std::byte*>(zeros)});
    writer->finish();
  }
  ::munmap(zeros, bytes);
  EXPECT_FALSE(fs::exists(kept_));
  EXPECT_FALSE(fs::exists(kept_.string() + ".partial"));
}

TEST_F(KeptModel, AProgramThatEndsMayWaitForWhatIsWritten) {
  const Checkpoint checkpoint = Checkpoint::open(model_).value();
  {
    ModelOptions options{.threads = 2};
    options.packed = {.mode = PackedMode::automatic, .folder = {}, .least_bytes = 0};
    Model::load(checkpoint, options).value()->wait_until_kept();
  }
  EXPECT_TRUE(verify_packed_file(kept_).has_value());
  EXPECT_EQ(ask(PackedMode::automatic).private_bytes, 0);
}

TEST_F(KeptModel, WhatAKilledProcessLeftIsGoneAfterAnyLoad) {
  const std::vector<fs::path> places = packed_file_places(model_, folder_ / "cache");
  fs::create_directory(folder_ / "cache");
  for (const fs::path& place : places) std::ofstream(place.string() + ".partial") << "half of it";
  ask(PackedMode::only_memory);
  for (const fs::path& place : places) EXPECT_FALSE(fs::exists(place.string() + ".partial")) << place;
}

}  // namespace
}  // namespace redoubt
