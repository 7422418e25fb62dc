#include "formats/quantized_rows.h"

#include <cstring>

#include "core/float_bits.h"

namespace redoubt {
namespace {

uint32_t word_at(std::span<const std::byte> words, int64_t i) {
  uint32_t word;
  std::memcpy(&word, words.data() + 4 * i, 4);
  return word;
}
float single_at(std::span<const std::byte> values, int64_t i) {
  float value;
  std::memcpy(&value, values.data() + 4 * i, 4);
  return value;
}

constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // of column 8 c + i: AWQ interleaves even and odd columns

// Where the codes of a block begin, for the types that are made here.
int64_t code_offset(DType dtype) {
  switch (dtype) {
    case DType::g4_32:
    case DType::g4_64:
    case DType::g4_128:
      return 3;
    case DType::g8_32:
      return 6;
    default:
      return 4;
  }
}

void write_header(const GroupedLayout& layout, DType dtype, int64_t row, int64_t group, uint8_t* block) {
  const float scale = layout.scale(row, group);
  const int zero = layout.zero(row, group);
  if (code_offset(dtype) == 3) {
    codec::store_f16(block, scale);
    block[2] = static_cast<uint8_t>(zero);
    return;
  }
  std::memcpy(block, &scale, 4);
  if (dtype == DType::g8_32) codec::store_f16(block + 4, static_cast<float>(zero));
}

}  // namespace

float FloatArray::at(int64_t i) const {
  if (dtype == DType::f32) return single_at(data, i);
  uint16_t bits;
  std::memcpy(&bits, data.data() + 2 * i, 2);
  return dtype == DType::f16 ? float_from_f16(bits) : float_from_bf16(bits);
}

bool FloatArray::all_are_halves(int64_t n) const {
  if (dtype == DType::f16) return true;
  for (int64_t i = 0; i < n; ++i) {
    const float value = at(i);
    if (float_from_f16(f16_from_float(value)) != value) return false;
  }
  return true;
}

void GroupedLayout::codes_of(int64_t row, int64_t unit, uint8_t* out) const {
  const int64_t first = unit * kPackedColumns;
  const auto each = [&](const auto& code) {
    for (int64_t j = 0; j < kPackedColumns; ++j) {
      out[j] =
          static_cast<uint8_t>(code(columns.empty() ? first + j : int64_t{columns[static_cast<size_t>(first + j)]}));
    }
  };
  if (kind == Kind::bytes) {
    each([&](int64_t k) { return static_cast<uint8_t>(codes[static_cast<size_t>(row * cols + k)]) ^ 0x80; });
  } else if (kind == Kind::awq) {
    const int shift = 4 * kAwqNibble[row % 8];
    each([&](int64_t k) { return word_at(codes, k * (rows / 8) + row / 8) >> shift & 15; });
  } else if (bits == 4) {
    each([&](int64_t k) { return word_at(codes, k / 8 * rows + row) >> (4 * (k % 8)) & 15; });
  } else {
    each([&](int64_t k) { return word_at(codes, k / 4 * rows + row) >> (8 * (k % 4)) & 255; });
  }
}

float GroupedLayout::scale(int64_t row, int64_t group) const {
  if (one_scale) return scales.at(0);
  return kind == Kind::bytes ? scales.at(row * groups + group) : scales.at(group * rows + row);
}

int GroupedLayout::zero(int64_t row, int64_t group) const {
  if (kind == Kind::bytes) {
    if (zeros.empty()) return 128;
    return 128 + static_cast<int8_t>(zeros[one_scale ? 0 : static_cast<size_t>(row * groups + group)]);
  }
  const int64_t per_word = 32 / bits;
  const int place = static_cast<int>(row % per_word);
  const uint32_t word = word_at(zeros, group * (rows / per_word) + row / per_word);
  const int shift = bits * (kind == Kind::awq ? kAwqNibble[place] : place);
  return static_cast<int>(word >> shift & ((1u << bits) - 1)) + (zeros_less_one ? 1 : 0);
}

bool GroupedLayout::zeros_are(int wanted) const {
  if (kind == Kind::bytes && zeros.empty()) return wanted == 128;
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t row = 0; row < rows; ++row) {
      if (zero(row, group) != wanted) return false;
    }
  }
  return true;
}

// Units are the outer loop: codes of neighbouring rows are neighbours in memory in AWQ and GPTQ.
void write_rows(const GroupedLayout& layout, DType dtype, int64_t begin, int64_t end, uint8_t* out) {
  const DTypeInfo& type = info(dtype);
  const int64_t stride = row_bytes(dtype, layout.cols), units = type.block_elems / kPackedColumns;
  const int64_t codes_at = code_offset(dtype);
  for (int64_t unit = 0; unit < layout.cols / kPackedColumns; ++unit) {
    const int64_t group = layout.group_of_unit[static_cast<size_t>(unit)], u = unit % units;
    for (int64_t row = begin; row < end; ++row) {
      uint8_t* block = out + (row - begin) * stride + unit / units * type.block_bytes;
      if (u == 0) write_header(layout, dtype, row, group, block);
      uint8_t codes[kPackedColumns];
      layout.codes_of(row, unit, codes);
      if (codes_at == 3) {
        for (int j = 0; j < 16; ++j) {
          block[codes_at + 16 * u + j] = static_cast<uint8_t>(codes[j] | codes[16 + j] << 4);
        }
      } else {
        const uint8_t flip = dtype == DType::g8_32 ? 0 : 0x80;
        for (int j = 0; j < kPackedColumns; ++j) block[codes_at + 32 * u + j] = codes[j] ^ flip;
      }
    }
  }
}

float Nf4Layout::scale(int64_t block) const {
  if (nested_map.empty()) return single_at(absmax, block);
  const auto code = static_cast<uint8_t>(absmax[static_cast<size_t>(block)]);
  return single_at(nested_map, code) * single_at(nested_absmax, block / nested_block) + nested_offset;
}

void write_rows(const Nf4Layout& layout, DType dtype, int64_t begin, int64_t end, uint8_t* out) {
  const int64_t block_bytes = info(dtype).block_bytes, blocks = layout.cols / 64;
  for (int64_t block = begin * blocks; block < end * blocks; ++block, out += block_bytes) {
    const float scale = layout.scale(block);
    std::memcpy(out, &scale, 4);
    const std::byte* from = layout.codes.data() + 32 * block;
    const auto code = [from](int64_t k) {  // the first of two in the high half
      const auto byte = static_cast<uint8_t>(from[k / 2]);
      return k % 2 == 0 ? byte >> 4 : byte & 15;
    };
    for (int64_t u = 0; u < 2; ++u) {
      for (int64_t j = 0; j < 16; ++j) {
        out[4 + 16 * u + j] = static_cast<uint8_t>(code(32 * u + j) | code(32 * u + 16 + j) << 4);
      }
    }
  }
}

}  // namespace redoubt
