#include "formats/packed_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>

#include "formats/chunk_hash.h"
#include "formats/packing.h"

namespace redoubt {
namespace {

std::vector<std::byte> random_bytes(size_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& b : bytes) b = static_cast<std::byte>(generator());
  return bytes;
}

// Two matrices of zeros, as the writer lays them out.
PackedFileIndex two_matrices() {
  PackedFileIndex index{.source = {.bytes = 123, .modified_ns = 456, .header_hash = 789}};
  index.tensors.push_back(
      {.name = "a.weight", .dtype = DType::q4_0, .shape = {33, 64}, .offset = kPackedFileAlignment});
  index.tensors.push_back(
      {.name = "b.weight", .dtype = DType::bf16, .shape = {600, 1024}, .offset = 2 * kPackedFileAlignment});
  for (PackedFileTensor& m : index.tensors) {
    for (int64_t i = 0; i < m.chunks(); ++i) m.chunk_hashes.push_back(static_cast<uint64_t>(1000 + i));
  }
  return index;
}

std::string file_of(const PackedFileIndex& index) {
  const PackedFileTensor& last = index.tensors.back();
  const int64_t end = last.offset + last.bytes();
  const std::string tail = packed_file_index(index);
  std::string file = packed_file_header(index, end, tail);
  file.resize(static_cast<size_t>(end));
  return file + tail;
}

Result<PackedFileIndex> parse(const std::string& file) { return parse_packed_file(std::as_bytes(std::span(file))); }

TEST(PackedFile, IsReadAsItWasWritten) {
  const PackedFileIndex index = two_matrices();
  const auto read = parse(file_of(index));
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->source, index.source);
  ASSERT_EQ(read->tensors.size(), 2u);
  EXPECT_EQ(index.tensors[1].chunks(), 2);
  for (size_t i = 0; i < 2; ++i) {
    const PackedFileTensor &a = read->tensors[i], &b = index.tensors[i];
    EXPECT_EQ(std::tie(a.name, a.dtype, a.form, a.shape, a.offset, a.chunk_hashes),
              std::tie(b.name, b.dtype, b.form, b.shape, b.offset, b.chunk_hashes));
  }
}

TEST(PackedFile, EveryDamagedByteOfHeaderAndIndexIsRefused) {
  const std::string file = file_of(two_matrices());
  const size_t index_at = file.size() - packed_file_index(two_matrices()).size();
  for (size_t at = 0; at < file.size(); at = at + 1 == kPackedHeaderBytes ? index_at : at + 1) {
    std::string damaged = file;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const auto read = parse(damaged);
    ASSERT_FALSE(read.has_value()) << "byte " << at;
    EXPECT_EQ(read.error().code, ErrorCode::corrupt_data);
    EXPECT_EQ(read.error().message.find('\n'), std::string::npos);
  }
}

TEST(PackedFile, ATruncatedOrGrownFileIsRefused) {
  const std::string file = file_of(two_matrices());
  for (const size_t size : {size_t{0}, size_t{7}, size_t{71}, size_t{72}, size_t{4096}, file.size() - 1}) {
    EXPECT_FALSE(parse(file.substr(0, size)).has_value()) << size;
  }
  EXPECT_FALSE(parse(file + "x").has_value());
}

// Files with right hashes whose index says what cannot be.
TEST(PackedFile, AnIndexThatContradictsTheFileIsRefused) {
  const auto refused = [](auto&& change) {
    PackedFileIndex index = two_matrices();
    const int64_t end = index.tensors.back().offset + index.tensors.back().bytes();
    change(index);
    const std::string tail = packed_file_index(index);
    std::string file = packed_file_header(index, end, tail);
    file.resize(static_cast<size_t>(end));
    return !parse(file + tail).has_value();
  };
  EXPECT_FALSE(refused([](PackedFileIndex&) {}));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape[0] = 0; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape[1] = 48; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].dtype = DType::f32; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape[0] = int64_t{1} << 62; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape[1] = -64; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].offset = 64; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].offset = 0; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[1].offset = kPackedFileAlignment; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[1].offset = 3 * kPackedFileAlignment; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[1].name = "a.weight"; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[1].chunk_hashes.pop_back(); }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape = {33 * 64}; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape.assign(9, 1); }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape.assign(8, int64_t{1} << 40); }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].shape = {int64_t{1} << 40, int64_t{1} << 40, 0}; }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].form = static_cast<PackedForm>(4); }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.kind = static_cast<PackedKind>(2); }));
  EXPECT_TRUE(refused([](PackedFileIndex& i) { i.tensors[0].form = PackedForm::stored; }));  // in a kept file
}

