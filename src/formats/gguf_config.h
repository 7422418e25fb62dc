// A model's configuration from GGUF metadata: architectures deepseek2 (old and new key sets), llama, qwen2.
// Source: the key tables of docs/formats/gguf.md.
#pragma once

#include "core/result.h"
#include "formats/gguf.h"
#include "formats/model_config.h"

namespace redoubt {

Result<ModelConfig> model_config_from_gguf(const GgufFile& file);
Result<GenerationConfig> generation_config_from_gguf(const GgufFile& file);

}  // namespace redoubt
