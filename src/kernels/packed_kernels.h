// Kernels over packed weights (formats/packing.h). A kernel table has them or not, by what the CPU offers beyond the
// table's own instruction set; without them weights stay as stored and `linear` computes with them.
#pragma once

#include <span>
#include <string_view>

#include "core/dtype.h"
#include "kernels/kernel_args.h"

namespace redoubt {

// What a packed matrix is multiplied with.
enum class PackedInput : uint8_t { none, int8, bf16 };

struct PackedKernels {
  std::string_view name;
  bool (*supported)();  // integer codes, by this CPU
  bool (*bf16_supported)();
  void (*quantize_row)(const QuantizeRowArgs&);
  void (*linear)(const PackedLinearArgs&);       // integer codes
  void (*linear_bf16)(const PackedLinearArgs&);  // bf16 and f8_e4m3 weights
};

PackedType packed_type(DType dtype);  // none: the type has no packed form
PackedInput packed_input(const PackedKernels& kernels, DType dtype);

namespace packed {
extern const PackedKernels kAvx512;  // VNNI, and bf16 with BF16 and VBMI
}  // namespace packed

// The definition in scalar code. Integer codes: every set computes the same bits. bf16: within float rounding.
const PackedKernels& reference_packed_kernels();
std::span<const PackedKernels* const> packed_kernels();  // those compiled in, reference first

}  // namespace redoubt
