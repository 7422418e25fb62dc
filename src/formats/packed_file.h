// The packed forms of a model's matrices in a file, mapped at the next start: header, matrices, index
// (docs/formats/packing.md has the bytes). Each matrix carries a hash per chunk, so that a reader may trust a chunk
// before it has seen the rest. Everything is checked before use; the index allocates in proportion to the file.
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "formats/checkpoint.h"

namespace redoubt {

constexpr int64_t kPackedChunkBytes = int64_t{1} << 20;     // under one hash; the last of a matrix may be shorter
constexpr int64_t kPackedFileAlignment = int64_t{1} << 16;  // of a matrix: whole pages on every machine
constexpr int64_t kPackedHeaderBytes = 72;

struct PackedFileMatrix {
  std::string name;  // of the tensor, without ".weight"
  DType dtype = DType::f32;
  int64_t rows = 0, cols = 0;
  int64_t offset = 0;                  // in the file
  std::vector<uint64_t> chunk_hashes;  // [chunks()]

  int64_t bytes() const;  // of the packed form
  int64_t chunks() const { return (bytes() + kPackedChunkBytes - 1) / kPackedChunkBytes; }
  // Chunk i of the matrix in the file, and whether it has its hash.
  std::span<const std::byte> chunk(std::span<const std::byte> file, int64_t i) const;
  bool has_its_hash(std::span<const std::byte> file, int64_t i) const;
};

struct PackedFileIndex {
  SourceKey source;                        // of the checkpoint that it was made from
  std::vector<PackedFileMatrix> matrices;  // in the order of their offsets
};

// Errors, all corrupt_data: whatever does not follow the format, with what was expected and found. The matrices' own
// bytes are not looked at.
Result<PackedFileIndex> parse_packed_file(std::span<const std::byte> file);

// What stands behind the matrices and before them. `index_offset`: the end of the last matrix.
std::string packed_file_index(const PackedFileIndex& index);
std::string packed_file_header(const PackedFileIndex& index, int64_t index_offset, std::string_view index_bytes);

}  // namespace redoubt
