// The element types that a weight file may hold: plain floats and integers, DeepSeek's FP8, and the ggml blocks.
// Source: GGUF specification (type numbers), DeepSeek-V3 weight documentation (FP8).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace redoubt {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  f64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  i8,
  u8,
  i16,
  u16,
  i32,
  u32,
  i64,
  u64,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q8_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  q8_k,
  iq2_xxs,
  iq2_xs,
  iq3_xxs,
  iq1_s,
  iq4_nl,
  iq3_s,
  iq2_s,
  iq4_xs,
  iq1_m,
  tq1_0,
  tq2_0,
  mxfp4,
  nvfp4,
  // Ours, for what other programs quantised (docs/formats/quantised-directories.md): 4- and 8-bit codes in groups with
  // a zero point, 8-bit codes under one scale, bitsandbytes' NF4. The number is the columns of a block.
  g4_32,
  g4_64,
  g4_128,
  g8_32,
  i8_32,
  i8_128,
  nf4,
};
constexpr int kNumDTypes = static_cast<int>(DType::nf4) + 1;

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // as printed and as --type takes it: "bf16", "q4_k"
  int block_elems;        // elements in one block, 1 for plain types
  int block_bytes;        // bytes of one block
  int ggml_type;          // number in a GGUF file, -1 if it has none
};

const DTypeInfo& info(DType dtype);
std::optional<DType> dtype_from_name(std::string_view name);  // case-insensitive
std::optional<DType> dtype_from_ggml(uint32_t ggml_type);

// Bytes of a row of `elems` values. Precondition: elems is a multiple of block_elems.
inline int64_t row_bytes(DType dtype, int64_t elems) {
  const DTypeInfo& i = info(dtype);
  return elems / i.block_elems * i.block_bytes;
}

}  // namespace redoubt
