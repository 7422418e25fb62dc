#include "engine/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace redoubt {

namespace {

Status check_range(const char* name, double value, double low, double high) {
  if (value >= low && value <= high) return ok();  // false for NaN
  return invalid(fmt::format("{}: expected {} to {}, found {}", name, low, high, value), name);
}

Status check_ids(const char* name, const std::vector<int32_t>& ids, int64_t vocab_size) {
  for (const int32_t id : ids)
    if (id < 0 || id >= vocab_size)
      return invalid(fmt::format("{}: expected token ids from 0 to {}, found {}", name, vocab_size - 1, id), name);
  return ok();
}

Status check_sampling(const SamplingParams& sampling, int64_t vocab_size) {
  REDOUBT_CHECK(check_range("temperature", sampling.temperature, 0.0, 1000.0));
  REDOUBT_CHECK(check_range("top_k", sampling.top_k, -1.0, 2147483647.0));
  REDOUBT_CHECK(check_range("min_p", sampling.min_p, 0.0, 1.0));
  REDOUBT_CHECK(check_range("presence_penalty", sampling.presence_penalty, -2.0, 2.0));
  REDOUBT_CHECK(check_range("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0));
  if (!(sampling.top_p > 0.0 && sampling.top_p <= 1.0))
    return invalid(fmt::format("top_p: expected more than 0 and at most 1, found {}", sampling.top_p), "top_p");
  if (!(sampling.repetition_penalty > 0.0 && std::isfinite(sampling.repetition_penalty)))
    return invalid(fmt::format("repetition_penalty: expected more than 0, found {}", sampling.repetition_penalty),
                   "repetition_penalty");
  if (sampling.penalty_window < -1)
    return invalid(fmt::format("repeat_last_n: expected -1 or more, found {}", sampling.penalty_window),
                   "repeat_last_n");
  for (const auto& [token, bias] : sampling.logit_bias) {
    REDOUBT_CHECK(check_ids("logit_bias", {token}, vocab_size));
    REDOUBT_CHECK(check_range("logit_bias", bias, -100.0, 100.0));
  }
  return ok();
}

Status check_stop(const StopConditions& stop, int64_t vocab_size) {
  if (stop.max_tokens < 0)
    return invalid(fmt::format("max_tokens: expected 0 or more, found {}", stop.max_tokens), "max_tokens");
  if (stop.min_tokens < 0)
    return invalid(fmt::format("min_tokens: expected 0 or more, found {}", stop.min_tokens), "min_tokens");
  if (stop.max_tokens > 0 && stop.min_tokens > stop.max_tokens)
    return invalid(
        fmt::format("min_tokens: expected at most max_tokens = {}, found {}", stop.max_tokens, stop.min_tokens),
        "min_tokens");
  for (const std::string& string : stop.strings)
    if (string.empty()) return invalid("stop: expected non-empty strings, found an empty one", "stop");
  return check_ids("stop_token_ids", stop.token_ids, vocab_size);
}

Status check_context(const GenerationRequest& request, int64_t max_context) {
  const auto prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t wanted = std::max<int64_t>(1, request.stop.max_tokens);
  if (prompt <= max_context && wanted <= max_context - prompt) return ok();
  const bool prompt_alone = prompt >= max_context;
  return Error{ErrorCode::context_length,
               prompt_alone
                   ? fmt::format("the prompt leaves no room in the context: n_prompt_tokens = {}, n_ctx = {}", prompt,
                                 max_context)
                   : fmt::format("prompt and answer exceed the context: n_prompt_tokens = {}, max_tokens = {}, "
                                 "n_ctx = {}",
                                 prompt, request.stop.max_tokens, max_context),
               prompt_alone ? "prompt" : "max_tokens"};
}

}  // namespace

Status check_request(const GenerationRequest& request, const AdmissionLimits& limits, const ThinkMarks& marks) {
  if (request.prompt.empty()) return invalid("prompt: expected at least one token, found none", "prompt");
  REDOUBT_CHECK(check_ids("prompt", request.prompt, limits.vocab_size));
  REDOUBT_CHECK(check_range("share_weight", request.share_weight, 1e-3, 1e3));
  REDOUBT_CHECK(check_range("n", request.n, 1, limits.max_choices));
  REDOUBT_CHECK(check_range("top_logprobs", request.top_logprobs, 0, 20));
  REDOUBT_CHECK(check_sampling(request.sampling, limits.vocab_size));
  REDOUBT_CHECK(check_stop(request.stop, limits.vocab_size));
  const ThinkingParams& thinking = request.thinking;
  if (thinking.budget_tokens.value_or(0) < 0)
    return invalid(fmt::format("thinking budget: expected 0 or more, found {}", *thinking.budget_tokens),
                   "thinking_token_budget");
  if (thinking.starts_in_reasoning && thinking.budget_tokens.has_value() && !marks.close.has_value())
    return unsupported("thinking budget: this model's vocabulary has no token </think> to close thinking with",
                       "thinking_token_budget");
  return check_context(request, limits.max_context);
}

}  // namespace redoubt
