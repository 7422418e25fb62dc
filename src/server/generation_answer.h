// An answer kept whole, for responses that are not streamed and for protocols whose last events repeat the text; and
// the JSON that several protocols share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "server/generation_stream.h"

namespace redoubt {

struct AnswerCall {
  std::string name, arguments;
};

struct AnswerChoice {
  std::string reasoning, content;
  std::vector<AnswerCall> calls;
  std::vector<TokenLogprob> content_logprobs, reasoning_logprobs;
  std::vector<int32_t> ids;
  ChoiceEnd end;

  void add(const OutputEvent& event, PieceTokens tokens);
};

// Collects, then renders once.
class WholeAnswer final : public AnswerSink {
 public:
  using Render = std::function<std::string(const std::vector<AnswerChoice>&, const AnswerUsage&)>;
  WholeAnswer(int choices, ErrorStyle style, Render render)
      : choices_(static_cast<size_t>(choices)), style_(style), render_(std::move(render)) {}
  ErrorStyle error_style() const override { return style_; }
  void piece(std::string&, int choice, const OutputEvent& event, PieceTokens tokens) override {
    choices_[static_cast<size_t>(choice)].add(event, std::move(tokens));
  }
  void finish_choice(std::string&, int choice, const ChoiceEnd& end) override;
  void done(std::string& out, const AnswerUsage& usage) override { out = render_(choices_, usage); }

 private:
  std::vector<AnswerChoice> choices_;
  ErrorStyle style_;
  Render render_;
};

// {"prompt_tokens":…,"completion_tokens":…,…}
void append_usage(std::string& out, const AnswerUsage& usage);
// ,"timings":{…} as llama.cpp gives them; draft_n and draft_n_accepted where tokens were drafted
void append_timings(std::string& out, const AnswerUsage& usage);
// [{"token","logprob","bytes","top_logprobs":[…]},…]
void append_chat_logprobs(std::string& out, const std::vector<TokenLogprob>& logprobs, const Tokenizer& tokenizer);
void append_token_ids(std::string& out, const std::vector<int32_t>& ids);
std::string token_text(const Tokenizer& tokenizer, int32_t id);  // its bytes, repaired where they are no UTF-8
std::string_view openai_finish_reason(EndReason reason);
// ,"stop_reason":null | "text" | 7 | "limit:tokens_per_day of tenant north"
void append_stop_reason(std::string& out, const ChoiceEnd& end);
// ,"limit":"tokens_per_day of tenant north", where a limit ended the answer: for protocols without a stop_reason of
// ours
void append_limit(std::string& out, const ChoiceEnd& end);

}  // namespace redoubt
