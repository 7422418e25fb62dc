// The stream of POST /v1/chat/completions, chunk by chunk.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/custom_tools.h"
#include "server/generation_answer.h"
#include "server/generation_stream.h"
#include "server/routes.h"

namespace redoubt {

struct ChatChunkOptions {
  std::string id, model, fingerprint;
  int64_t created = 0;
  int choices = 1;
  ReasoningField reasoning_field = ReasoningField::both;
  bool logprobs = false, token_ids = false, include_usage = false, continuous_usage = false;
  std::vector<int32_t> prompt_ids;  // if token_ids
  std::set<std::string> custom_tools;
};

// Order per choice: the role, reasoning deltas, content deltas, tool deltas, one empty delta with the finish reason;
// then one chunk without choices for the usage, if asked; then [DONE].
class ChatChunks final : public AnswerSink {
 public:
  ChatChunks(ChatChunkOptions options, std::shared_ptr<const LoadedModel> model);
  const char* stream_type() const override { return "text/event-stream"; }
  const char* idle_comment() const override { return ": keep-alive\n\n"; }
  void begin(std::string& out) override;
  void piece(std::string& out, int choice, const OutputEvent& event, PieceTokens tokens) override;
  void finish_choice(std::string& out, int choice, const ChoiceEnd& end) override;
  void done(std::string& out, const AnswerUsage& usage) override;
  void fail(std::string& out, const ApiError& error) override;

 private:
  void open_choice(std::string& out, int choice) const;
  void close_chunk(std::string& out) const;  // after the choices
  void open_call(std::string& out, int choice, const std::string& tool);

  ChatChunkOptions options_;
  std::shared_ptr<const LoadedModel> model_;
  std::string head_;                                // what all chunks begin with, up to the choices
  std::vector<int> calls_;                          // per choice, calls begun
  std::vector<std::optional<CustomInput>> inputs_;  // per choice, of the call under way if its tool is custom
};

// "reasoning_content":"…","reasoning":"…" as the switch says
void append_reasoning(std::string& out, std::string_view text, ReasoningField field);
// The whole body.
std::string chat_completion_body(const ChatChunkOptions& options, const LoadedModel& model,
                                 const std::vector<AnswerChoice>& choices, const AnswerUsage& usage);

}  // namespace redoubt
