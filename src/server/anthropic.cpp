// POST /v1/messages and /v1/messages/count_tokens: Anthropic's events, blocks and errors.
#include <fmt/format.h>

#include <iterator>

#include "server/anthropic_request.h"
#include "server/chat_generation.h"
#include "server/generation_answer.h"
#include "server/routes.h"
#include "server/routes_schemas.h"
#include "server/sse.h"

namespace redoubt {
namespace {

std::string_view stop_reason(const ChoiceEnd& end) {
  if (end.reason == EndReason::tool_calls) return "tool_use";
  if (end.reason == EndReason::length) return "max_tokens";
  return end.stop_string.empty() ? "end_turn" : "stop_sequence";
}

void append_stop(std::string& out, const ChoiceEnd& end) {
  fmt::format_to(std::back_inserter(out), R"("stop_reason":"{}","stop_sequence":)", stop_reason(end));
  if (end.stop_string.empty())
    out += "null";
  else
    append_json_string(out, end.stop_string);
  append_limit(out, end);
}

// Anthropic counts what the cache gave apart from what was computed.
void append_message_usage(std::string& out, int64_t prompt, int64_t cached, int64_t output) {
  fmt::format_to(
      std::back_inserter(out),
      R"({{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{}}})",
      prompt - cached, cached, output);
}

class MessageEvents final : public AnswerSink {
 public:
  MessageEvents(std::string id, std::string model) : id_(std::move(id)), model_(std::move(model)) {}
  const char* stream_type() const override { return "text/event-stream"; }
  const char* idle_comment() const override { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }
  ErrorStyle error_style() const override { return ErrorStyle::anthropic; }

