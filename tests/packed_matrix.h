// A matrix of random values for tests, as stored and in the packed form, with all that both point to.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "float_vectors.h"
#include "formats/blocks.h"
#include "formats/packing.h"
#include "kernels/packed_kernels.h"

namespace redoubt::test {

struct Packed {
  int64_t rows, cols;
  std::vector<std::byte> stored, bytes;
  std::vector<float> scales;
  PackedMatrix matrix;

  Packed(DType type, int64_t rows_, int64_t cols_, uint32_t seed, bool scaled = false)
      : Packed(type, rows_, cols_, random_floats(seed, rows_ * cols_)) {
    if (!scaled) return;
    scales = random_floats(seed + 1, ((rows + 127) / 128) * ((cols + 127) / 128));
    matrix.scales = scales.data();
  }
  Packed(DType type, int64_t rows_, int64_t cols_, const std::vector<float>& values) : rows(rows_), cols(cols_) {
    const int64_t stride = row_bytes(type, cols), group = packed_group_bytes(type, cols);
    stored.resize(static_cast<size_t>(rows * stride));
    for (int64_t r = 0; r < rows; ++r) {
      encode_row(type, std::span(values).subspan(static_cast<size_t>(r * cols), static_cast<size_t>(cols)),
                 stored.data() + r * stride);
    }
    bytes.resize(static_cast<size_t>(packed_groups(rows) * group));
    for (int64_t g = 0; g < packed_groups(rows); ++g) {
      pack_group(type, stored.data() + g * kPackedRows * stride, stride, std::min(kPackedRows, rows - g * kPackedRows),
                 cols, bytes.data() + g * group);
    }
    matrix = {reinterpret_cast<const unsigned char*>(bytes.data()),
              rows,
              cols,
              group,
              packed_type(type),
              nullptr,
              (cols + 127) / 128};
  }
};

}  // namespace redoubt::test
