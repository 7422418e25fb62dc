// An answer on its way: token events of the engine become the pieces of a protocol, and a client that leaves or lags
// cancels or pauses its sequences.
//
// Life: GenerationStream::start submits, answers the status line and goes; the engine's thread then drives it, the
// socket's loop may cancel, pause and resume it. What it holds per stream is small (a parser, ids, counts): no text is
// kept unless the protocol's sink keeps it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/model_host.h"
#include "server/chat_tools.h"
#include "server/http.h"
#include "server/routes_errors.h"

namespace redoubt {

class Limits;
class ServerMetrics;

// Tokens that belong to one piece of text.
struct PieceTokens {
  std::vector<TokenLogprob> logprobs;  // if asked
  std::vector<int32_t> ids;            // if asked
};

enum class EndReason : uint8_t { stop, length, tool_calls };

struct ChoiceEnd {
  EndReason reason = EndReason::stop;
  std::string stop_string;
  std::optional<int32_t> stop_token;  // one of the request's; end-of-sequence is not told
  std::string limit;                  // with length: which had no more, "tokens_per_day of tenant north"
  std::vector<int32_t> ids;           // what no piece carried
};

struct AnswerUsage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, reasoning_tokens = 0;
  int64_t draft_tokens = 0, accepted_draft_tokens = 0;
  int64_t queue_ns = 0, prefill_ns = 0, decode_ns = 0;
};

// What a protocol makes of an answer. Called under the stream's lock, from one thread at a time; whatever is appended
// to `out` is sent.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  // "text/event-stream", "application/x-ndjson", or nullptr for a whole answer: then done() fills the JSON body.
  virtual const char* stream_type() const { return nullptr; }
  virtual const char* idle_comment() const { return ""; }
  virtual ErrorStyle error_style() const { return ErrorStyle::openai; }
  virtual void begin(std::string& out) { static_cast<void>(out); }
  virtual void piece(std::string& out, int choice, const OutputEvent& event, PieceTokens tokens) = 0;
  virtual void finish_choice(std::string& out, int choice, const ChoiceEnd& end) = 0;
  // One prompt's numbers, as soon as its choices ended (for completions' echo with logprobs).
  virtual void prompt_done(int first_choice, const GenerationUsage& usage) {
    static_cast<void>(first_choice), static_cast<void>(usage);
  }
  virtual void done(std::string& out, const AnswerUsage& usage) = 0;
  virtual void fail(std::string& out, const ApiError& error) { static_cast<void>(out), static_cast<void>(error); }

  AnswerUsage progress;  // kept by the stream: prompt and completion tokens so far
};

struct GenerationOptions {
  std::shared_ptr<LoadedModel> model;
  std::optional<OutputParser::Options> parser;  // nullopt: text is content as it comes
  std::optional<ForcedCall> forced;
  bool parallel_tool_calls = true;
  bool return_token_ids = false;
  ServerMetrics* metrics = nullptr;  // outlives the stream
  Limits* limits = nullptr;          // null: none. Outlives the stream
  HttpHeaders headers;               // of the answer, beside those of limits
};

class GenerationStream : public std::enable_shared_from_this<GenerationStream> {
 public:
  // The stream ends with an error, within a second, when the permit of `http` is taken back.
  // Each request has the same n; choice c of request r is choice r * n + c of the answer.
  static void start(const HttpRequest& http, std::vector<GenerationRequest> requests, GenerationOptions options,
                    std::unique_ptr<AnswerSink> sink, std::shared_ptr<ResponseWriter> writer);
  ~GenerationStream();

 private:
  class Listener;
  struct Choice;
  GenerationStream(GenerationOptions options, std::unique_ptr<AnswerSink> sink, std::shared_ptr<ResponseWriter> writer,
                   int per_request);
  size_t prompt_of(int choice) const;
  bool is_given_back(size_t prompt, const GenerationUsage& usage) const;
  HttpHeaders headers() const;
  bool submit_all(std::vector<GenerationRequest> requests);
  void open();
  void on_token(int first_choice, const TokenEvent& event);
  void on_done(int first_choice, const GenerationUsage& usage);
  void handle(int first_choice, const TokenEvent& event, std::string& out);
  void emit(int index, std::vector<OutputEvent>& events, std::string& out);
  void emit_one(int index, OutputEvent event, std::string& out);
  void end_choice(int index, const TokenEvent& event, std::string& out);
  void fail(const ApiError& error, std::string& out);
  void complete(std::string& out);
  void count_token();
  void flush(std::string& out);
  void cancel_all();
  void pause_all(bool behind);
  void revoke(const Error& reason);
  void lose_quota(const std::string& limit);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace redoubt
