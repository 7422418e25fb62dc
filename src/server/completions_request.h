// The body of POST /v1/completions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "server/generation_fields.h"

namespace redoubt {

struct CompletionPrompt {
  std::optional<std::string> text;  // or:
  std::vector<int32_t> ids;
};

struct CompletionsRequest {
  std::string model;
  std::vector<CompletionPrompt> prompts;
  GenerationFields generation;      // max_tokens is 16 where the body has none; 0: nothing is generated (with echo)
  std::optional<int64_t> logprobs;  // likeliest tokens to list, 0..20
  std::optional<int64_t> thinking_budget;  // tokens; nullopt: no limit
  bool echo = false, add_special_tokens = false;
  bool stream = false, include_usage = false, continuous_usage = false;
};

constexpr size_t kMaxPrompts = 64;

Result<CompletionsRequest> parse_completions_request(const Json& body);

}  // namespace redoubt
