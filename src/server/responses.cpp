// POST /v1/responses: items and events in the order that OpenAI's clients and Codex read them. Nothing is stored, so
// every lookup by id is a 404.
#include <fmt/format.h>

#include <iterator>

#include "server/chat_generation.h"
#include "server/custom_tools.h"
#include "server/generation_answer.h"
#include "server/responses_request.h"
#include "server/responses_tools.h"
#include "server/routes.h"
#include "server/routes_schemas.h"
#include "server/sse.h"

namespace redoubt {
namespace {

struct ResponseOptions {
  std::string id, model, echo;
  int64_t created = 0;
  bool logprobs = false;
  std::set<std::string> custom_tools;
  std::shared_ptr<const LoadedModel> loaded;  // its tokenizer spells the logprobs
};

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

// The response object. `output` is its items, joined by commas.
std::string response_object(const ResponseOptions& options, std::string_view status, std::string_view output,
                            std::string_view error, std::string_view incomplete, const AnswerUsage* usage) {
  std::string out = "{\"id\":" + json_string(options.id);
  fmt::format_to(std::back_inserter(out),
                 R"(,"object":"response","created_at":{},"status":"{}","background":false,"error":{},)"
                 R"("incomplete_details":{},"model":{},"output":[{}],{},"usage":)",
                 options.created, status, error, incomplete, json_string(options.model), output, options.echo);
  if (usage == nullptr) return out + "null}";
  fmt::format_to(std::back_inserter(out),
                 R"({{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{},)"
                 R"("output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}}})",
                 usage->prompt_tokens, usage->cached_tokens, usage->completion_tokens, usage->reasoning_tokens,
                 usage->prompt_tokens + usage->completion_tokens);
  return out;
}

enum class ItemKind : uint8_t { none, reasoning, message, call, custom_call };

ItemKind call_kind(const ResponseOptions& options, const std::string& tool) {
  return options.custom_tools.contains(tool) ? ItemKind::custom_call : ItemKind::call;
}

std::string_view id_head(ItemKind kind) {
  switch (kind) {
    case ItemKind::reasoning:
      return "rs_";
    case ItemKind::message:
      return "msg_";
    case ItemKind::custom_call:
      return "ctc_";
    default:
      return "fc_";
  }
}

// One item of the output, as its text grows.
struct Item {
  ItemKind kind = ItemKind::none;
  std::string id, text, name, call_id;
  std::vector<TokenLogprob> logprobs;

  static Item open(ItemKind kind, std::string name = {}) {
    Item item{.kind = kind, .name = std::move(name)};
    item.id = random_id(id_head(kind));
    if (item.is_call()) item.call_id = random_id("call_");
    return item;
  }
  bool is_call() const { return kind == ItemKind::call || kind == ItemKind::custom_call; }
  std::string part(const ResponseOptions& options, bool with_text) const {
    const std::string value = with_text ? json_string(text) : "\"\"";
    if (kind == ItemKind::reasoning) return "{\"type\":\"reasoning_text\",\"text\":" + value + "}";
    std::string out = "{\"type\":\"output_text\",\"text\":" + value + ",\"annotations\":[],\"logprobs\":";
    append_chat_logprobs(out, with_text ? logprobs : std::vector<TokenLogprob>(), options.loaded->tokenizer);
    return out + "}";
  }
  std::string json(const ResponseOptions& options, std::string_view status) const {
    const bool begun = status == "in_progress";
    const std::string content = begun ? "[]" : "[" + (is_call() ? "" : part(options, true)) + "]";
    switch (kind) {
      case ItemKind::reasoning:
        return fmt::format(
            R"({{"id":"{}","type":"reasoning","status":"{}","summary":[],"content":{},"encrypted_content":null}})", id,
            status, content);
      case ItemKind::message:
        return fmt::format(R"({{"id":"{}","type":"message","status":"{}","role":"assistant","content":{}}})", id,
                           status, content);
      case ItemKind::custom_call:
        return fmt::format(
            R"({{"id":"{}","type":"custom_tool_call","status":"{}","call_id":"{}","name":{},"input":{}}})", id, status,
            call_id, json_string(name), begun ? "\"\"" : json_string(text));
      default:
        return fmt::format(
            R"({{"id":"{}","type":"function_call","status":"{}","call_id":"{}","name":{},"arguments":{}}})", id, status,
            call_id, json_string(name), begun ? "\"\"" : json_string(text));
    }
  }
};

std::string_view end_status(EndReason reason) { return reason == EndReason::length ? "incomplete" : "completed"; }

