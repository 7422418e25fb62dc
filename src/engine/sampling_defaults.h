// How a model is sampled where nobody says otherwise.
//
// As its generation_config.json or its GGUF keys (general.sampling.*) say; do_sample false: greedy. What they leave
// open: temperature 0.6 and top_p 0.95 where the model's own template has DeepSeek's marks and a think block, which is
// R1, its distills and V3.1 (DeepSeek-R1's README, usage recommendations: below 0.5 to 0.7 it repeats itself or
// rambles). For any other model it depends on who asks: the server takes 1 and 1, which are OpenAI's and what its
// clients count on; a chat on the terminal, which has no client to set them, DeepSeek's. A GGUF file seldom has such
// keys, whoever made it.
#pragma once

#include <cstdint>
#include <string_view>

#include "formats/model_config.h"

namespace redoubt {

struct SamplingDefaults {
  double temperature = 1, top_p = 1, min_p = 0, repetition_penalty = 1;
  int64_t top_k = 0;
};

enum class SilentModel : uint8_t { as_openai, as_deepseek };
SamplingDefaults sampling_defaults(const GenerationConfig& config, std::string_view chat_template,
                                   SilentModel others = SilentModel::as_openai);

}  // namespace redoubt
