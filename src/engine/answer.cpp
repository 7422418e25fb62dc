#include "engine/answer.h"

#include <algorithm>

#include "engine/counter_random.h"
#include "engine/logprobs.h"

namespace redoubt {
namespace {

const std::string kMinTokens = "min_tokens";

// For the whole answer: a grant of thinking that is limited stays so, however it grows.
Thinking::Bound bound_of_thinking(const GenerationRequest& request) {
  const Allowance* allowance = request.allowance.get();
  const bool is_granted = allowance != nullptr && allowance->granted().thinking < Allowance::kUnlimited;
  return request.thinking.budget_tokens.has_value() || is_granted ? Thinking::Bound::limited : Thinking::Bound::none;
}

}  // namespace

Answer::Answer(const GenerationRequest& request, int choice, int64_t max_tokens, const AnswerSetting& setting,
               std::shared_ptr<const GrammarVocabulary> vocabulary)
    : request_(&request),
      setting_(&setting),
      choice_(choice),
      max_tokens_(max_tokens),
      decoder_(*setting.tokenizer, request.skip_special_tokens),
      stops_(request.stop.strings,
             request.stop.include_stop_string ? StopMatcher::Include::yes : StopMatcher::Include::no),
      thinking_(request.thinking, bound_of_thinking(request), setting.marks),
      seen_(request.sampling.penalty_window) {
  if (has_penalties(request.sampling)) seen_.add_prompt(request.prompt);
  if (request.grammar == nullptr) return;
  grammar_vocab_size_ = vocabulary->vocab_size();
  mask_.resize((static_cast<size_t>(std::max<int64_t>(grammar_vocab_size_, setting.vocab_size)) + 31) / 32);
  grammar_.emplace(request.grammar, std::move(vocabulary));
}

int64_t Answer::left() const {
  const Allowance* allowance = request_->allowance.get();
  return std::min(max_tokens_, allowance == nullptr ? max_tokens_ : allowance->granted().answer) - generated_;
}

Answer::Grant Answer::grant() const {
  const Allowance* allowance = request_->allowance.get();
  if (allowance == nullptr) return Grant::left;
  const bool closed = allowance->closed();
  const Allowance::Tokens granted = allowance->granted();
  const bool used_up = generated_ >= granted.answer || (thinking_.inside() && reasoning_tokens_ >= granted.thinking);
  return !used_up ? Grant::left : closed ? Grant::ended : Grant::used_up;
}

bool Answer::is_eos(int32_t token) const {
  return !request_->stop.ignore_eos && std::ranges::find(setting_->eos_ids, token) != setting_->eos_ids.end();
}

void Answer::forbid_by_grammar(std::span<float> logits) {
  std::ranges::fill(mask_, 0u);
  grammar_->fill_mask(std::span(mask_).first((static_cast<size_t>(grammar_vocab_size_) + 31) / 32));
  const auto allow = [&](int32_t token) {
    if (static_cast<size_t>(token / 32) < mask_.size()) mask_[static_cast<size_t>(token / 32)] |= 1u << (token % 32);
  };
  if (grammar_->can_end() && !request_->stop.ignore_eos)
    for (const int32_t token : setting_->eos_ids) allow(token);
  // A model whose template leaves it to the model may open its think block first; the grammar then waits for its end.
  if (thinking_.may_open() && request_->prompt.back() != setting_->marks.close) allow(*setting_->marks.open);
  apply_mask(logits, mask_);
}

std::optional<int32_t> Answer::choose(std::span<float> logits, Sampler& sampler) {
  const SamplingParams& sampling = request_->sampling;
  if (!sampling.logit_bias.empty()) apply_bias(logits, sampling.logit_bias);
  if (has_penalties(sampling)) apply_penalties(logits, sampling, seen_);
  const bool too_early = generated_ < request_->stop.min_tokens;
  // Inside the think block of an answer that owes a grammar's sentence, the sequence may not end either.
  if (too_early || (grammar_.has_value() && thinking_.inside())) {
    if (!request_->stop.ignore_eos) forbid(logits, setting_->eos_ids);
    forbid(logits, request_->stop.token_ids);
  }
  if (const std::optional<int32_t> token = thinking_.forbidden()) forbid(logits, {&*token, 1});
  if (grammar_applies()) forbid_by_grammar(logits);
  return sampler.draw(logits, sampling, uniform(generated_));
}

double Answer::uniform(int64_t position) const {
  return counter_uniform(request_->sampling.seed, static_cast<uint64_t>(choice_), static_cast<uint64_t>(position));
}

std::optional<int32_t> Answer::guess(std::span<float> logits, int64_t ahead, Sampler& sampler) const {
  if (!request_->sampling.logit_bias.empty()) apply_bias(logits, request_->sampling.logit_bias);
  return sampler.draw(logits, request_->sampling, uniform(generated_ + ahead));
}

void Answer::end(FinishReason reason, std::optional<Error> error, std::vector<TokenEvent>& events) {
  TokenEvent last{.choice = choice_};
  last.text = decoder_.finish();
  if (stops_.push(std::move(last), events)) events.back().stop_string = stops_.matched();
  stops_.flush(events);
  events.back().finish = reason;
  events.back().error = std::move(error);
}

// Why no token could come next: what the request asks contradicts itself, or the model is broken.
Error Answer::no_token() const {
  if (!grammar_applies()) return {ErrorCode::internal, "the model's logits hold no finite value", {}};
  const bool too_early = generated_ < request_->stop.min_tokens;
  const std::string& param = too_early ? kMinTokens : request_->grammar_param;
  return invalid(param + ": the structure and the other limits of the request leave no token that may come next",
                 param);
}

Answer::Next Answer::next(std::span<float> logits, Sampler& sampler, std::vector<TokenEvent>& events) {
  // The model's own distribution is copied before the edits only where somebody asked for it.
  const std::vector<float> raw =
      request_->logprobs ? std::vector<float>(logits.begin(), logits.end()) : std::vector<float>();
  const std::optional<int32_t> forced = thinking_.forced();
  const std::optional<int32_t> chosen = forced.has_value() ? forced : choose(logits, sampler);
  if (!chosen.has_value()) {
    if (grammar_applies() && grammar_->can_end()) {
      end(FinishReason::stop, std::nullopt, events);
      return {-1, true, FinishReason::stop};
    }
    end(FinishReason::error, no_token(), events);
    return {-1, true, FinishReason::error};
  }

  const int32_t token = *chosen;
  ++generated_;
  const bool stops_by_id =
      !forced.has_value() && std::ranges::find(request_->stop.token_ids, token) != request_->stop.token_ids.end();
  if (!forced.has_value() && (is_eos(token) || stops_by_id)) {
    end(FinishReason::stop, std::nullopt, events);
    if (stops_by_id) events.back().stop_token = token;
    return {token, true, FinishReason::stop};
  }

  const bool by_grammar = grammar_applies() && !(thinking_.may_open() && token == setting_->marks.open);
  if (has_penalties(request_->sampling)) seen_.add_answer(token);
  TokenEvent event{.choice = choice_, .token = token};
  event.text = decoder_.push(token);
  event.in_reasoning = thinking_.accept(token);
  reasoning_tokens_ += event.in_reasoning ? 1 : 0;
  if (request_->logprobs) event.logprob = token_logprob(raw, token, request_->top_logprobs);
  if (by_grammar && !grammar_->accept(token)) {
    end(FinishReason::error, Error{ErrorCode::internal, "the grammar refused a token of its own mask", {}}, events);
    return {token, true, FinishReason::error};
  }

  const bool complete = by_grammar && grammar_->must_end();
  const bool by_allowance = generated_ < max_tokens_ && grant() == Grant::ended;
  const bool at_limit = generated_ >= max_tokens_ || by_allowance;
  const bool may_stop = generated_ > request_->stop.min_tokens;
  if (complete || at_limit) event.text += decoder_.finish();
  if (!may_stop) {
    events.push_back(std::move(event));  // no stop before min_tokens: this text takes no part in a match
  } else if (stops_.push(std::move(event), events)) {
    events.back().stop_string = stops_.matched();
    events.back().finish = FinishReason::stop;
    return {token, true, FinishReason::stop};
  }
  if (!complete && !at_limit) return {token, false, FinishReason::none};
  stops_.flush(events);
  const FinishReason reason = complete ? FinishReason::stop : FinishReason::length;
  events.back().finish = reason;
  events.back().by_allowance = by_allowance && !complete;
  return {token, true, reason};
}

}  // namespace redoubt
