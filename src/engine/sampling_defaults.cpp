#include "engine/sampling_defaults.h"

namespace redoubt {
namespace {

// Every template of R1 and its distills drops the past thinking, so that they name the end of its block.
bool is_of_a_deepseek_that_thinks(std::string_view chat_template) {
  return chat_template.find("<｜Assistant｜>") != std::string_view::npos &&
         chat_template.find("</think>") != std::string_view::npos;
}

}  // namespace

SamplingDefaults sampling_defaults(const GenerationConfig& config, std::string_view chat_template, SilentModel others) {
  const bool deepseeks = others == SilentModel::as_deepseek || is_of_a_deepseek_that_thinks(chat_template);
  return {.temperature = config.do_sample ? config.temperature.value_or(deepseeks ? 0.6 : 1.0) : 0.0,
          .top_p = config.top_p.value_or(deepseeks ? 0.95 : 1.0),
          .min_p = config.min_p.value_or(0),
          .repetition_penalty = config.repetition_penalty.value_or(1),
          .top_k = config.top_k.value_or(0)};
}

}  // namespace redoubt
