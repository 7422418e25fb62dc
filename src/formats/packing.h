// The packed form of a matrix: the same bits at the same size, reordered so that a vector unit reads sixteen rows at
// once. One order serves every instruction set (docs/formats/packing.md).
//
// Rows are taken in groups of kPackedRows; the last group is filled up with zeros. A group is [headers of all its
// blocks][codes of all its units]; a block is the type's own (32 or 256 columns), a unit is 32 columns. Inside, row is
// the fast index:
//   f16 scales     [16]                                       2 bytes a row
//   nibbles        [4][16 rows][4]   byte (z, r, b): column 4z + b in the low half, 16 + 4z + b in the high half
//   bytes          [8][16 rows][4]   byte (z, r, b): column 4z + b
//   fifth bits     [16 rows][4]      byte (r, b): bit z belongs to column 4z + b
//   two top bits   [2][16 rows][4]   byte (h, r, b): bits 2z, 2z + 1 belong to column 16h + 4z + b
//   bf16           [16][16 rows][2]  columns 2p, 2p + 1
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"

namespace redoubt {

constexpr int64_t kPackedRows = 16;     // rows of a group
constexpr int64_t kPackedColumns = 32;  // columns of a unit

// Sizes of one type's packed form, in bytes for sixteen rows. Codes are unsigned; a value is
// scale * (code - offset) + minimum, and with two planes scale[0] * (code[0] - offset) + scale[1] * (code[1] - offset).
struct PackedShape {
  int64_t block_columns;  // under one header: 32, 64, 128 or 256
  int64_t header_bytes;   // of a block
  int64_t unit_bytes;     // codes of 32 columns
  int scales_per_unit;    // 1, or 2 where a scale covers 16 columns or a plane
  int offset;             // subtracted from a code
  bool has_minimum;
  int planes = 1;  // 2: a value is the sum over two codes, each under its own scale
};

// Types that have a packed form of integer codes: q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k iq4_nl mxfp4 g4_*
// g8_32 i8_* nf4.
bool has_packed_codes(DType dtype);
// Precondition: has_packed_codes(dtype).
PackedShape packed_shape(DType dtype);

// Also bf16 and f8_e4m3 (as bytes; the block scales stay outside). cols must be a multiple of 32 and of the block.
bool can_pack(DType dtype, int64_t cols);
// Bytes of one group; precondition: can_pack.
int64_t packed_group_bytes(DType dtype, int64_t cols);
inline int64_t packed_groups(int64_t rows) { return (rows + kPackedRows - 1) / kPackedRows; }

// One group: `rows` (1 to 16) stored rows of `row_stride` bytes into packed_group_bytes, and back; of the way back any
// of the rows, first_row and the `rows` from there.
void pack_group(DType dtype, const std::byte* in, int64_t row_stride, int64_t rows, int64_t cols, std::byte* out);
void unpack_group(DType dtype, const std::byte* in, int64_t rows, int64_t cols, std::byte* out, int64_t row_stride,
                  int64_t first_row = 0);
// Rows [begin, end) of a packed matrix as stored, one behind the other.
void unpack_rows(DType dtype, const std::byte* packed, int64_t begin, int64_t end, int64_t cols, std::byte* out);

// The definition of pack_group: code by code, for tests.
void pack_group_by_codes(DType dtype, const std::byte* in, int64_t row_stride, int64_t rows, int64_t cols,
                         std::byte* out);

// One unit of a packed group spelled out: the definition that the vector kernels are held to.
struct PackedUnit {
  uint8_t codes[2][kPackedRows][kPackedColumns];  // of each plane; the second is zero where there is none
  float scale[2][kPackedRows];  // of each plane, or of columns 0..15 and 16..31; equal where scales_per_unit is 1
  float minimum[kPackedRows];
};
PackedUnit packed_unit(DType dtype, const std::byte* group, int64_t cols, int64_t unit);

}  // namespace redoubt
