// Files made to harm: each gets one sentence that names the thing, what was expected and what was found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "formats/checkpoint.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/safetensors.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string number(auto value) { return {reinterpret_cast<const char*>(&value), sizeof value}; }

std::string safetensors(const std::string& header, size_t data_bytes) {
  return number(uint64_t{header.size()}) + header + std::string(data_bytes, '\1');
}

void expect_safetensors_error(const std::string& file, const std::string& part) {
  const auto parsed = parse_safetensors(bytes_of(file), "bad.safetensors");
  ASSERT_FALSE(parsed) << part;
  EXPECT_THAT(parsed.error().message, HasSubstr("bad.safetensors: "));
  EXPECT_THAT(parsed.error().message, HasSubstr(part));
  EXPECT_EQ(parsed.error().message.find('\n'), std::string::npos);
}

TEST(HostileSafetensors, HeadersAreRefusedInOneSentence) {
  expect_safetensors_error("", "expected at least 8 bytes, found 0");
  expect_safetensors_error(number(uint64_t{1} << 62) + "{}",
                           "header length: expected at most 2, found 4611686018427387904");
  expect_safetensors_error(safetensors("[]", 0), "expected JSON that begins with '{'");
  expect_safetensors_error(safetensors("{\"a\":", 0), "header");
  expect_safetensors_error(safetensors(R"({"a":1})", 0), "tensor 'a': expected an object");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[1]}})", 4),
                           "expected dtype, shape and data_offsets");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4), "found 'F99'");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
                           "non-negative");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", 4),
                           "non-negative");
  expect_safetensors_error(
      safetensors(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4), "overflows");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
                           "expected 8 bytes for the shape, found 4");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 8),
                           "expected a range inside 8 bytes, found 4 to 12");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), "found 4 to 0");
  expect_safetensors_error(safetensors(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
                           "at most 8 dimensions");
  expect_safetensors_error(safetensors("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1),
                           "header");
  expect_safetensors_error(safetensors(std::string(100'000, '{'), 0), "header");
}

TEST(HostileSafetensors, RangesMustTileTheBuffer) {
  const auto two = [](const char* second, size_t data_bytes) {
    return safetensors(std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":)") + second + "}",
                       data_bytes);
  };
  expect_safetensors_error(two(R"({"dtype":"U8","shape":[4],"data_offsets":[2,6]})", 6),
                           "tensor 'b': expected its bytes");
  expect_safetensors_error(two(R"({"dtype":"U8","shape":[4],"data_offsets":[5,9]})", 9),
                           "begin at 4, where the one before ends, found 5");
  expect_safetensors_error(two(R"({"dtype":"U8","shape":[4],"data_offsets":[4,8]})", 9),
                           "expected 8 bytes of tensors, found 9");
  expect_safetensors_error(
      safetensors(
          R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
          0),
      "tensor 'a': named twice");
}

TEST(HostileSafetensors, IndexNamesStayInTheDirectory) {
  for (const char* name : {"../x.safetensors", "/etc/passwd", "a/b.safetensors", "..", "", "a\\\\b", "a\\u0000b"}) {
    const auto index = parse_safetensors_index(std::string(R"({"weight_map":{"t":")") + name + "\"}}");
    ASSERT_FALSE(index) << name;
    EXPECT_THAT(index.error().message, HasSubstr("tensor 't': expected a file name in the same directory"));
  }
  EXPECT_FALSE(parse_safetensors_index(R"({"weight_map":{"t":1}})"));
  EXPECT_FALSE(parse_safetensors_index(R"({"weight_map":{"t":"a","t":"b"}})"));
  EXPECT_FALSE(parse_safetensors_index(R"([])"));
}

// A GGUF file piece by piece.
struct Gguf {
  std::string text;
  static Gguf head(uint64_t tensors, uint64_t values, uint32_t version = 3) {
    return {"GGUF" + number(version) + number(tensors) + number(values)};
  }
  Gguf& string(const std::string& s) { return text += number(uint64_t{s.size()}) + s, *this; }
  Gguf& raw(auto value) { return text += number(value), *this; }
  Gguf& key(const std::string& name, uint32_t type) { return string(name).raw(type); }
  Gguf& tensor(const std::string& name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    string(name).raw(static_cast<uint32_t>(dims.size()));
    for (const uint64_t extent : dims) raw(extent);
    return raw(type).raw(offset);
  }
  Gguf& data(size_t count, size_t alignment = 32) {
    text.resize((text.size() + alignment - 1) / alignment * alignment);
    text.resize(text.size() + count, '\1');
    return *this;
  }
};

void expect_gguf_error(const Gguf& file, const std::string& part) {
  const auto parsed = GgufFile::parse(bytes_of(file.text), "bad.gguf");
  ASSERT_FALSE(parsed) << part;
  EXPECT_THAT(parsed.error().message, HasSubstr("bad.gguf: "));
  EXPECT_THAT(parsed.error().message, HasSubstr(part));
}

constexpr uint32_t kF32 = 0, kQ4K = 12, kTypeU32 = 4, kTypeBool = 7, kTypeString = 8, kTypeArray = 9;

TEST(HostileGguf, HeadsAndCounts) {
  expect_gguf_error({""}, "expected 4 bytes at offset 0, found 0");
  expect_gguf_error({"GGML"}, "magic");
  expect_gguf_error(Gguf::head(0, 0, 1), "expected GGUF version 2 or 3, found 1");
  expect_gguf_error(Gguf::head(0, 0, 0x03000000), "big-endian");
  expect_gguf_error(Gguf::head(0, uint64_t{1} << 60), "metadata: expected 1152921504606846976 values, found 0 bytes");
  expect_gguf_error(Gguf::head(uint64_t{1} << 60, 0), "expected 1152921504606846976 tensors, found 0 bytes");
}

TEST(HostileGguf, Metadata) {
  expect_gguf_error(Gguf::head(0, 1).raw(uint64_t{1} << 40).raw(uint64_t{0}), "at most 65535 bytes");
  expect_gguf_error(Gguf::head(0, 1).key("\xff\xfe", kTypeU32).raw(uint32_t{1}), "expected UTF-8");
  expect_gguf_error(Gguf::head(0, 1).key("k", 13).raw(uint64_t{0}), "key 'k': value type: expected 0 to 12, found 13");
  expect_gguf_error(Gguf::head(0, 1).key("k", kTypeString).raw(~uint64_t{0}),
                    "key 'k': expected 18446744073709551615 bytes");
  expect_gguf_error(Gguf::head(0, 1).key("k", kTypeArray).raw(kTypeU32).raw(uint64_t{1} << 62), "array: expected");
  expect_gguf_error(Gguf::head(0, 1).key("k", kTypeArray).raw(kTypeString).raw(uint64_t{1} << 61), "array: expected");
  expect_gguf_error(Gguf::head(0, 2).key("k", kTypeU32).raw(1u).key("k", kTypeU32).raw(1u), "key 'k': found twice");
  Gguf nested = Gguf::head(0, 1).key("k", kTypeArray);
  for (int depth = 0; depth < 100; ++depth) nested.raw(kTypeArray).raw(uint64_t{1});
  expect_gguf_error(nested.raw(kTypeU32).raw(uint64_t{0}), "at most 4 levels");
  expect_gguf_error(Gguf::head(0, 1).key("general.alignment", kTypeU32).raw(0u), "expected a power of two");
  expect_gguf_error(Gguf::head(0, 1).key("general.alignment", kTypeU32).raw(0x80000000u), "expected a power of two");
  expect_gguf_error(Gguf::head(0, 1).key("general.alignment", kTypeBool).raw(uint8_t{1}).raw(uint32_t{0}),
                    "expected u32, found bool");
}

TEST(HostileGguf, Tensors) {
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {}, kF32, 0).data(64),
                    "tensor 't': expected 1 to 4 dimensions, found 0");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {1, 1, 1, 1, 1}, kF32, 0).data(64), "found 5");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {0}, kF32, 0).data(64), "dimension 0: expected 1 to 2^48");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {uint64_t{1} << 40, uint64_t{1} << 40}, kF32, 0).data(64), "product");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {8}, 4, 0).data(64), "found ggml type 4");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {128}, kQ4K, 0).data(256),
                    "multiple of 256 values for q4_k, found 128");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {17}, kF32, 0).data(64),
                    "tensor 't': expected 68 bytes at offset 0 of the data section, found a section of 64");
  expect_gguf_error(Gguf::head(1, 0).tensor("t", {8}, kF32, uint64_t{1} << 63).data(64), "expected offset 0");
  expect_gguf_error(Gguf::head(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, 0).data(64),
                    "tensor 'b': expected offset 32");
  expect_gguf_error(Gguf::head(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, 64).data(96), "found 64");
  expect_gguf_error(Gguf::head(2, 0).tensor("a", {8}, kF32, 0).tensor("a", {8}, kF32, 32).data(64),
                    "tensor 'a': named twice");
  const std::string whole = Gguf::head(1, 0).tensor("t", {8}, kF32, 0).data(32).text;
  ASSERT_TRUE(GgufFile::parse(bytes_of(whole), "good.gguf"));
  for (size_t size = 0; size < whole.size(); ++size) {  // truncated anywhere
    const std::string part = whole.substr(0, size);
    EXPECT_FALSE(GgufFile::parse(bytes_of(part), "bad.gguf")) << size;
  }
}

