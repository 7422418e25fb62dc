#include "server/chat_completions.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "server/chat_generation.h"
#include "server/chat_request.h"
#include "server/prompt_ids.h"
#include "server/routes_schemas.h"
#include "server/sse.h"

namespace redoubt {
namespace {

std::string body_head(const ChatChunkOptions& options, std::string_view object) {
  std::string head = "{\"id\":";
  append_json_string(head, options.id);
  fmt::format_to(std::back_inserter(head), R"(,"object":"{}","created":{},"model":)", object, options.created);
  append_json_string(head, options.model);
  head += ",\"system_fingerprint\":";
  append_json_string(head, options.fingerprint);
  return head;
}

void append_choice_logprobs(std::string& out, const AnswerChoice& choice, const Tokenizer& tokenizer) {
  out += ",\"logprobs\":{\"content\":";
  append_chat_logprobs(out, choice.content_logprobs, tokenizer);
  if (!choice.reasoning_logprobs.empty()) {
    out += ",\"reasoning_content\":";
    append_chat_logprobs(out, choice.reasoning_logprobs, tokenizer);
  }
  out += ",\"refusal\":null}";
}

void append_call(std::string& out, const AnswerCall& call, bool is_custom) {
  out += "{\"id\":";
  append_json_string(out, random_id("call_"));
  out += is_custom ? ",\"type\":\"custom\",\"custom\":{\"name\":" : ",\"type\":\"function\",\"function\":{\"name\":";
  append_json_string(out, call.name);
  out += is_custom ? ",\"input\":" : ",\"arguments\":";
  append_json_string(out, is_custom ? custom_input(call.arguments) : call.arguments);
  out += "}}";
}

Status chat_completions(ServerContext& context, const HttpRequest& http, const Json& body,
                        const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(ChatRequest chat, parse_chat_request(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, chat));
  REDOUBT_TRY(ChatGeneration generation, prepare_chat(context, http, model, chat));
  ChatChunkOptions options{.id = random_id("chatcmpl-"),
                           .model = model->name,
                           .fingerprint = context.options.fingerprint,
                           .created = unix_seconds(),
                           .choices = chat.generation.n,
                           .reasoning_field = context.options.reasoning_field,
                           .logprobs = chat.logprobs,
                           .token_ids = chat.generation.return_token_ids,
                           .include_usage = chat.include_usage,
                           .continuous_usage = chat.continuous_usage,
                           .custom_tools = chat.custom_tools};
  if (options.token_ids) options.prompt_ids = generation.request.prompt;
  std::unique_ptr<AnswerSink> sink;
  if (chat.stream) {
    sink = std::make_unique<ChatChunks>(std::move(options), model);
  } else {
    const LoadedModel* raw = model.get();  // the stream's options hold it
    sink = std::make_unique<WholeAnswer>(
        chat.generation.n, ErrorStyle::openai,
        [options = std::move(options), raw](const std::vector<AnswerChoice>& choices, const AnswerUsage& usage) {
          return chat_completion_body(options, *raw, choices, usage);
        });
  }
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(generation.request));
  GenerationStream::start(http, std::move(requests), std::move(generation.options), std::move(sink), writer);
  return ok();
}

// What vLLM's render and llama.cpp's apply-template show: the prompt, and its ids.
Status render_chat_request(ServerContext& context, const HttpRequest& http, const Json& body,
                           const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(const ChatRequest chat, parse_chat_request(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, chat));
  const int64_t limit = model->engine->max_context();
  REDOUBT_TRY(const ChatPrompt prompt, render_chat_prompt(*model, chat, context.options, most_counted_tokens(limit)));
  REDOUBT_TRY(const std::vector<int32_t> ids,
              encode_counted(model->tokenizer, prompt.text, limit, chat.messages_param));
  send_json(*writer, {{"prompt", prompt.text.text}, {"prompt_token_ids", ids}});
  return ok();
}

}  // namespace

