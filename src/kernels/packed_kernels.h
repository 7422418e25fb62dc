// Kernels over packed weights (formats/packing.h), in sets by what a CPU offers beyond a kernel table's own instruction
// set. A table names the sets it may use; without one weights stay as stored and `linear` computes with them.
#pragma once

#include <span>
#include <string_view>

#include "core/dtype.h"
#include "kernels/kernel_args.h"

namespace redoubt {

// What a packed matrix is multiplied with.
enum class PackedInput : uint8_t { none, int8, bf16 };

struct PackedKernels {
  // "reference", "avx2", "avx_vnni", "avx512", "avx512_pairs", "amx", "neon", "neon_dotprod", "neon_i8mm"
  std::string_view name;
  bool (*supported)();  // integer codes, by this CPU
  bool (*bf16_supported)();
  void (*quantize_row)(const QuantizeRowArgs&);
  void (*linear)(const PackedLinearArgs&);       // integer codes
  void (*linear_bf16)(const PackedLinearArgs&);  // bf16 and f8_e4m3 weights; null where never supported
};

PackedType packed_type(DType dtype);  // none: the type has no packed form
PackedInput packed_input(const PackedKernels& kernels, DType dtype);

using PackedSets = std::span<const PackedKernels* const>;

// Of sets in order of preference: integer codes of the first that this CPU supports, bf16 likewise. To be chosen once,
// when a model is loaded. Without any, `supported` and `bf16_supported` say so.
PackedKernels choose_packed(PackedSets sets);

// What the tables may use, best first.
namespace packed {
PackedSets avx2();    // with VNNI of 256 bits, or without
PackedSets avx512();  // with VNNI, by products of sums or not, and BF16 and VBMI; otherwise as avx2
PackedSets amx();     // by tiles; otherwise as avx512
PackedSets neon();    // with i8mm, with dotprod, or without
}  // namespace packed

// The definition in scalar code. Integer codes: every set computes the same bits. bf16: within float rounding.
const PackedKernels& reference_packed_kernels();
PackedSets packed_kernels();  // those compiled in, reference first

}  // namespace redoubt
