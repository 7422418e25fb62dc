// Any bytes as a GGUF file: its metadata by every accessor, its configuration, its tensors under Hugging Face names,
// and one row of each decoded.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "formats/blocks.h"
#include "formats/gguf.h"
#include "formats/gguf_config.h"
#include "formats/tensor_table.h"

namespace {

void ask_everything(const redoubt::GgufFile& file, std::string_view key) {
  (void)file.string(key);
  (void)file.integer(key);
  (void)file.number(key);
  (void)file.boolean(key);
  (void)file.strings(key);
  (void)file.integers(key);
  (void)file.floats(key);
  (void)file.expect_string(key);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace redoubt;
  const auto file = GgufFile::parse({reinterpret_cast<const std::byte*>(data), size}, "fuzz.gguf");
  if (!file) return 0;
  for (const auto& [key, value] : file->metadata()) ask_everything(*file, key);
  (void)generation_config_from_gguf(*file);
  if (const auto config = model_config_from_gguf(*file)) {
    TensorTable table;
    (void)load_gguf(*file, *config, table);
  }
  for (const GgufTensor& tensor : file->tensors()) {
    if (tensor.dims[0] > 4096) continue;
    std::vector<float> row(static_cast<size_t>(tensor.dims[0]));
    decode_row(tensor.dtype, tensor.data.data(), row);
  }
  return 0;
}