std::string ended_response(const ResponseOptions& options, const ChoiceEnd& end, std::string_view output,
                           const AnswerUsage& usage) {
  std::string incomplete = "null";
  if (end.reason == EndReason::length) {
    incomplete = R"({"reason":"max_output_tokens")";
    append_limit(incomplete, end);
    incomplete += '}';
  }
  return response_object(options, end_status(end.reason), output, "null", incomplete, &usage);
}

class ResponseEvents final : public AnswerSink {
 public:
  explicit ResponseEvents(ResponseOptions options) : options_(std::move(options)) {}
  const char* stream_type() const override { return "text/event-stream"; }
  const char* idle_comment() const override { return ": keep-alive\n\n"; }

  void begin(std::string& out) override {
    const std::string response = response_object(options_, "in_progress", "", "null", "null", nullptr);
    event(out, "response.created", "\"response\":" + response);
    event(out, "response.in_progress", "\"response\":" + response);
  }

  void piece(std::string& out, int, const OutputEvent& piece, PieceTokens tokens) override {
    switch (piece.kind) {
      case OutputEvent::Kind::reasoning:
        return text_delta(out, ItemKind::reasoning, piece.text, {});
      case OutputEvent::Kind::content:
        return text_delta(out, ItemKind::message, piece.text, std::move(tokens.logprobs));
      case OutputEvent::Kind::tool_begin:
        return open(out, Item::open(call_kind(options_, piece.text), piece.text));
      case OutputEvent::Kind::tool_arguments:
        if (item_.kind == ItemKind::custom_call) return input_delta(out, custom_input_.push(piece.text));
        if (item_.kind != ItemKind::call) return;
        item_.text += piece.text;
        return event(out, "response.function_call_arguments.delta", where() + ",\"delta\":" + json_string(piece.text));
      case OutputEvent::Kind::tool_end:
        return close(out, "completed");
    }
  }

  void finish_choice(std::string& out, int, const ChoiceEnd& end) override {
    if (output_index_ < 0) open(out, Item::open(ItemKind::message));
    end_ = end;
    close(out, end_status(end.reason));
  }
  void done(std::string& out, const AnswerUsage& usage) override {
    event(out, end_.reason == EndReason::length ? "response.incomplete" : "response.completed",
          "\"response\":" + ended_response(options_, end_, output_, usage));
  }
  void fail(std::string& out, const ApiError& error) override {
    const std::string detail =
        fmt::format(R"({{"code":{},"message":{}}})", json_string(error.code.empty() ? "server_error" : error.code),
                    json_string(error.message));
    event(out, "response.failed",
          "\"response\":" + response_object(options_, "failed", output_, detail, "null", nullptr));
  }

 private:
  void event(std::string& out, std::string_view type, std::string_view members) {
    fmt::format_to(std::back_inserter(out), "event: {}\ndata: {{\"type\":\"{}\",\"sequence_number\":{},{}}}\n\n", type,
                   type, sequence_++, members);
  }
  std::string where() const { return fmt::format(R"("item_id":"{}","output_index":{})", item_.id, output_index_); }

  void open(std::string& out, Item item) {
    close(out, "completed");
    item_ = std::move(item);
    custom_input_ = {};
    ++output_index_;
    event(out, "response.output_item.added",
          fmt::format(R"("output_index":{},"item":{})", output_index_, item_.json(options_, "in_progress")));
    if (item_.is_call()) return;
    event(out, "response.content_part.added", where() + ",\"content_index\":0,\"part\":" + item_.part(options_, false));
  }

  void input_delta(std::string& out, const std::string& text) {
    if (text.empty()) return;
    item_.text += text;
    event(out, "response.custom_tool_call_input.delta", where() + ",\"delta\":" + json_string(text));
  }

  void text_delta(std::string& out, ItemKind kind, const std::string& text, std::vector<TokenLogprob> logprobs) {
    if (item_.kind != kind) open(out, Item::open(kind));
    item_.text += text;
    std::string members = where() + ",\"content_index\":0,\"delta\":" + json_string(text);
    if (kind == ItemKind::message) {
      members += ",\"logprobs\":";
      append_chat_logprobs(members, logprobs, options_.loaded->tokenizer);
      if (options_.logprobs) {
        std::move(logprobs.begin(), logprobs.end(), std::back_inserter(item_.logprobs));
      }
    }
    event(out, kind == ItemKind::reasoning ? "response.reasoning_text.delta" : "response.output_text.delta", members);
  }