// A model of its own has other forms too, each at the next multiple of 64 bytes.
TEST(PackedFile, AModelOfItsOwnHoldsEveryForm) {
  const auto parsed = [](auto&& change) {
    PackedFileIndex index{.kind = PackedKind::whole};
    const auto add = [&](std::string name, DType dtype, PackedForm form, std::vector<int64_t> shape) {
      PackedFileTensor t{.name = std::move(name), .dtype = dtype, .form = form, .shape = std::move(shape)};
      const int64_t from =
          index.tensors.empty() ? kPackedHeaderBytes : index.tensors.back().offset + index.tensors.back().bytes();
      t.offset = (from + t.alignment() - 1) / t.alignment() * t.alignment();
      t.chunk_hashes.resize(static_cast<size_t>(t.chunks()), 7);
      index.tensors.push_back(std::move(t));
    };
    add("config.json", DType::u8, PackedForm::file, {100});
    add("a.weight", DType::i32, PackedForm::columns, {64});
    add("a.weight", DType::g4_32, PackedForm::packed, {5, 64});
    add("norm", DType::f32, PackedForm::stored, {});
    add("empty", DType::bf16, PackedForm::stored, {0, 3});
    add("b.weight", DType::q4_0, PackedForm::stored, {2, 3, 32});
    change(index);
    return parse(file_of(index)).has_value();
  };
  EXPECT_TRUE(parsed([](PackedFileIndex&) {}));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[0].dtype = DType::i8; }));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[0].shape = {10, 10}; }));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[1].dtype = DType::f32; }));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[3].offset += 4; }));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[5].shape = {2, 3, 16}; }));
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.tensors[5].name = "a.weight"; }));  // stored and packed
  EXPECT_FALSE(parsed([](PackedFileIndex& i) { i.kind = PackedKind::kept; }));
}

TEST(ChunkHash, SeesEveryBitAndTheLength) {
  std::vector<std::byte> bytes = random_bytes(1000, 3);
  const uint64_t hash = chunk_hash(bytes);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto flip = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= flip;
    EXPECT_NE(chunk_hash(bytes), hash);
    bytes[bit / 8] ^= flip;
  }
  const std::vector<std::byte> zeros(256);
  EXPECT_NE(chunk_hash(std::span(zeros).first(100)), chunk_hash(std::span(zeros).first(101)));
}

// Pages or words that changed places, as a disk may leave them.
TEST(ChunkHash, SeesOrder) {
  const std::vector<std::byte> bytes = random_bytes(16384, 4);
  for (const size_t unit : {size_t{8}, size_t{64}, size_t{512}, size_t{4096}}) {
    std::vector<std::byte> swapped = bytes;
    std::swap_ranges(swapped.begin(), swapped.begin() + static_cast<int64_t>(unit),
                     swapped.begin() + static_cast<int64_t>(unit));
    EXPECT_NE(chunk_hash(swapped), chunk_hash(bytes)) << unit;
  }
}

TEST(ChunkHash, IsWhatTheFormatSays) {  // docs/formats/packing.md; computed by an independent program
  EXPECT_EQ(chunk_hash({}), 0x7ccffb41fa53f873u);
  std::vector<std::byte> count(100);
  for (size_t i = 0; i < count.size(); ++i) count[i] = static_cast<std::byte>(i);
  EXPECT_EQ(chunk_hash(count), 0x0c3853d23c25d2dbu);
}

}  // namespace
}  // namespace redoubt