TEST(HostileGguf, MetadataOfTheWrongTypeIsNamed) {
  const Gguf file = Gguf::head(0, 2)
                        .key("general.architecture", kTypeString)
                        .string("llama")
                        .key("llama.embedding_length", kTypeBool)
                        .raw(uint8_t{1});
  const auto parsed = GgufFile::parse(bytes_of(file.text), "bad.gguf");
  ASSERT_TRUE(parsed);
  const auto config = model_config_from_gguf(*parsed);
  ASSERT_FALSE(config);
  EXPECT_THAT(config.error().message, HasSubstr("bad.gguf: "));
}

TEST(HostileConfig, IsRefusedByField) {
  const auto refused = [](const char* text, const char* part) {
    const auto json = parse_json(text);
    ASSERT_TRUE(json);
    const auto config = parse_model_config(*json);
    ASSERT_FALSE(config) << part;
    EXPECT_THAT(config.error().message, HasSubstr(part));
  };
  refused("[]", "expected an object");
  refused("{}", "model_type: expected deepseek_v2");
  refused(R"({"model_type":"llama","vocab_size":"8"})", "vocab_size: expected an integer, found string");
  refused(R"({"model_type":"llama","vocab_size":-8})", "vocab_size: expected 1 to");
  refused(R"({"model_type":"llama","vocab_size":99999999999})", "vocab_size: expected 1 to");
  refused(R"({"model_type":"llama","hidden_act":"gelu"})", "hidden_act: expected silu");
  refused(R"({"model_type":"llama","rope_scaling":{"type":"dynamic"}})",
          "rope_scaling: expected linear, yarn or llama3");
}

