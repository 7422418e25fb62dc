// Ollama's /api/*: lines of JSON (NDJSON), streamed unless `stream` is false.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "core/dtype.h"
#include "server/chat_generation.h"
#include "server/generation_answer.h"
#include "server/ollama_request.h"
#include "server/prompt_ids.h"
#include "server/routes.h"
#include "server/routes_errors.h"
#include "server/routes_schemas.h"
#include "server/sse.h"

namespace redoubt {
namespace {

std::string iso_time(int64_t unix_time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(unix_time)));
}

Json arguments_object(const std::string& text) {
  auto parsed = parse_json(text);
  return parsed && parsed->is_object() ? std::move(*parsed) : Json::object();
}

// One line: chat puts the text into a message, generate into `response`.
std::string answer_line(OllamaEndpoint endpoint, const std::string& model, std::string_view content,
                        std::string_view thinking, const Json& calls) {
  std::string out = "{\"model\":";
  append_json_string(out, model);
  out += ",\"created_at\":\"" + iso_time(unix_seconds()) + "\",";
  out += endpoint == OllamaEndpoint::chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"response\":";
  append_json_string(out, content);
  if (!thinking.empty()) {
    out += ",\"thinking\":";
    append_json_string(out, thinking);
  }
  if (!calls.empty()) out += ",\"tool_calls\":" + dump_json(calls);
  if (endpoint == OllamaEndpoint::chat) out += '}';
  return out;
}

void append_done(std::string& out, const ChoiceEnd& end, const AnswerUsage& usage) {
  fmt::format_to(std::back_inserter(out),
                 R"(,"done":true,"done_reason":"{}","total_duration":{},"load_duration":0,"prompt_eval_count":{},)"
                 R"("prompt_eval_duration":{},"eval_count":{},"eval_duration":{})",
                 end.reason == EndReason::length ? "length" : "stop",
                 usage.queue_ns + usage.prefill_ns + usage.decode_ns, usage.prompt_tokens, usage.prefill_ns,
                 usage.completion_tokens, usage.decode_ns);
  append_limit(out, end);
  out += '}';
}

class OllamaLines final : public AnswerSink {
 public:
  OllamaLines(OllamaEndpoint endpoint, std::string model) : endpoint_(endpoint), model_(std::move(model)) {}
  const char* stream_type() const override { return "application/x-ndjson"; }
  ErrorStyle error_style() const override { return ErrorStyle::ollama; }

  void piece(std::string& out, int, const OutputEvent& event, PieceTokens) override {
    switch (event.kind) {
      case OutputEvent::Kind::reasoning:
        return line(out, "", event.text, Json::array());
      case OutputEvent::Kind::content:
        return line(out, event.text, "", Json::array());
      case OutputEvent::Kind::tool_begin:
        call_ = {event.text, ""};
        return;
      case OutputEvent::Kind::tool_arguments:
        call_.arguments += event.text;
        return;
      case OutputEvent::Kind::tool_end:  // a call comes whole
        line(out, "", "",
             Json::array({{{"function", {{"name", call_.name}, {"arguments", arguments_object(call_.arguments)}}}}}));
        call_ = {};
    }
  }
  void finish_choice(std::string&, int, const ChoiceEnd& end) override { end_ = end; }
  void done(std::string& out, const AnswerUsage& usage) override {
    out += answer_line(endpoint_, model_, "", "", Json::array());
    append_done(out, end_, usage);
    out += '\n';
  }
  void fail(std::string& out, const ApiError& error) override {
    out += styled_error_body(error, ErrorStyle::ollama) + "\n";
  }

 private:
  void line(std::string& out, std::string_view content, std::string_view thinking, const Json& calls) const {
    out += answer_line(endpoint_, model_, content, thinking, calls) + ",\"done\":false}\n";
  }

  OllamaEndpoint endpoint_;
  std::string model_;
  AnswerCall call_;
  ChoiceEnd end_;
};

std::string whole_answer(OllamaEndpoint endpoint, const std::string& model, const AnswerChoice& choice,
                         const AnswerUsage& usage) {
  Json calls = Json::array();
  for (const AnswerCall& call : choice.calls) {
    calls.push_back({{"function", {{"name", call.name}, {"arguments", arguments_object(call.arguments)}}}});
  }
  std::string out = answer_line(endpoint, model, choice.content, choice.reasoning, calls);
  append_done(out, choice.end, usage);
  return out;
}

Result<std::shared_ptr<LoadedModel>> acquire_ollama(ServerContext& context, const HttpRequest& http,
                                                    const std::string& name) {
  const ModelEntry* entry = find_ollama_entry(context, name);
  return acquire_model(context, http, entry == nullptr ? name : entry->name);
}

// A model that one tenant unloads or pins is the other tenants' too.
constexpr const char* kKeepAliveAction = "set_keep_alive";

