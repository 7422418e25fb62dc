#include "server/completions_request.h"

#include <fmt/format.h>

namespace redoubt {
namespace {

constexpr int64_t kDefaultMaxTokens = 16;  // OpenAI's

Result<CompletionPrompt> parse_ids(const Json& list) {
  CompletionPrompt prompt;
  prompt.ids.reserve(list.size());
  for (const Json& id : list) {
    if (!id.is_number_integer()) return wrong_type("prompt", "token ids", id);
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      return invalid("prompt: expected token ids, found a number out of range", "prompt");
    }
    prompt.ids.push_back(id.get<int32_t>());
  }
  return prompt;
}

Result<std::vector<CompletionPrompt>> parse_prompts(const JsonFields& fields) {
  const Json* value = fields.find("prompt");
  if (value == nullptr) return fields.refuse("prompt", "expected a text or token ids, found nothing");
  std::vector<CompletionPrompt> prompts;
  if (value->is_string()) {
    prompts.push_back({.text = value->get<std::string>()});
    return prompts;
  }
  if (!value->is_array()) return wrong_type("prompt", "a string or an array", *value);
  if (value->empty()) return fields.refuse("prompt", "expected at least one prompt, found none");
  if (value->front().is_number()) {
    REDOUBT_TRY(prompts.emplace_back(), parse_ids(*value));
    return prompts;
  }
  if (value->size() > kMaxPrompts) {
    return fields.refuse("prompt", fmt::format("expected at most {} prompts, found {}", kMaxPrompts, value->size()));
  }
  for (const Json& one : *value) {
    if (one.is_string()) {
      prompts.push_back({.text = one.get<std::string>()});
    } else if (one.is_array()) {
      REDOUBT_TRY(prompts.emplace_back(), parse_ids(one));
    } else {
      return wrong_type("prompt", "strings or arrays of token ids", one);
    }
  }
  return prompts;
}

}  // namespace

Result<CompletionsRequest> parse_completions_request(const Json& body) {
  const JsonFields fields(body);
  CompletionsRequest out;
  REDOUBT_TRY(const auto model, fields.string("model"));
  out.model = model.value_or("");
  REDOUBT_TRY(out.prompts, parse_prompts(fields));
  REDOUBT_CHECK(fields.refuse_unless_empty("suffix", "is not supported"));
  REDOUBT_CHECK(fields.refuse_unless_empty("prompt_embeds", "is not supported"));
  REDOUBT_TRY(out.generation, parse_generation_fields(fields));
  REDOUBT_TRY(const auto echo, fields.boolean("echo"));
  out.echo = echo.value_or(false);
  REDOUBT_TRY(out.generation.max_tokens, fields.integer("max_tokens", 0));
  if (!out.generation.max_tokens) out.generation.max_tokens = kDefaultMaxTokens;
  if (out.generation.max_tokens == 0 && !out.echo) {
    return fields.refuse("max_tokens", "expected at least 1 without echo, found 0");
  }
  if (out.generation.stop.min_tokens > *out.generation.max_tokens) {
    return fields.refuse("min_tokens", "expected at most max_tokens");
  }
  REDOUBT_TRY(out.logprobs, fields.integer("logprobs", 0, 20));
  REDOUBT_TRY(out.thinking_budget, fields.integer("thinking_token_budget", -1));
  if (out.thinking_budget == -1) out.thinking_budget.reset();
  REDOUBT_TRY(const auto special, fields.boolean("add_special_tokens"));
  out.add_special_tokens = special.value_or(false);
  REDOUBT_TRY(const StreamFields streaming, parse_stream_fields(fields));
  out.stream = streaming.stream;
  out.include_usage = streaming.include_usage;
  out.continuous_usage = streaming.continuous_usage;
  if (out.stream && out.echo && out.logprobs) {
    return fields.refuse("echo", "with logprobs is not supported in a stream");
  }
  return out;
}

}  // namespace redoubt