// A directory whose index sends a tensor to the wrong shard, and one whose shard is missing.
TEST(HostileDirectory, WrongShardsAreNamed) {
  const test::TemporaryFolder folder;
  const auto write = [&](const char* file, const std::string& text) {
    std::ofstream(folder / file, std::ios::binary) << text;
  };
  write("config.json",
        R"({"model_type":"llama","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
                           "num_attention_heads":2,"max_position_embeddings":16})");
  const std::string shard = safetensors(R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  write("a.safetensors", shard);
  write("b.safetensors", shard);
  write("model.safetensors.index.json", R"({"weight_map":{"t":"a.safetensors","u":"b.safetensors"}})");
  auto opened = Checkpoint::open(folder.path());
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message,
              HasSubstr("b.safetensors: expected tensor 'u', which the index places there, found none"));
  write("model.safetensors.index.json", R"({"weight_map":{"t":"a.safetensors","u":"c.safetensors"}})");
  opened = Checkpoint::open(folder.path());
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("c.safetensors"));
  fs::remove(folder / "model.safetensors.index.json");
  opened = Checkpoint::open(folder.path());  // both shards, each with t
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("b.safetensors: tensor 't': found twice"));
}

// Scales are looked up by row and column of a matrix: nothing else may have them.
TEST(HostileDirectory, ScalesOfAnythingButAMatrixAreRefused) {
  const test::TemporaryFolder folder;
  std::ofstream(folder / "config.json")
      << R"({"model_type":"llama","vocab_size":8,"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,
             "num_attention_heads":2,"max_position_embeddings":16})";
  const auto open = [&](const std::string& weight, const std::string& scale, int scale_bytes) {
    std::ofstream(folder / "model.safetensors", std::ios::binary)
        << safetensors(R"({"w":{"dtype":"F8_E4M3","shape":)" + weight +
                           R"(,"data_offsets":[0,1024]},"w_scale_inv":{"dtype":"F32","shape":)" + scale +
                           R"(,"data_offsets":[1024,)" + std::to_string(1024 + scale_bytes) + "]}}",
                       1024 + static_cast<size_t>(scale_bytes));
    const auto opened = Checkpoint::open(folder.path());
    return opened ? "opened" : opened.error().message;
  };
  EXPECT_EQ(open("[4,256]", "[1,2]", 8), "opened");
  EXPECT_THAT(open("[4,256]", "[]", 4), HasSubstr("'w_scale_inv': expected f32 [1, 2]"));
  for (const char* weight : {"[2,2,256]", "[1,4,256]", "[1024]"})
    EXPECT_THAT(open(weight, "[]", 4), HasSubstr("tensor 'w': its scales are for a matrix"));
}

}  // namespace
}  // namespace redoubt