void append_reasoning(std::string& out, std::string_view text, ReasoningField field) {
  if (field != ReasoningField::reasoning) {
    out += "\"reasoning_content\":";
    append_json_string(out, text);
  }
  if (field == ReasoningField::both) out += ',';
  if (field != ReasoningField::reasoning_content) {
    out += "\"reasoning\":";
    append_json_string(out, text);
  }
}

ChatChunks::ChatChunks(ChatChunkOptions options, std::shared_ptr<const LoadedModel> model)
    : options_(std::move(options)),
      model_(std::move(model)),
      calls_(static_cast<size_t>(options_.choices), 0),
      inputs_(calls_.size()) {
  head_ = "data: " + body_head(options_, "chat.completion.chunk") + ",\"choices\":[";
}

void ChatChunks::open_choice(std::string& out, int choice) const {
  fmt::format_to(std::back_inserter(out), "{}{{\"index\":{},\"delta\":{{", head_, choice);
}

void ChatChunks::close_chunk(std::string& out) const {
  out += ']';
  if (options_.continuous_usage) {
    out += ",\"usage\":";
    append_usage(out, progress);
  } else if (options_.include_usage) {
    out += ",\"usage\":null";
  }
  out += "}\n\n";
}

void ChatChunks::begin(std::string& out) {
  for (int choice = 0; choice < options_.choices; ++choice) {
    open_choice(out, choice);
    out += "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null";
    if (options_.token_ids && choice == 0) {
      out += ",\"prompt_token_ids\":";
      append_token_ids(out, std::exchange(options_.prompt_ids, {}));
    }
    out += '}';
    close_chunk(out);
  }
}

void ChatChunks::open_call(std::string& out, int choice, const std::string& tool) {
  const bool is_custom = options_.custom_tools.contains(tool);
  inputs_[static_cast<size_t>(choice)] = is_custom ? std::optional(CustomInput()) : std::nullopt;
  const std::string_view type = is_custom ? "custom" : "function";
  fmt::format_to(std::back_inserter(out), R"("tool_calls":[{{"index":{},"id":"{}","type":"{}","{}":{{"name":)",
                 calls_[static_cast<size_t>(choice)]++, random_id("call_"), type, type);
  append_json_string(out, tool);
  out += is_custom ? ",\"input\":\"\"}}]" : ",\"arguments\":\"\"}}]";
}

void ChatChunks::piece(std::string& out, int choice, const OutputEvent& event, PieceTokens tokens) {
  const bool tells_tokens = options_.token_ids && !tokens.ids.empty();
  std::optional<CustomInput>& input = inputs_[static_cast<size_t>(choice)];
  const bool is_end = event.kind == OutputEvent::Kind::tool_end;
  const bool is_arguments = event.kind == OutputEvent::Kind::tool_arguments;
  std::string custom;  // what a custom tool's text has more
  if (input && (is_arguments || is_end)) custom = is_end ? input->finish() : input->push(event.text);
  const bool says_nothing = custom.empty() && (is_end || (is_arguments && input));
  if (says_nothing && !tells_tokens) return;
  open_choice(out, choice);
  switch (event.kind) {
    case OutputEvent::Kind::reasoning:
      append_reasoning(out, event.text, options_.reasoning_field);
      break;
    case OutputEvent::Kind::content:
      out += "\"content\":";
      append_json_string(out, event.text);
      break;
    case OutputEvent::Kind::tool_begin:
      open_call(out, choice, event.text);
      break;
    default:
      if (says_nothing) break;
      fmt::format_to(std::back_inserter(out), R"("tool_calls":[{{"index":{},"{}":{{"{}":)",
                     calls_[static_cast<size_t>(choice)] - 1, input ? "custom" : "function",
                     input ? "input" : "arguments");
      append_json_string(out, input ? custom : event.text);
      out += "}}]";
  }
  out += '}';
  if (options_.logprobs && !tokens.logprobs.empty()) {
    AnswerChoice piece;
    piece.add(event, std::move(tokens));
    append_choice_logprobs(out, piece, model_->tokenizer);
    tokens.ids = std::move(piece.ids);
  } else {
    out += ",\"logprobs\":null";
  }
  out += ",\"finish_reason\":null";
  if (options_.token_ids) {
    out += ",\"token_ids\":";
    append_token_ids(out, tokens.ids);
  }
  out += '}';
  close_chunk(out);
}