// Nothing but keep_alive 0: the model goes as soon as no answer needs it.
Status unload(ServerContext& context, const HttpRequest& http, OllamaEndpoint endpoint, const OllamaRequest& request,
              ResponseWriter& writer) {
  const ModelEntry* entry = find_ollama_entry(context, request.chat.model);
  const std::string& name = entry == nullptr ? request.chat.model : entry->name;
  REDOUBT_CHECK(permit_model(context, http, name));
  if (entry == nullptr) return Error{ErrorCode::not_found, model_not_found(name).message, "model"};
  Status may = permit_model(context, http, name, kKeepAliveAction);
  if (!may) return std::move(may.error()).within("keep_alive");
  context.models.set_stay(name, *request.stay);
  context.models.unload_idle();
  writer.send(200, "application/json",
              answer_line(endpoint, name, "", "", Json::array()) + R"(,"done":true,"done_reason":"unload"})");
  return ok();
}

Status answer(ServerContext& context, const HttpRequest& http, OllamaEndpoint endpoint, const Json& body,
              const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(OllamaRequest request, parse_ollama_request(body, endpoint));
  if (request.load_only && request.stay && request.stay->idle_s == 0)
    return unload(context, http, endpoint, request, *writer);
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_ollama(context, http, request.chat.model));
  if (request.stay && permit_model(context, http, model->name, kKeepAliveAction))
    context.models.set_stay(model->name, *request.stay);
  if (request.load_only) {  // an empty request loads the model, and that is all
    std::string out = answer_line(endpoint, model->name, "", "", Json::array());
    writer->send(200, "application/json", out + ",\"done\":true,\"done_reason\":\"load\"}");
    return ok();
  }
  const int64_t most_context = model->engine->max_context();
  if (request.chat.context_limit > most_context) {
    return invalid(
        fmt::format("options.num_ctx: expected at most {}, found {}", most_context, request.chat.context_limit),
        "options.num_ctx");
  }
  ChatGeneration generation;
  if (request.raw) {
    const int64_t context_tokens = request.chat.context_limit > 0 ? request.chat.context_limit : most_context;
    REDOUBT_TRY(generation.request, lower_generation(request.chat.generation, {http, *model}));
    generation.request.id = random_id("gen-");
    REDOUBT_TRY(generation.request.prompt,
                encode_prompt(model->tokenizer, MarkedText::all_markup(request.prompt), context_tokens, "prompt"));
    REDOUBT_CHECK(fit_context(generation.request, context_tokens, true, "prompt", request.chat.generation));
    note_open_thinking(generation.request, *model);
    REDOUBT_TRY(generation.request.thinking.budget_tokens, thinking_budget(request.chat));
    generation.options.model = model;
    generation.options.metrics = context.metrics;
    generation.options.limits = context.limits;
  } else {
    REDOUBT_TRY(generation, prepare_chat(context, http, model, request.chat));
  }
  std::unique_ptr<AnswerSink> sink;
  if (request.chat.stream) {
    sink = std::make_unique<OllamaLines>(endpoint, model->name);
  } else {
    sink = std::make_unique<WholeAnswer>(
        1, ErrorStyle::ollama,
        [endpoint, name = model->name](const std::vector<AnswerChoice>& choices, const AnswerUsage& usage) {
          return whole_answer(endpoint, name, choices.front(), usage);
        });
  }
  std::vector<GenerationRequest> requests;
  requests.push_back(std::move(generation.request));
  GenerationStream::start(http, std::move(requests), std::move(generation.options), std::move(sink), writer);
  return ok();
}

Json details(const ModelFacts& facts) {
  return {{"parent_model", ""},         {"format", facts.is_gguf ? "gguf" : "safetensors"},
          {"family", facts.model_type}, {"families", nullptr},
          {"parameter_size", ""},       {"quantization_level", ""}};
}

// Of a loaded model what it says itself, else what its files say; nothing where they cannot be read.
ModelFacts facts_of(ServerContext& context, const ModelEntry& entry, const LoadedModel* loaded) {
  if (loaded == nullptr) return context.models.facts(entry.name).value_or(ModelFacts{});
  return {.context_tokens = loaded->engine->max_context(),
          .weights_bytes = loaded->checkpoint.weights_bytes(),
          .modified_unix = loaded->created_unix,
          .model_type = loaded->checkpoint.config().model_type,
          .is_gguf = loaded->checkpoint.gguf() != nullptr};
}

Json listed(const ModelEntry& entry, const ModelFacts& facts) {
  // Ollama's digest is of a manifest; ours tells names apart.
  const size_t hash = std::hash<std::string>()(entry.name);
  return {{"name", entry.name},
          {"model", entry.name},
          {"modified_at", iso_time(facts.modified_unix)},
          {"size", facts.weights_bytes},
          {"digest", fmt::format("{:064x}", hash)},
          {"details", details(facts)}};
}

