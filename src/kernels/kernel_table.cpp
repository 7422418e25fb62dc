#include "kernels/kernel_table.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/cpu.h"
#include "kernels/reference/reference.h"
#include "kernels/vector_tables.h"

namespace redoubt {
namespace {

bool always() { return true; }
PackedSets no_packed_sets() { return {}; }

constexpr AttentionKernels kNoAttention{};

constexpr KernelTable kReference{"reference",
                                 always,
                                 reference::linear,
                                 reference::linear_transposed,
                                 reference::rms_norm,
                                 reference::silu_mul,
                                 {1, reference::attention_tile, reference::attention_merge, reference::attention_values,
                                  nullptr, nullptr, reference::attention_decode_q8, nullptr},
                                 kNoAttention,
                                 kNoAttention,
                                 reference::axpy,
                                 reference::bf16_encode,
                                 reference::decoder,
                                 no_packed_sets};

#define REDOUBT_ATTENTION(word_elements, isa)                                                                      \
  AttentionKernels {                                                                                               \
    word_elements, isa::attention_tile, isa::attention_merge, isa::attention_values, isa::attention_few_rows_tile, \
        isa::attention_few_rows_merge, isa::attention_decode_q8, nullptr                                           \
  }

#define REDOUBT_VECTOR_TABLE(isa, constant)                 \
  DecodeFn isa##_decoder(DType dtype) {                     \
    switch (dtype) {                                        \
      case DType::f32:                                      \
        return isa::decode_f32;                             \
      case DType::bf16:                                     \
        return isa::decode_bf16;                            \
      case DType::f16:                                      \
        return isa::decode_f16;                             \
      case DType::f8_e4m3:                                  \
        return isa::decode_e4m3;                            \
      case DType::q4_0:                                     \
        return isa::decode_q4_0;                            \
      case DType::q4_1:                                     \
        return isa::decode_q4_1;                            \
      case DType::q8_0:                                     \
        return isa::decode_q8_0;                            \
      case DType::q4_k:                                     \
        return isa::decode_q4_k;                            \
      case DType::q5_k:                                     \
        return isa::decode_q5_k;                            \
      case DType::q6_k:                                     \
        return isa::decode_q6_k;                            \
      default:                                              \
        return nullptr;                                     \
    }                                                       \
  }                                                         \
  constexpr KernelTable constant{#isa,                      \
                                 isa##_supported,           \
                                 isa::linear,               \
                                 isa::linear_transposed,    \
                                 isa::rms_norm,             \
                                 isa::silu_mul,             \
                                 REDOUBT_ATTENTION(1, isa), \
                                 kNoAttention,              \
                                 kNoAttention,              \
                                 isa::axpy,                 \
                                 isa::bf16_encode,          \
                                 isa##_decoder,             \
                                 packed::isa};

#if defined(__x86_64__)
constexpr auto avx2_supported = cpu::has_avx2;
constexpr auto avx512_supported = cpu::has_avx512;
bool avx512_bf16_supported() {
  return avx512_supported() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
}
bool amx_supported() { return avx512_bf16_supported() && cpu::has_amx(); }
REDOUBT_VECTOR_TABLE(avx2, kAvx2)
REDOUBT_VECTOR_TABLE(avx512, kAvx512)
// The avx512 table with attention over bfloat16 pairs.
constexpr KernelTable kAvx512Bf16 = [] {
  KernelTable table = kAvx512;
  table.name = "avx512_bf16";
  table.supported = avx512_bf16_supported;
  table.attention_bf16 = REDOUBT_ATTENTION(2, avx512_bf16);
  table.attention_codes = table.attention_bf16;
  table.attention_codes.tile = avx512_codes::attention_tile;
  table.attention_codes.values = avx512_codes::attention_values;
  table.attention_codes.few_rows_tile = avx512_codes::attention_few_rows_tile;
  table.attention_codes.encode_query = avx512_codes::attention_encode_query;
  return table;
}();
// With attention and packed weights by tile products.
constexpr KernelTable kAmx = [] {
  KernelTable table = kAvx512Bf16;
  table.name = "amx";
  table.supported = amx_supported;
  table.attention_codes = kNoAttention;  // slower than tiles of bfloat16
  table.attention_bf16.tile = amx::attention_tile;
  table.attention_bf16.values = amx::attention_values;
  table.attention_bf16.few_rows_tile = amx::attention_few_rows_tile;
  table.packed = packed::amx;
  return table;
}();
constexpr std::array kTables{&kReference, &kAvx2, &kAvx512, &kAvx512Bf16, &kAmx};
#elif defined(__aarch64__)
bool neon_supported() { return true; }
REDOUBT_VECTOR_TABLE(neon, kNeon)
constexpr std::array kTables{&kReference, &kNeon};
#else
constexpr std::array kTables{&kReference};
#endif

// A short comparison with the reference on data with tails: a table that a compiler or a processor broke is not chosen.
bool agrees_with_reference(const KernelTable& table) {
  constexpr int64_t kRows = 19, kCols = 547, kTokens = 5;
  std::vector<float> w(kRows * kCols), x(kTokens * kCols), scratch(kLinearScratch);
  uint32_t state = 1;
  const auto next = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<int32_t>(state) >> 8) * 0x1p-23f;
  };
  for (float& v : w) v = next();
  for (float& v : x) v = next();
  const auto run = [&](const KernelTable& kernels) {
    std::vector<float> y(kTokens * kRows + kCols);
    const WeightMatrix matrix{reinterpret_cast<const unsigned char*>(w.data()),
                              kRows,
                              kCols,
                              kCols * 4,
                              static_cast<int32_t>(DType::f32),
                              1,
                              4,
                              nullptr,
                              0,
                              decoder_for(kernels, DType::f32)};
    kernels.linear({matrix, x.data(), kCols, nullptr, y.data(), kRows, kTokens, 0, kRows, nullptr, scratch.data()});
    kernels.silu_mul({x.data(), w.data(), y.data() + kTokens * kRows, kCols});
    return y;
  };
  const std::vector<float> expected = run(kReference), found = run(table);
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(expected[i] - found[i]) <= 1e-3f)) return false;
  }
  return true;
}

}  // namespace

std::span<const KernelTable* const> kernel_tables() { return kTables; }
const KernelTable& reference_kernels() { return kReference; }

DecodeFn decoder_for(const KernelTable& table, DType dtype) {
  if (const DecodeFn own = table.decoder(dtype); own != nullptr) return own;
  return reference::decoder(dtype);
}

Result<const KernelTable*> choose_kernels(std::string_view name) {
  if (name == "auto") {
    for (auto table = kTables.rbegin(); table != kTables.rend(); ++table) {
      if ((*table)->supported() && agrees_with_reference(**table)) return *table;
    }
    return &kReference;
  }
  for (const KernelTable* table : kTables) {
    if (table->name != name) continue;
    if (!table->supported()) return unsupported(fmt::format("kernels {}: this CPU cannot run them", name), "kernels");
    return table;
  }
  std::string names = "auto";
  for (const KernelTable* table : kTables) names += fmt::format(", {}", table->name);
  return invalid(fmt::format("kernels: expected one of {}; found '{}'", names, name), "kernels");
}

}  // namespace redoubt
