// Packed matrices in a file that is mapped: header, tensors, index (docs/formats/packing.md has the bytes). Either what
// was kept of a model that lies beside it, or a model of its own with everything that loading needs. Each tensor
// carries a hash per chunk, so that a reader may trust a chunk before it has seen the rest. Everything is checked
// before use; the index allocates in proportion to the file. Thread safety: const; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/mapped_file.h"
#include "core/result.h"
#include "core/thread_pool.h"
#include "formats/checkpoint.h"

namespace redoubt {

constexpr int64_t kPackedChunkBytes = int64_t{1} << 20;     // under one hash; the last of a tensor may be shorter
constexpr int64_t kPackedFileAlignment = int64_t{1} << 16;  // of a packed matrix: whole pages on every machine
constexpr int64_t kPackedStoredAlignment = 64;              // of everything else
constexpr int64_t kPackedHeaderBytes = 80;
constexpr std::string_view kPackedExtension = ".redoubt-packed";
constexpr std::string_view kPackedGgufHead = "model.gguf";  // the file that holds a GGUF model's metadata

enum class PackedKind : uint32_t {
  kept,   // of a model beside it: packed matrices only
  whole,  // a model of its own
};

enum class PackedForm : uint8_t {
  stored,   // as the checkpoint had it
  packed,   // groups of rows
  file,     // a small file of the model, named; u8 [bytes]
  columns,  // i32 [cols]: value j of the rows of the packed matrix of this name is of input column columns[j]
};

struct PackedFileTensor {
  std::string name;  // of the tensor, or of the file
  DType dtype = DType::f32;
  PackedForm form = PackedForm::packed;
  std::vector<int64_t> shape;          // outermost first
  int64_t offset = 0;                  // in the file
  std::vector<uint64_t> chunk_hashes;  // [chunks()]

  int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  int64_t rows() const;   // all extents but the last
  int64_t bytes() const;  // in this form
  int64_t alignment() const { return form == PackedForm::packed ? kPackedFileAlignment : kPackedStoredAlignment; }
  int64_t chunks() const { return (bytes() + kPackedChunkBytes - 1) / kPackedChunkBytes; }
  // Chunk i of the tensor in the file, and whether it has its hash.
  std::span<const std::byte> chunk(std::span<const std::byte> file, int64_t i) const;
  bool has_its_hash(std::span<const std::byte> file, int64_t i) const;
};

struct PackedFileIndex {
  PackedKind kind = PackedKind::kept;
  SourceKey source;                       // of the checkpoint that it was made from
  std::vector<PackedFileTensor> tensors;  // in the order of their offsets
};

// Errors, all corrupt_data: whatever does not follow the format, with what was expected and found. The tensors' own
// bytes are not looked at.
Result<PackedFileIndex> parse_packed_file(std::span<const std::byte> file);
bool begins_as_packed_file(std::span<const std::byte> file);

// What stands behind the tensors and before them. `index_offset`: the end of the last tensor.
std::string packed_file_index(const PackedFileIndex& index);
std::string packed_file_header(const PackedFileIndex& index, int64_t index_offset, std::string_view index_bytes);

// One that is mapped. Errors name the file.
class PackedFile {
 public:
  static Result<std::shared_ptr<const PackedFile>> open(const std::filesystem::path& path);
  static Result<bool> is_one(const std::filesystem::path& path);  // by its first bytes

  const MappedFile& mapped() const { return file_; }
  std::span<const std::byte> bytes() const { return file_.bytes(); }
  const PackedFileIndex& index() const { return index_; }
  const PackedFileTensor* find(PackedForm form, std::string_view name) const;
  std::span<const std::byte> bytes_of(const PackedFileTensor& tensor) const {
    return bytes().subspan(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.bytes()));
  }

  // Compares every hash of a tensor, on all threads of the pool if there is one. Errors: corrupt_data, naming the
  // tensor and the first chunk that does not have its hash.
  Status verify(const PackedFileTensor& tensor, ThreadPool* pool = nullptr) const;
  Error damage(const PackedFileTensor& tensor, int64_t chunk) const;

 private:
  MappedFile file_;
  PackedFileIndex index_;
  std::unordered_map<std::string_view, size_t> by_name_[4];  // one for each form
};

// Where the packed form of a model may be kept beside it: MODEL.redoubt-packed, or weights.redoubt-packed in a
// directory.
std::filesystem::path kept_packed_path(const std::filesystem::path& model);

// Whether a file begins as a model of its own does, however damaged the rest of it is.
bool is_whole_packed_file(const std::filesystem::path& path);

// Verifies every chunk of a packed file and counts them. Errors: the file's own, or the first chunk without its hash.
Result<int64_t> verify_packed_file(const std::filesystem::path& path, ThreadPool* pool = nullptr);

}  // namespace redoubt
