// ModelConfig back into the files and keys it came from: config.json, generation_config.json, GGUF metadata.
#pragma once

#include "core/json.h"
#include "formats/gguf.h"
#include "formats/model_config.h"
#include "formats/model_writer.h"

namespace redoubt {

// torch_dtype as config.json spells it. Errors: frequency divisors that no published rope type explains.
Result<Json> config_to_json(const ModelConfig& config, std::string_view torch_dtype);
Json generation_to_json(const GenerationConfig& generation, const GgufFile* gguf);

// architecture, sizes, rope and experts, new-style deepseek2 keys.
GgufMetadata config_to_gguf(const ModelConfig& config);
void add_generation_keys(const GenerationConfig& generation, GgufMetadata& metadata);

// One divisor per pair for Llama 3's scaling. Source: the published llama3 rope type.
std::vector<float> llama3_divisors(const RopeConfig& rope, int64_t head_dim);

}  // namespace redoubt
