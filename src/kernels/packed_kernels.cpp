#include "kernels/packed_kernels.h"

#include <array>

#include "kernels/cpu.h"
#include "kernels/packed_entry.h"

namespace redoubt {
namespace {

bool always() { return true; }
bool never() { return false; }

constexpr PackedKernels kReference{
    "reference", always, always, reference::quantize_row, reference::packed_linear, reference::packed_linear_bf16};

#if defined(__x86_64__)
bool avx_vnni_supported() { return cpu::has_avx2() && cpu::has_avx_vnni(); }
bool avx512_supported() { return cpu::has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool avx512_bf16_supported() {
  return avx512_supported() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bf16");
}
constexpr PackedKernels kAvx2{"avx2", cpu::has_avx2, never, avx2::quantize_row, avx2::packed_linear, nullptr};
constexpr PackedKernels kAvxVnni{"avx_vnni", avx_vnni_supported, never, avx_vnni::quantize_row, avx_vnni::packed_linear,
                                 nullptr};
constexpr PackedKernels kAvx512{"avx512",
                                avx512_supported,
                                avx512_bf16_supported,
                                avx512::quantize_row,
                                avx512::packed_linear,
                                avx512::packed_linear_bf16};
bool avx512_pairs_supported() { return avx512_supported() && cpu::adds_beside_products(); }
constexpr PackedKernels kAvx512Pairs{"avx512_pairs",       avx512_pairs_supported,      never,
                                     avx512::quantize_row, avx512_pairs::packed_linear, nullptr};
bool amx_supported() { return avx512_bf16_supported() && cpu::has_amx(); }
bool amx_codes_supported() { return avx512_supported() && __builtin_cpu_supports("gfni") && cpu::has_amx(); }
constexpr PackedKernels kAmx{
    "amx", amx_codes_supported, amx_supported, avx512::quantize_row, amx::packed_linear, amx::packed_linear_bf16};
constexpr std::array kBestFirst{&kAmx, &kAvx512Pairs, &kAvx512, &kAvxVnni, &kAvx2};
constexpr std::array kAll{&kReference, &kAvx2, &kAvxVnni, &kAvx512, &kAvx512Pairs, &kAmx};
#elif defined(__aarch64__)
bool neon_i8mm_supported() { return cpu::has_dotprod() && cpu::has_i8mm(); }
constexpr PackedKernels kNeon{"neon", always, never, neon::quantize_row, neon::packed_linear, nullptr};
constexpr PackedKernels kNeonDotprod{
    "neon_dotprod", cpu::has_dotprod, never, neon_dotprod::quantize_row, neon_dotprod::packed_linear, nullptr};
constexpr PackedKernels kNeonI8mm{
    "neon_i8mm", neon_i8mm_supported, never, neon_i8mm::quantize_row, neon_i8mm::packed_linear, nullptr};
constexpr std::array kBestFirst{&kNeonI8mm, &kNeonDotprod, &kNeon};
constexpr std::array kAll{&kReference, &kNeon, &kNeonDotprod, &kNeonI8mm};
#else
constexpr std::array kAll{&kReference};
#endif

}  // namespace

#if defined(__x86_64__)
PackedSets packed::amx() { return kBestFirst; }
PackedSets packed::avx512() { return packed::amx().subspan(1); }
PackedSets packed::avx2() { return packed::amx().subspan(3); }
#elif defined(__aarch64__)
PackedSets packed::neon() { return kBestFirst; }
#endif

PackedKernels choose_packed(PackedSets sets) {
  PackedKernels chosen{"none", never, never, nullptr, nullptr, nullptr};
  for (const PackedKernels* set : sets) {
    if (!chosen.supported() && set->supported()) {
      chosen.name = set->name;
      chosen.supported = always;
      chosen.quantize_row = set->quantize_row;
      chosen.linear = set->linear;
    }
    if (!chosen.bf16_supported() && set->bf16_supported()) {
      chosen.bf16_supported = always;
      chosen.linear_bf16 = set->linear_bf16;
    }
  }
  return chosen;
}

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
    case DType::g4_32:
      return PackedType::g4_32;
    case DType::g4_64:
      return PackedType::g4_64;
    case DType::g4_128:
      return PackedType::g4_128;
    case DType::g8_32:
      return PackedType::g8_32;
    case DType::i8_32:
      return PackedType::i8_32;
    case DType::i8_128:
      return PackedType::i8_128;
    case DType::nf4:
      return PackedType::nf4;
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
PackedSets packed_kernels() { return kAll; }

}  // namespace redoubt
