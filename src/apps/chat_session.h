// A chat on the terminal: `redoubt run` without a prompt.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/json.h"
#include "core/result.h"
#include "engine/model_host.h"

namespace redoubt {

// What the person may set, by flag or by /set.
struct ChatSettings {
  std::optional<double> temperature, top_p;  // absent: the model's own
  std::optional<uint64_t> seed;              // absent: another each time
  int64_t max_tokens = 0;                    // 0: to the end of the context
  std::optional<int64_t> thinking_tokens;
  bool ignore_eos = false;
  std::string system;
  bool keeps_history = true;  // of lines typed, for the next chat
};

// The request that asks `model` to go on after `prompt`.
GenerationRequest make_request(const LoadedModel& model, const ChatSettings& settings, std::vector<int32_t> prompt);

// The prompt of a conversation by the model's template. Errors: the template's own, or that there is none.
Result<std::vector<int32_t>> chat_prompt(const LoadedModel& model, const Json& messages);

Status chat(LoadedModel& model, ChatSettings settings);

}  // namespace redoubt
