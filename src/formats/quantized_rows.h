// How rows of blocks are written from another program's layout (quantized_matrix.h): codes, scales and zero points by
// row and unit of 32 columns. Preconditions were checked there; nothing here can fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "formats/block_codecs.h"
#include "formats/packing.h"

namespace redoubt {

struct FloatArray {  // f32, f16 or bf16, unaligned
  DType dtype = DType::f32;
  std::span<const std::byte> data;

  float at(int64_t i) const;
  bool all_are_halves(int64_t n) const;  // exactly representable in float16
};

struct GroupedLayout {
  enum class Kind : uint8_t { awq, gptq, bytes };
  Kind kind = Kind::awq;
  int bits = 4;
  int64_t rows = 0, cols = 0, groups = 1;
  std::span<const std::byte> codes, zeros;  // zeros empty (bytes): none
  bool zeros_less_one = false;
  bool one_scale = false;  // for the whole matrix
  FloatArray scales;
  std::vector<int32_t> columns;        // as in RowSource
  std::vector<int32_t> group_of_unit;  // [cols / 32]

  void codes_of(int64_t row, int64_t unit, uint8_t* codes) const;  // 32, bytes with their sign bit turned
  float scale(int64_t row, int64_t group) const;
  int zero(int64_t row, int64_t group) const;  // in units of codes_of
  bool zeros_are(int zero) const;
};

struct Nf4Layout {
  int64_t rows = 0, cols = 0;
  std::span<const std::byte> codes, absmax;
  std::span<const std::byte> nested_absmax, nested_map;  // empty: absmax is f32
  int64_t nested_block = 0;
  float nested_offset = 0;
  std::vector<int32_t> columns;  // always empty

  float scale(int64_t block) const;
};

// Rows begin .. end-1 in blocks of dtype, one behind the other.
void write_rows(const GroupedLayout& layout, DType dtype, int64_t begin, int64_t end, uint8_t* out);
void write_rows(const Nf4Layout& layout, DType dtype, int64_t begin, int64_t end, uint8_t* out);

}  // namespace redoubt
