// The GGUF container, version 2 and 3, little-endian: typed metadata, then tensors in one aligned data section; or the
// same spread over a split set `name-00001-of-000NN.gguf`. Page: docs/formats/gguf.md.
//
// Everything is checked before use: counts against the bytes that are there, ranges that follow one another with no
// more than alignment padding between. Values are views into the mapped file; arrays are decoded when asked for.
// Lifetime: views live as long as the GgufFile. Thread safety: const after open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/mapped_file.h"
#include "core/result.h"

namespace redoubt {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
std::string_view name_of(GgufType type);  // "u32"

struct GgufValue {
  GgufType type = GgufType::u8;
  GgufType element = GgufType::u8;   // of an array
  uint64_t count = 1;                // elements of an array; may be nested arrays, which no accessor returns
  std::span<const std::byte> bytes;  // the value without its type; of an array, its elements
};

struct GgufTensor {
  std::string_view name;
  DType dtype = DType::f32;
  std::vector<int64_t> dims;  // the file's order: fastest-varying first, the reverse of Hugging Face; 1 to 4, each >= 1
  std::span<const std::byte> data;

  int64_t bytes() const;  // of the data, also where there is none
};

struct GgufParts;  // formats/gguf_reader.h

class GgufFile {
 public:
  static Result<GgufFile> open(const std::filesystem::path& path);  // of a split set, the first file: opens them all
  static Result<GgufFile> parse(std::span<const std::byte> bytes, std::string_view file);  // one file, bytes borrowed
  // The same of a file that ends where its tensors would begin: they are listed, and their data is empty until
  // attached.
  static Result<GgufFile> parse_head(std::span<const std::byte> bytes, std::string_view file);
  // Errors: corrupt_data if there is no such tensor, or another number of bytes.
  Status attach(std::string_view tensor, std::span<const std::byte> data);

  // Metadata. Nothing if the key is absent or holds another type; expect_* say which in an Error.
  const GgufValue* value(std::string_view key) const;
  std::span<const std::pair<std::string_view, GgufValue>> metadata() const { return metadata_; }  // in file order
  std::optional<std::string_view> string(std::string_view key) const;
  std::optional<int64_t> integer(std::string_view key) const;  // any integer type or bool whose value fits
  std::optional<double> number(std::string_view key) const;    // any integer or float type
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::vector<std::string_view>> strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const;
  std::optional<std::vector<float>> floats(std::string_view key) const;
  Result<std::string_view> expect_string(std::string_view key) const;
  Result<int64_t> expect_integer(std::string_view key) const;
  Result<double> expect_number(std::string_view key) const;

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;
  int64_t alignment() const { return alignment_; }
  const std::string& file() const { return file_; }                     // for errors
  std::span<const MappedFile> mapped_files() const { return mapped_; }  // none of one that was parsed from bytes

 private:
  static Result<GgufFile> from_parts(Result<GgufParts> parts, std::string_view file);
  Status append(GgufFile part);

  std::string file_;
  std::vector<std::pair<std::string_view, GgufValue>> metadata_;
  std::vector<GgufTensor> tensors_;
  std::unordered_map<std::string_view, size_t> metadata_index_, tensor_index_;
  int64_t alignment_ = 32;
  std::vector<MappedFile> mapped_;  // moving a MappedFile does not move its bytes
};

// The head of a file or of a split set as parse_head reads it: all metadata but split.*, and every tensor.
std::string gguf_head(const GgufFile& file);

}  // namespace redoubt