// Ollama's clients take a time so far away (its longest, 2^63 ns) for "Forever".
std::string expiry(std::optional<int64_t> in_s) { return iso_time(unix_seconds() + in_s.value_or(9'223'372'036)); }

void list_models(ServerContext& context, const HttpRequest& http, ResponseWriter& writer, bool loaded_only) {
  const auto permitted = permitted_models(context, http);
  if (!permitted) return send_styled_error(writer, permitted.error(), ErrorStyle::ollama);
  std::vector<std::string> expiries;  // asked before loaded(): a model that is held is in use
  for (const ModelEntry* entry : *permitted) expiries.push_back(expiry(context.models.unloads_in_s(entry->name)));
  Json models = Json::array();
  const auto loaded = context.models.loaded();
  for (size_t i = 0; i < permitted->size(); ++i) {
    const ModelEntry& entry = *(*permitted)[i];
    const auto at = std::ranges::find(loaded, entry.name, [](const auto& model) { return model->name; });
    const LoadedModel* found = at == loaded.end() ? nullptr : at->get();
    if (found == nullptr && loaded_only) continue;
    const ModelFacts facts = facts_of(context, entry, found);
    Json item = listed(entry, facts);
    if (loaded_only) {
      item["expires_at"] = expiries[i];
      item["size_vram"] = 0;
      item["context_length"] = facts.context_tokens;
    }
    models.push_back(std::move(item));
  }
  send_json(writer, {{"models", std::move(models)}});
}

Status show(ServerContext& context, const HttpRequest& http, const Json& body, ResponseWriter& writer) {
  const JsonFields fields(body);
  REDOUBT_TRY(auto name, fields.string("model"));
  if (!name) {
    REDOUBT_TRY(name, fields.string("name"));
  }
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_ollama(context, http, name.value_or("")));
  const ModelConfig& config = model->checkpoint.config();
  Json capabilities = Json::array({"completion"});
  if (model->chat_template) capabilities.push_back("tools");
  if (model->output_format.thinks) capabilities.push_back("thinking");
  send_json(writer, {{"modelfile", ""},
                     {"parameters", ""},
                     {"template", model->chat_template ? model->chat_template->source() : ""},
                     {"details", details(facts_of(context, *find_entry(context, model->name), model.get()))},
                     {"model_info",
                      {{"general.architecture", config.model_type},
                       {config.model_type + ".context_length", model->engine->max_context()},
                       {config.model_type + ".embedding_length", config.hidden_size},
                       {config.model_type + ".block_count", config.num_hidden_layers}}},
                     {"capabilities", std::move(capabilities)},
                     {"modified_at", iso_time(model->created_unix)}});
  return ok();
}

}  // namespace

void add_ollama_routes(ServerContext& context, std::vector<Route>& routes) {
  const auto post = [&](const char* path, const char* summary, RouteRule rule, Json schema, Json response, bool streams,
                        Body handle) {
    routes.push_back({.method = "POST",
                      .path = path,
                      .rule = std::move(rule),
                      .summary = summary,
                      .request_schema = std::move(schema),
                      .response_schema = std::move(response),
                      .streams = streams,
                      .handler = json_handler(context, ErrorStyle::ollama, std::move(handle))});
  };
  post("/api/chat", "Answers a chat in Ollama's protocol", generate_rule(), ollama_chat_schema(),
       object_schema({"model", "done"}), true,
       [&context](const HttpRequest& http, const Json& body, const auto& writer) {
         return answer(context, http, OllamaEndpoint::chat, body, writer);
       });
  post("/api/generate", "Answers a prompt in Ollama's protocol", generate_rule(), ollama_generate_schema(),
       object_schema({"model", "done"}), true,
       [&context](const HttpRequest& http, const Json& body, const auto& writer) {
         return answer(context, http, OllamaEndpoint::generate, body, writer);
       });
  post("/api/show", "A model's details", describe_model_rule(), ollama_model_schema(),
       object_schema({"details", "model_info"}), false,
       [&context](const HttpRequest& http, const Json& body, const auto& writer) {
         return show(context, http, body, *writer);
       });
  const auto get = [&](const char* path, const char* summary, RouteRule rule, Json response, Handler handler) {
    routes.push_back({.method = "GET",
                      .path = path,
                      .rule = std::move(rule),
                      .summary = summary,
                      .response_schema = std::move(response),
                      .handler = std::move(handler)});
  };
  get("/api/tags", "The models that the caller may name", read_models_rule(), object_schema({"models"}),
      [&context](auto request, auto writer) { list_models(context, *request, *writer, false); });
  get("/api/ps", "Those of them that are loaded", read_models_rule(), object_schema({"models"}),
      [&context](auto request, auto writer) { list_models(context, *request, *writer, true); });
  get("/api/version", "The server's version", read_server_rule(), object_schema({"version"}),
      [&context](auto, auto writer) {
        send_json(*writer, {{"version", context.options.version}});
      });
}

}  // namespace redoubt
