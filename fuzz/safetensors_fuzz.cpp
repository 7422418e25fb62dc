// Any bytes as a safetensors file, and as the index beside it.
#include <cstddef>
#include <cstdint>
#include <span>

#include "formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  if (const auto file = redoubt::parse_safetensors(bytes, "fuzz.safetensors")) {
    unsigned sum = 0;
    for (const redoubt::TensorView& tensor : file->tensors) {
      for (const std::byte b : tensor.data)
        sum += static_cast<unsigned>(b);  // every byte that a view promises is there
    }
    [[maybe_unused]] static volatile unsigned sink;
    sink = sum;
  }
  (void)redoubt::parse_safetensors_index({reinterpret_cast<const char*>(data), size});
  return 0;
}