  void close(std::string& out, std::string_view status) {
    if (item_.kind == ItemKind::none) return;
    if (item_.kind == ItemKind::call) {
      event(out, "response.function_call_arguments.done",
            where() + ",\"name\":" + json_string(item_.name) + ",\"arguments\":" + json_string(item_.text));
    } else if (item_.kind == ItemKind::custom_call) {
      input_delta(out, custom_input_.finish());
      event(out, "response.custom_tool_call_input.done", where() + ",\"input\":" + json_string(item_.text));
    } else {
      const bool reasoning = item_.kind == ItemKind::reasoning;
      std::string members = where() + ",\"content_index\":0,\"text\":" + json_string(item_.text);
      if (!reasoning) {
        members += ",\"logprobs\":";
        append_chat_logprobs(members, item_.logprobs, options_.loaded->tokenizer);
      }
      event(out, reasoning ? "response.reasoning_text.done" : "response.output_text.done", members);
      event(out, "response.content_part.done", where() + ",\"content_index\":0,\"part\":" + item_.part(options_, true));
    }
    const std::string json = item_.json(options_, status);
    event(out, "response.output_item.done", fmt::format(R"("output_index":{},"item":{})", output_index_, json));
    if (!output_.empty()) output_ += ',';
    output_ += json;
    item_ = {};
  }

  ResponseOptions options_;
  Item item_;
  CustomInput custom_input_;  // of item_, if that is a custom call
  std::string output_;        // items that are done
  int output_index_ = -1;
  int64_t sequence_ = 0;
  ChoiceEnd end_;
};

std::string response_body(const ResponseOptions& options, const AnswerChoice& choice, const AnswerUsage& usage) {
  std::string output;
  const std::string_view status = end_status(choice.end.reason);
  const auto add = [&](ItemKind kind, const std::string& name, const std::string& text) {
    Item item = Item::open(kind, name);
    item.text = text;
    if (kind == ItemKind::message) item.logprobs = choice.content_logprobs;
    output += (output.empty() ? "" : ",") + item.json(options, status);
  };
  if (!choice.reasoning.empty()) add(ItemKind::reasoning, "", choice.reasoning);
  if (!choice.content.empty() || (choice.calls.empty() && choice.reasoning.empty())) {
    add(ItemKind::message, "", choice.content);
  }
  for (const AnswerCall& call : choice.calls) {
    const ItemKind kind = call_kind(options, call.name);
    add(kind, call.name, kind == ItemKind::custom_call ? custom_input(call.arguments) : call.arguments);
  }
  return ended_response(options, choice.end, output, usage);
}

Status responses(ServerContext& context, const HttpRequest& http, const Json& body,
                 const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(ResponsesRequest request, parse_responses_request(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_chat_model(context, http, request.chat));
  REDOUBT_TRY(ChatGeneration generation, prepare_chat(context, http, model, request.chat));
  if (!request.tools_left_out.empty())
    generation.options.headers.emplace_back(kToolsLeftOutHeader, std::move(request.tools_left_out));
  ResponseOptions options{.id = random_id("resp_"),
                          .model = model->name,
                          .echo = std::move(request.echo),
                          .created = unix_seconds(),
                          .logprobs = request.chat.logprobs,
                          .custom_tools = request.chat.custom_tools,
                          .loaded = model};
  std::unique_ptr<AnswerSink> sink;
  if (request.chat.stream) {
    sink = std::make_unique<ResponseEvents>(std::move(options));
  } else {
    sink = std::make_unique<WholeAnswer>(
        1, ErrorStyle::openai,
        [options = std::move(options)](const std::vector<AnswerChoice>& choices, const AnswerUsage& usage) {
          return response_body(options, choices.front(), usage);
        });
  }
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(generation.request));
  GenerationStream::start(http, std::move(requests), std::move(generation.options), std::move(sink), writer);
  return ok();
}

}  // namespace

void add_responses_routes(ServerContext& context, std::vector<Route>& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/responses",
                    .rule = generate_rule(),
                    .summary = "Answers in the Responses protocol",
                    .request_schema = responses_request_schema(),
                    .response_schema = object_schema({"id", "object", "status", "output", "model"}),
                    .streams = true,
                    .handler = json_handler(context, ErrorStyle::openai,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return responses(context, http, body, writer);
                                            })});
  const auto not_kept = [](auto, auto writer) {
    send_error(
        *writer,
        ApiError{404, "response_id: no response is kept", "not_found_error", "response_id", "response_not_found", {}});
  };
  const auto by_id = [&](const char* method, const char* path, const char* summary) {
    routes.push_back({.method = method,
                      .path = path,
                      .rule = read_server_rule(),
                      .summary = summary,
                      .parameters = {path_parameter("response_id")},
                      .handler = not_kept});
  };
  by_id("GET", "/v1/responses/{response_id}", "A kept response: none is");
  by_id("DELETE", "/v1/responses/{response_id}", "Removes a kept response: none is");
  by_id("POST", "/v1/responses/{response_id}/cancel", "Cancels a kept response: none is");
}

}  // namespace redoubt
