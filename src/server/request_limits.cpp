#include "server/request_limits.h"

#include <algorithm>

namespace redoubt {

namespace {

// Used up for the rest of a day or a month, and not only reserved.
bool is_spent(const LimitRefusal& refusal) {
  const LimitWindow window = window_of(refusal.kind);
  return !refusal.is_reserved && (window == LimitWindow::day || window == LimitWindow::month);
}

bool thinks(const ThinkingParams& thinking, MayThink may_think) {
  if (may_think == MayThink::never || thinking.budget_tokens == 0) return false;
  return thinking.starts_in_reasoning || may_think == MayThink::unless_told;
}

}  // namespace

ApiError limit_error(const LimitRefusal& refusal) {
  ApiError error{.message = refusal.message, .headers = refusal.headers()};
  switch (refusal.why) {
    case LimitRefusal::Why::exhausted:
      error.status = 429;
      error.type = "rate_limit_error";
      error.code = "rate_limit_exceeded";
      if (is_spent(refusal)) error.code = "insufficient_quota";
      // Clients that try again at once would only ask in vain; where no wait helps, always.
      if (is_spent(refusal) || refusal.retry_after_s == 0) error.headers.emplace_back("x-should-retry", "false");
      break;
    case LimitRefusal::Why::too_long:
      error.status = 400;
      error.type = "invalid_request_error";
      error.code = "context_length_exceeded";
      break;
    case LimitRefusal::Why::unavailable:
      error.status = 503;
      error.type = "unavailable_error";
      error.code = "limits_unavailable";
      break;
  }
  return error;
}

std::variant<std::shared_ptr<RequestLimits>, ApiError> RequestLimits::reserve(
    Limits& limits, const Principal& principal, const std::string& model, MayThink may_think,
    std::vector<GenerationRequest>& requests, Reservation* taken) {
  auto limited = std::make_shared<RequestLimits>();
  for (GenerationRequest& request : requests) {
    auto answer = limits.reserve({.principal = &principal,
                                  .model = model,
                                  .prompt_tokens = static_cast<int64_t>(request.prompt.size()),
                                  .max_tokens = request.stop.max_tokens,
                                  .choices = request.n,
                                  .may_think = thinks(request.thinking, may_think)},
                                 &request == &requests.back() ? taken : nullptr);
    if (const auto* refusal = std::get_if<LimitRefusal>(&answer)) {
      if (refusal->why == LimitRefusal::Why::unavailable && taken != nullptr) *taken = {};
      return limit_error(*refusal);
    }
    limited->prompts_.emplace_back().reservation = std::get<Reservation>(std::move(answer));
    limited->bind(limited->prompts_.size() - 1, may_think, request);
  }
  return limited;
}

void RequestLimits::bind(size_t prompt, MayThink may_think, GenerationRequest& request) {
  Prompt& own = prompts_[prompt];
  const Reservation& reservation = own.reservation;
  const Reservation::Bounds& bounds = reservation.bounds();
  request.share_weight = bounds.share_weight;
  if (const int64_t most = bounds.most_answer; most < Reservation::kUnlimited) {
    if (request.stop.max_tokens == 0 || most < request.stop.max_tokens) {
      own.bounded_tokens = static_cast<int64_t>(request.prompt.size()) + most;
      request.stop.max_tokens = most;
    }
  }
  if (const int64_t most = bounds.most_thinking; most < Reservation::kUnlimited && may_think != MayThink::never)
    request.thinking.budget_tokens = std::min(request.thinking.budget_tokens.value_or(most), most);
  headers_ = rate_headers(bounds.rates);  // of the last: all are taken then
  if (!reservation.is_limited()) return;

  const Reservation::Granted granted = reservation.granted();
  const std::weak_ptr<RequestLimits> weak = weak_from_this();
  own.allowance = std::make_shared<Allowance>(
      Allowance::Tokens{granted.answer, granted.thinking}, [weak, prompt](Allowance::Tokens used) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        Prompt& asked = self->prompts_[prompt];
        const std::weak_ptr<Allowance> allowance = asked.allowance;
        asked.reservation.extend({used.answer, used.thinking}, [weak, prompt, allowance](auto answer) {
          const auto alive = allowance.lock();
          if (alive == nullptr) return;
          if (auto* more = std::get_if<Reservation::Granted>(&answer))
            return alive->extend({more->answer, more->thinking});
          auto& no_more = std::get<Reservation::NoMore>(answer);
          if (const auto owner = weak.lock(); owner != nullptr && no_more.is_unavailable)
            owner->prompts_[prompt].is_unavailable = true;
          alive->close(std::move(no_more.limit));
        });
      });
  request.allowance = own.allowance;
}

void RequestLimits::on_lost(const std::function<void(const std::string&)>& callback) {
  for (Prompt& prompt : prompts_) prompt.reservation.on_lost(callback);
}

void RequestLimits::settle(size_t prompt, const GenerationUsage& usage) {
  const bool has_begun = usage.completion_tokens > 0;
  const int64_t read = has_begun ? usage.prompt_tokens : usage.prefilled_tokens;
  prompts_[prompt].reservation.settle({read, usage.completion_tokens, usage.reasoning_tokens});
}

std::string RequestLimits::limit_of(size_t prompt) const {
  return prompts_[prompt].allowance == nullptr ? "" : prompts_[prompt].allowance->limit();
}

std::string RequestLimits::limit_of_length(size_t prompt, int64_t max_context) const {
  const Prompt& own = prompts_[prompt];
  return own.bounded_tokens == 0 || own.bounded_tokens >= max_context ? "" : own.reservation.bounds().answer_limit;
}

ApiError limits_unavailable(const std::string& limit) {
  return limit_error({.why = LimitRefusal::Why::unavailable,
                      .limit = limit,
                      .message = limit + ": the limits' database could not be reached, so the answer ends here",
                      .retry_after_s = 1});
}

}  // namespace redoubt
