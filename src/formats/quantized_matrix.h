// Matrices that other programs quantised, seen as rows of our own blocks (core/dtype.h: g4_*, g8_32, i8_*, nf4): the
// same codes and scales in another order, at the same size or a little more, value for value exact.
//
//   AWQ (gemm)   qweight i32 [in, out / 8]: column 8 c + (0 2 4 6 1 3 5 7)[i] in nibble i; qzeros the same
//                [groups, out / 8]; scales [groups, out]
//   GPTQ         qweight i32 [in / n, out], n = 32 / bits inputs a word, the first lowest; qzeros i32
//                [groups, out / n] along out; scales [groups, out]; g_idx i32 [in]: the group of each input
//   int8         weight i8 [out, in]; weight_scale [out, 1], [out, groups] or [1]; weight_zero_point the same
//   NF4          weight u8 [out * in / 2, 1], the first of two values in the high nibble; absmax for 64 values, f32 or
//                u8 into nested_quant_map times nested_absmax for 256 of them plus nested_offset
// Everything is checked when the directory is opened: shapes against one another, every index of g_idx.
// Thread safety: const; several threads may read rows at once. Lifetime: borrows the mapped files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/result.h"
#include "formats/quantization.h"

namespace redoubt {

struct TensorTable;

struct RowSource {
  // Value j of a row is of input column columns[j]: GPTQ's act-order, sorted by group. Empty: in order.
  std::vector<int32_t> columns;
  std::vector<std::span<const std::byte>> parts;  // the mapped bytes that rows are made of
  // Rows begin .. end-1 in blocks of the view's type, one behind the other. Cheapest by 128 and more rows at a time.
  std::function<void(int64_t begin, int64_t end, std::byte* out)> read;

  int64_t stored_bytes() const;
};

// The same rows as values [end - begin, cols] in the order of the input's columns.
void read_values(const RowSource& source, DType dtype, int64_t cols, int64_t begin, int64_t end, float* out);

// Replaces the parts of each quantised matrix by one tensor NAME.weight [out, in] with a RowSource.
// Errors: corrupt_data or unsupported, naming the tensor.
Status adopt_quantized(const QuantizationConfig& config, TensorTable& table);

}  // namespace redoubt