  void begin(std::string& out) override {
    out += R"(event: message_start
data: {"type":"message_start","message":{"id":)";
    append_json_string(out, id_);
    out += R"(,"type":"message","role":"assistant","model":)";
    append_json_string(out, model_);
    out += R"(,"content":[],"stop_reason":null,"stop_sequence":null,"usage":)";
    append_message_usage(out, progress.prompt_tokens, 0, 0);
    out += "}}\n\n";
    id_ = model_ = {};
  }

  void piece(std::string& out, int, const OutputEvent& event, PieceTokens) override {
    switch (event.kind) {
      case OutputEvent::Kind::reasoning:
        open_block(out, Block::thinking, R"({"type":"thinking","thinking":"","signature":""})");
        return delta(out, "thinking_delta", "thinking", event.text);
      case OutputEvent::Kind::content:
        open_block(out, Block::text, R"({"type":"text","text":""})");
        return delta(out, "text_delta", "text", event.text);
      case OutputEvent::Kind::tool_begin: {
        close_block(out);
        std::string block = R"({"type":"tool_use","id":")" + random_id("toolu_") + R"(","name":)";
        append_json_string(block, event.text);
        return open_block(out, Block::tool, block + R"(,"input":{}})");
      }
      case OutputEvent::Kind::tool_arguments:
        return delta(out, "input_json_delta", "partial_json", event.text);
      case OutputEvent::Kind::tool_end:
        return close_block(out);
    }
  }

  void finish_choice(std::string& out, int, const ChoiceEnd& end) override {
    if (index_ < 0) open_block(out, Block::text, R"({"type":"text","text":""})");  // clients expect a block
    close_block(out);
    end_ = end;
  }
  void done(std::string& out, const AnswerUsage& usage) override {
    out += "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{";
    append_stop(out, end_);
    out += "},\"usage\":";
    append_message_usage(out, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
    out += "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }
  void fail(std::string& out, const ApiError& error) override {
    append_sse_event(out, "error", styled_error_body(error, ErrorStyle::anthropic));
  }

 private:
  enum class Block : uint8_t { none, thinking, text, tool };

  void open_block(std::string& out, Block kind, std::string_view block) {
    if (open_ == kind && kind != Block::tool) return;
    close_block(out);
    open_ = kind;
    fmt::format_to(
        std::back_inserter(out),
        "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{},\"content_block\":{}}}\n\n",
        ++index_, block);
  }
  void close_block(std::string& out) {
    if (open_ == Block::none) return;
    open_ = Block::none;
    fmt::format_to(std::back_inserter(out),
                   "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{}}}\n\n", index_);
  }
  void delta(std::string& out, std::string_view type, std::string_view key, std::string_view text) const {
    fmt::format_to(std::back_inserter(out),
                   "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{},\"delta\":"
                   "{{\"type\":\"{}\",\"{}\":",
                   index_, type, key);
    append_json_string(out, text);
    out += "}}\n\n";
  }

  std::string id_, model_;
  int index_ = -1;
  Block open_ = Block::none;
  ChoiceEnd end_;
};

std::string message_body(const std::string& id, const std::string& model, const AnswerChoice& choice,
                         const AnswerUsage& usage) {
  Json content = Json::array();
  if (!choice.reasoning.empty()) {
    content.push_back({{"type", "thinking"}, {"thinking", choice.reasoning}, {"signature", ""}});
  }
  if (!choice.content.empty() || choice.calls.empty()) {
    content.push_back({{"type", "text"}, {"text", choice.content}});
  }
  for (const AnswerCall& call : choice.calls) {
    auto input = parse_json(call.arguments);  // an answer that was cut has no whole arguments
    content.push_back({{"type", "tool_use"},
                       {"id", random_id("toolu_")},
                       {"name", call.name},
                       {"input", input && input->is_object() ? std::move(*input) : Json::object()}});
  }
  std::string out = "{\"id\":";
  append_json_string(out, id);
  out += R"(,"type":"message","role":"assistant","model":)";
  append_json_string(out, model);
  out += ",\"content\":" + dump_json(content) + ",";
  append_stop(out, choice.end);
  out += ",\"usage\":";
  append_message_usage(out, usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
  return out + "}";
}

Status messages(ServerContext& context, const HttpRequest& http, const Json& body,
                const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(const ChatRequest chat, parse_anthropic_request(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, chat));
  REDOUBT_TRY(ChatGeneration generation, prepare_chat(context, http, model, chat));
  const std::string id = random_id("msg_");
  std::unique_ptr<AnswerSink> sink;
  if (chat.stream) {
    sink = std::make_unique<MessageEvents>(id, model->name);
  } else {
    sink = std::make_unique<WholeAnswer>(
        1, ErrorStyle::anthropic,
        [id, name = model->name](const std::vector<AnswerChoice>& choices, const AnswerUsage& usage) {
          return message_body(id, name, choices.front(), usage);
        });
  }
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(generation.request));
  GenerationStream::start(http, std::move(requests), std::move(generation.options), std::move(sink), writer);
  return ok();
}

Status count_tokens(ServerContext& context, const HttpRequest& http, const Json& body,
                    const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(const ChatRequest chat, parse_anthropic_request(body, MaxTokensField::optional));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, chat));
  REDOUBT_TRY(const std::vector<int32_t> ids, chat_prompt_ids(context, *model, chat));
  send_json(*writer, {{"input_tokens", ids.size()}});
  return ok();
}

}  // namespace

void add_anthropic_routes(ServerContext& context, std::vector<Route>& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/messages",
                    .rule = generate_rule(),
                    .summary = "Answers a chat in Anthropic's protocol",
                    .request_schema = anthropic_request_schema(),
                    .response_schema = object_schema({"id", "type", "role", "content", "model", "usage"}),
                    .streams = true,
                    .handler = json_handler(context, ErrorStyle::anthropic,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return messages(context, http, body, writer);
                                            })});
  Json counted = anthropic_request_schema();
  counted["required"] = Json::array({"messages"});
  routes.push_back({.method = "POST",
                    .path = "/v1/messages/count_tokens",
                    .rule = tokenize_rule(),
                    .summary = "Tokens of a chat's prompt",
                    .request_schema = std::move(counted),
                    .response_schema = object_schema({"input_tokens"}),
                    .handler = json_handler(context, ErrorStyle::anthropic,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return count_tokens(context, http, body, writer);
                                            })});
}

}  // namespace redoubt
