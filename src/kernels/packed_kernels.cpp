#include "kernels/packed_kernels.h"

#include <array>

#include "kernels/packed_entry.h"

namespace redoubt {
namespace {

bool always() { return true; }

constexpr PackedKernels kReference{
    "reference", always, always, reference::quantize_row, reference::packed_linear, reference::packed_linear_bf16};

#if defined(__x86_64__)
bool avx512_supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
bool avx512_bf16_supported() {
  return avx512_supported() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
}
constexpr std::array kAll{&kReference, &packed::kAvx512};
#else
constexpr std::array kAll{&kReference};
#endif

}  // namespace

#if defined(__x86_64__)
constexpr PackedKernels packed::kAvx512{"avx512",
                                        avx512_supported,
                                        avx512_bf16_supported,
                                        avx512::quantize_row,
                                        avx512::packed_linear,
                                        avx512::packed_linear_bf16};
#endif

PackedType packed_type(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return PackedType::q4_0;
    case DType::q4_1:
      return PackedType::q4_1;
    case DType::q5_0:
      return PackedType::q5_0;
    case DType::q5_1:
      return PackedType::q5_1;
    case DType::q8_0:
      return PackedType::q8_0;
    case DType::q4_k:
      return PackedType::q4_k;
    case DType::q5_k:
      return PackedType::q5_k;
    case DType::q6_k:
      return PackedType::q6_k;
    case DType::iq4_nl:
      return PackedType::iq4_nl;
    case DType::mxfp4:
      return PackedType::mxfp4;
    case DType::bf16:
      return PackedType::bf16;
    case DType::f8_e4m3:
      return PackedType::f8_e4m3;
    default:
      return PackedType::none;
  }
}

PackedInput packed_input(const PackedKernels& kernels, DType dtype) {
  const PackedType type = packed_type(dtype);
  if (type == PackedType::none) return PackedInput::none;
  if (type == PackedType::bf16 || type == PackedType::f8_e4m3) {
    return kernels.bf16_supported() ? PackedInput::bf16 : PackedInput::none;
  }
  return kernels.supported() ? PackedInput::int8 : PackedInput::none;
}

const PackedKernels& reference_packed_kernels() { return kReference; }
std::span<const PackedKernels* const> packed_kernels() { return kAll; }

}  // namespace redoubt