void ChatChunks::finish_choice(std::string& out, int choice, const ChoiceEnd& end) {
  open_choice(out, choice);
  fmt::format_to(std::back_inserter(out), R"(}},"logprobs":null,"finish_reason":"{}")",
                 openai_finish_reason(end.reason));
  append_stop_reason(out, end);
  if (options_.token_ids) {
    out += ",\"token_ids\":";
    append_token_ids(out, end.ids);
  }
  out += '}';
  close_chunk(out);
}

void ChatChunks::done(std::string& out, const AnswerUsage& usage) {
  if (options_.include_usage) {
    out += head_;
    out += "],\"usage\":";
    append_usage(out, usage);
    append_timings(out, usage);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void ChatChunks::fail(std::string& out, const ApiError& error) {
  append_sse_data(out, error_body(error));
  out += "data: [DONE]\n\n";
}

std::string chat_completion_body(const ChatChunkOptions& options, const LoadedModel& model,
                                 const std::vector<AnswerChoice>& choices, const AnswerUsage& usage) {
  std::string out = body_head(options, "chat.completion") + ",\"choices\":[";
  for (size_t i = 0; i < choices.size(); ++i) {
    const AnswerChoice& choice = choices[i];
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"message":{{"role":"assistant","content":)",
                   i > 0 ? "," : "", i);
    const bool without_content = choice.content.empty() && (!choice.calls.empty() || !choice.reasoning.empty());
    if (without_content)
      out += "null";
    else
      append_json_string(out, choice.content);
    if (!choice.reasoning.empty()) {
      out += ',';
      append_reasoning(out, choice.reasoning, options.reasoning_field);
    }
    if (!choice.calls.empty()) {
      out += ",\"tool_calls\":[";
      for (size_t k = 0; k < choice.calls.size(); ++k) {
        if (k > 0) out += ',';
        append_call(out, choice.calls[k], options.custom_tools.contains(choice.calls[k].name));
      }
      out += ']';
    }
    out += ",\"refusal\":null}";
    if (options.logprobs)
      append_choice_logprobs(out, choice, model.tokenizer);
    else
      out += ",\"logprobs\":null";
    fmt::format_to(std::back_inserter(out), ",\"finish_reason\":\"{}\"", openai_finish_reason(choice.end.reason));
    append_stop_reason(out, choice.end);
    if (options.token_ids) {
      out += ",\"token_ids\":";
      append_token_ids(out, choice.ids);
    }
    out += '}';
  }
  out += "],\"usage\":";
  append_usage(out, usage);
  append_timings(out, usage);
  if (options.token_ids) {
    out += ",\"prompt_token_ids\":";
    append_token_ids(out, options.prompt_ids);
  }
  out += '}';
  return out;
}

void add_chat_routes(ServerContext& context, std::vector<Route>& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/chat/completions",
                    .rule = generate_rule(),
                    .summary = "Answers a chat",
                    .request_schema = chat_request_schema(),
                    .response_schema = object_schema({"id", "object", "created", "model", "choices", "usage"}),
                    .streams = true,
                    .handler = json_handler(context, ErrorStyle::openai,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return chat_completions(context, http, body, writer);
                                            })});
  routes.push_back({.method = "POST",
                    .path = "/v1/chat/completions/render",
                    .rule = tokenize_rule(),
                    .summary = "The prompt of a chat, without answering it",
                    .request_schema = chat_request_schema(),
                    .response_schema = object_schema({"prompt", "prompt_token_ids"}),
                    .handler = json_handler(context, ErrorStyle::openai,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return render_chat_request(context, http, body, writer);
                                            })});
}

}  // namespace redoubt
