// Any bytes as config.json and generation_config.json; what parses also goes back to JSON and GGUF keys.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "formats/config_json.h"
#include "formats/model_config.h"
#include "formats/quantization.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace redoubt;
  const auto json = parse_json({reinterpret_cast<const char*>(data), size}, {.max_bytes = 256 << 10});
  if (!json) return 0;
  if (const auto generation = parse_generation_config(*json)) (void)generation_to_json(*generation, nullptr);
  if (const auto quantization = parse_quantization_config(*json)) (void)to_string(*quantization);
  if (const auto config = parse_model_config(*json)) {
    (void)config_to_json(*config, "bfloat16");
    (void)config_to_gguf(*config);
    (void)llama3_divisors(config->rope, config->head_dim);
  }
  return 0;
}
