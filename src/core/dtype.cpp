#include "core/dtype.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/result.h"

namespace redoubt {
namespace {

constexpr std::array kTypes{
    DTypeInfo{DType::f32, "f32", 1, 4, 0},
    DTypeInfo{DType::f16, "f16", 1, 2, 1},
    DTypeInfo{DType::bf16, "bf16", 1, 2, 30},
    DTypeInfo{DType::f64, "f64", 1, 8, 28},
    DTypeInfo{DType::f8_e4m3, "fp8", 1, 1, -1},
    DTypeInfo{DType::f8_e5m2, "f8_e5m2", 1, 1, -1},
    DTypeInfo{DType::f8_e8m0, "f8_e8m0", 1, 1, -1},
    DTypeInfo{DType::i8, "i8", 1, 1, 24},
    DTypeInfo{DType::u8, "u8", 1, 1, -1},
    DTypeInfo{DType::i16, "i16", 1, 2, 25},
    DTypeInfo{DType::u16, "u16", 1, 2, -1},
    DTypeInfo{DType::i32, "i32", 1, 4, 26},
    DTypeInfo{DType::u32, "u32", 1, 4, -1},
    DTypeInfo{DType::i64, "i64", 1, 8, 27},
    DTypeInfo{DType::u64, "u64", 1, 8, -1},
    DTypeInfo{DType::boolean, "bool", 1, 1, -1},
    DTypeInfo{DType::q4_0, "q4_0", 32, 18, 2},
    DTypeInfo{DType::q4_1, "q4_1", 32, 20, 3},
    DTypeInfo{DType::q5_0, "q5_0", 32, 22, 6},
    DTypeInfo{DType::q5_1, "q5_1", 32, 24, 7},
    DTypeInfo{DType::q8_0, "q8_0", 32, 34, 8},
    DTypeInfo{DType::q8_1, "q8_1", 32, 36, 9},
    DTypeInfo{DType::q2_k, "q2_k", 256, 84, 10},
    DTypeInfo{DType::q3_k, "q3_k", 256, 110, 11},
    DTypeInfo{DType::q4_k, "q4_k", 256, 144, 12},
    DTypeInfo{DType::q5_k, "q5_k", 256, 176, 13},
    DTypeInfo{DType::q6_k, "q6_k", 256, 210, 14},
    DTypeInfo{DType::q8_k, "q8_k", 256, 292, 15},
    DTypeInfo{DType::iq2_xxs, "iq2_xxs", 256, 66, 16},
    DTypeInfo{DType::iq2_xs, "iq2_xs", 256, 74, 17},
    DTypeInfo{DType::iq3_xxs, "iq3_xxs", 256, 98, 18},
    DTypeInfo{DType::iq1_s, "iq1_s", 256, 50, 19},
    DTypeInfo{DType::iq4_nl, "iq4_nl", 32, 18, 20},
    DTypeInfo{DType::iq3_s, "iq3_s", 256, 110, 21},
    DTypeInfo{DType::iq2_s, "iq2_s", 256, 82, 22},
    DTypeInfo{DType::iq4_xs, "iq4_xs", 256, 136, 23},
    DTypeInfo{DType::iq1_m, "iq1_m", 256, 56, 29},
    DTypeInfo{DType::tq1_0, "tq1_0", 256, 54, 34},
    DTypeInfo{DType::tq2_0, "tq2_0", 256, 66, 35},
    DTypeInfo{DType::mxfp4, "mxfp4", 32, 17, 39},
    DTypeInfo{DType::nvfp4, "nvfp4", 64, 36, 40},
    DTypeInfo{DType::g4_32, "g4_32", 32, 19, -1},
    DTypeInfo{DType::g4_64, "g4_64", 64, 35, -1},
    DTypeInfo{DType::g4_128, "g4_128", 128, 67, -1},
    DTypeInfo{DType::g8_32, "g8_32", 32, 38, -1},
    DTypeInfo{DType::i8_32, "i8_32", 32, 36, -1},
    DTypeInfo{DType::i8_128, "i8_128", 128, 132, -1},
    DTypeInfo{DType::nf4, "nf4", 64, 36, -1},
};

}  // namespace

const DTypeInfo& info(DType dtype) {
  const auto& entry = kTypes[static_cast<size_t>(dtype)];
  REDOUBT_DEBUG_ASSERT(entry.dtype == dtype);
  return entry;
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeInfo& type : kTypes) {
    if (std::ranges::equal(type.name, name, {}, {}, [](unsigned char c) { return std::tolower(c); })) return type.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_ggml(uint32_t ggml_type) {
  for (const DTypeInfo& type : kTypes) {
    if (type.ggml_type >= 0 && static_cast<uint32_t>(type.ggml_type) == ggml_type) return type.dtype;
  }
  return std::nullopt;
}

}  // namespace redoubt
