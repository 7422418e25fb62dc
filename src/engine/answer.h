// One answer as it is generated: from a row of logits to a token, from a token to the events that may leave.
//
// Holds everything that depends on the tokens generated so far: penalties' counts, the grammar's place, the think
// block, the stream decoder, held-back text. It is a function of the request, the choice and the logits alone;
// preemption does not touch it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/logit_edits.h"
#include "engine/sampler.h"
#include "engine/stop_matcher.h"
#include "engine/thinking.h"
#include "text/grammar.h"
#include "text/tokenizer.h"

namespace redoubt {

// What all answers of an engine share.
struct AnswerSetting {
  const Tokenizer* tokenizer = nullptr;
  ThinkMarks marks;
  std::vector<int32_t> eos_ids;
  int64_t vocab_size = 0;  // of the logits
};

class Answer {
 public:
  // `request` and `setting` outlive the answer. max_tokens: what the context leaves, or fewer.
  Answer(const GenerationRequest& request, int choice, int64_t max_tokens, const AnswerSetting& setting,
         std::shared_ptr<const GrammarVocabulary> vocabulary);

  struct Next {
    int32_t token = -1;  // generated, also if it is a stop token; -1: none could be
    bool finished = false;
    FinishReason reason = FinishReason::none;
  };
  // Chooses the next token (the logits are edited) and appends the events that may leave. The last event carries the
  // finish reason.
  Next next(std::span<float> logits, Sampler& sampler, std::vector<TokenEvent>& events);

  // What another model would draw in this one's place, `ahead` tokens after the next: with the request's sampling and
  // the number of that position, so that equal logits give the token that next() will draw. A guess: penalties,
  // grammar and thinking are left out. The logits are edited.
  std::optional<int32_t> guess(std::span<float> logits, int64_t ahead, Sampler& sampler) const;

  // Ends the answer from outside: what was held back leaves, the last event carries the reason.
  void end(FinishReason reason, std::optional<Error> error, std::vector<TokenEvent>& events);

  int64_t generated() const { return generated_; }
  int64_t left() const;  // tokens until the limit, or until what is granted so far
  int64_t reasoning_tokens() const { return reasoning_tokens_; }
  Allowance::Tokens used() const { return {generated_, reasoning_tokens_}; }

  enum class Grant : uint8_t { left, used_up, ended };  // used_up: more may still come
  Grant grant() const;                                  // of the request's allowance, for the next token

 private:
  double uniform(int64_t position) const;
  std::optional<int32_t> choose(std::span<float> logits, Sampler& sampler);
  void forbid_by_grammar(std::span<float> logits);
  Error no_token() const;
  bool grammar_applies() const { return grammar_.has_value() && !thinking_.inside(); }
  bool is_eos(int32_t token) const;

  const GenerationRequest* request_;
  const AnswerSetting* setting_;
  int choice_;
  int64_t max_tokens_;
  StreamDecoder decoder_;
  StopMatcher stops_;
  Thinking thinking_;
  SeenTokens seen_;
  std::optional<GrammarMatcher> grammar_;
  std::vector<uint32_t> mask_;
  int32_t grammar_vocab_size_ = 0;
  int64_t generated_ = 0;
  int64_t reasoning_tokens_ = 0;
};

}  // namespace redoubt
