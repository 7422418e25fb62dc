// POST /v1/completions: raw prompts (texts or ids, one or several), answered without a template.
//
// Special tokens in a text prompt are recognised and no BOS is added unless add_special_tokens asks for it: the prompt
// is the client's own. Where it ends inside <think> the answer begins there for what is counted and bounded; its text
// comes as it is. Logprobs have the old shape (parallel arrays), and echo returns the prompt with its logprobs, as
// evaluation harnesses need.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "core/utf8.h"
#include "server/chat_generation.h"
#include "server/completions_request.h"
#include "server/generation_answer.h"
#include "server/prompt_ids.h"
#include "server/routes.h"
#include "server/routes_schemas.h"
#include "server/sse.h"

namespace redoubt {
namespace {

struct CompletionOptions {
  std::string id, model, fingerprint;
  int64_t created = 0;
  int n = 1;
  bool echo = false, logprobs = false, token_ids = false, discard = false;
  bool include_usage = false, continuous_usage = false;
  std::vector<std::string> prompt_texts;         // if echo
  std::vector<std::vector<int32_t>> prompt_ids;  // if echo with logprobs, or token_ids
};

std::string head_of(const CompletionOptions& options) {
  std::string head = "{\"id\":";
  append_json_string(head, options.id);
  fmt::format_to(std::back_inserter(head), R"(,"object":"text_completion","created":{},"model":)", options.created);
  append_json_string(head, options.model);
  head += ",\"system_fingerprint\":";
  append_json_string(head, options.fingerprint);
  return head + ",\"choices\":[";
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// The parallel arrays. `offset` is in characters of the choice's text.
class LogprobArrays {
 public:
  LogprobArrays(const Tokenizer& tokenizer, size_t offset) : tokenizer_(tokenizer), offset_(offset) {}

  void add(int32_t token, const TokenLogprob* logprob) {
    const std::string_view comma = tokens_.empty() ? "" : ",";
    tokens_ += comma;
    append_json_string(tokens_, tokenizer_.bytes(token));
    fmt::format_to(std::back_inserter(offsets_), "{}{}", comma, offset_);
    offset_ += count_characters(tokenizer_.bytes(token));
    logprobs_ += comma;
    top_ += comma;
    if (logprob == nullptr) {
      logprobs_ += "null";
      top_ += "null";
      return;
    }
    append_json_number(logprobs_, std::max(logprob->logprob, -9999.0f));
    std::set<std::string> seen;  // two tokens may look alike once repaired; the likelier stays
    top_ += '{';
    for (const auto& [id, value] : logprob->top) {
      const std::string text = token_text(tokenizer_, id);
      if (!seen.insert(text).second) continue;
      if (seen.size() > 1) top_ += ',';
      append_json_string(top_, text);
      top_ += ':';
      append_json_number(top_, std::max(value, -9999.0f));
    }
    top_ += '}';
  }
  void append_to(std::string& out) const {
    fmt::format_to(std::back_inserter(out),
                   R"({{"tokens":[{}],"token_logprobs":[{}],"top_logprobs":[{}],"text_offset":[{}]}})", tokens_,
                   logprobs_, top_, offsets_);
  }
  size_t offset() const { return offset_; }

 private:
  const Tokenizer& tokenizer_;
  size_t offset_;
  std::string tokens_, offsets_, logprobs_, top_;
};

void append_tail(std::string& out, const CompletionOptions& options, const ChoiceEnd* end) {
  if (end == nullptr) {
    out += ",\"finish_reason\":null";
    return;
  }
  fmt::format_to(std::back_inserter(out), ",\"finish_reason\":\"{}\"",
                 options.discard ? "length" : openai_finish_reason(end->reason));
  append_stop_reason(out, *end);
}

class CompletionBody final : public AnswerSink {
 public:
  CompletionBody(CompletionOptions options, size_t choices, const LoadedModel& model)
      : options_(std::move(options)), model_(model), choices_(choices), prompts_(choices) {}

  void piece(std::string&, int choice, const OutputEvent& event, PieceTokens tokens) override {
    if (!options_.discard) choices_[static_cast<size_t>(choice)].add(event, std::move(tokens));
  }
  void finish_choice(std::string&, int choice, const ChoiceEnd& end) override {
    AnswerChoice& target = choices_[static_cast<size_t>(choice)];
    target.end = end;
    if (!options_.discard) target.ids.insert(target.ids.end(), end.ids.begin(), end.ids.end());
  }
  void prompt_done(int first_choice, const GenerationUsage& usage) override {
    prompts_[static_cast<size_t>(first_choice) / static_cast<size_t>(options_.n)] = usage.prompt_logprobs;
  }
  void done(std::string& out, const AnswerUsage& usage) override {
    out = head_of(options_);
    for (size_t i = 0; i < choices_.size(); ++i) append_choice(out, i);
    out += "],\"usage\":";
    AnswerUsage shown = usage;
    if (options_.discard) shown.completion_tokens = shown.reasoning_tokens = 0;
    append_usage(out, shown);
    append_timings(out, shown);
    out += '}';
  }

 private:
  void append_choice(std::string& out, size_t i) const {
    const AnswerChoice& choice = choices_[i];
    const size_t prompt = i / static_cast<size_t>(options_.n);
    const std::string text = (options_.echo ? options_.prompt_texts[prompt] : std::string()) + choice.content;
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"text":)", i > 0 ? "," : "", i);
    append_json_string(out, text);
    out += ",\"logprobs\":";
    if (options_.logprobs)
      append_logprobs(out, choice, prompt);
    else
      out += "null";
    append_tail(out, options_, &choice.end);
    if (options_.token_ids) {
      out += ",\"prompt_token_ids\":";
      append_token_ids(out, options_.prompt_ids[prompt]);
      out += ",\"token_ids\":";
      append_token_ids(out, choice.ids);
    }
    out += '}';
  }
  void append_logprobs(std::string& out, const AnswerChoice& choice, size_t prompt) const {
    LogprobArrays arrays(model_.tokenizer, 0);
    if (options_.echo) {
      const auto& ids = options_.prompt_ids[prompt];
      const auto& known = prompts_[prompt];
      for (size_t t = 0; t < ids.size(); ++t) {
        arrays.add(ids[t], t < known.size() && known[t] ? &*known[t] : nullptr);
      }
    }
    for (const TokenLogprob& logprob : choice.content_logprobs) arrays.add(logprob.token, &logprob);
    arrays.append_to(out);
  }

  CompletionOptions options_;
  const LoadedModel& model_;  // the stream's options hold it
  std::vector<AnswerChoice> choices_;
  std::vector<std::vector<std::optional<TokenLogprob>>> prompts_;
};

class CompletionChunks final : public AnswerSink {
 public:
  CompletionChunks(CompletionOptions options, size_t choices, const LoadedModel& model)
      : options_(std::move(options)), model_(model), offsets_(options_.logprobs ? choices : 0) {
    head_ = "data: " + head_of(options_);
  }
  const char* stream_type() const override { return "text/event-stream"; }
  const char* idle_comment() const override { return ": keep-alive\n\n"; }

  void begin(std::string& out) override {
    if (options_.echo) {
      for (size_t i = 0; i < options_.prompt_texts.size() * static_cast<size_t>(options_.n); ++i) {
        append_chunk(out, static_cast<int>(i), options_.prompt_texts[i / static_cast<size_t>(options_.n)], {}, nullptr);
      }
    }
    options_.prompt_texts = {};
  }
  void piece(std::string& out, int choice, const OutputEvent& event, PieceTokens tokens) override {
    if (!options_.discard) append_chunk(out, choice, event.text, std::move(tokens), nullptr);
  }
  void finish_choice(std::string& out, int choice, const ChoiceEnd& end) override {
    append_chunk(out, choice, "", {}, &end);
  }
  void done(std::string& out, const AnswerUsage& usage) override {
    if (options_.include_usage) {
      AnswerUsage shown = usage;
      if (options_.discard) shown.completion_tokens = shown.reasoning_tokens = 0;
      out += head_ + "],\"usage\":";
      append_usage(out, shown);
      append_timings(out, shown);
      out += "}\n\n";
    }
    out += "data: [DONE]\n\n";
  }
  void fail(std::string& out, const ApiError& error) override {
    append_sse_data(out, error_body(error));
    out += "data: [DONE]\n\n";
  }

 private:
  void append_chunk(std::string& out, int choice, std::string_view text, PieceTokens tokens, const ChoiceEnd* end) {
    fmt::format_to(std::back_inserter(out), R"({}{{"index":{},"text":)", head_, choice);
    append_json_string(out, text);
    out += ",\"logprobs\":";
    if (options_.logprobs && !tokens.logprobs.empty()) {
      size_t& offset = offsets_[static_cast<size_t>(choice)];
      LogprobArrays arrays(model_.tokenizer, offset);
      for (const TokenLogprob& logprob : tokens.logprobs) arrays.add(logprob.token, &logprob);
      arrays.append_to(out);
      offset = arrays.offset();
    } else {
      out += "null";
    }
    append_tail(out, options_, end);
    if (options_.token_ids) {
      out += ",\"token_ids\":";
      append_token_ids(out, end != nullptr ? end->ids : tokens.ids);
    }
    out += "}]";
    if (options_.continuous_usage) {
      out += ",\"usage\":";
      append_usage(out, progress);
    } else if (options_.include_usage) {
      out += ",\"usage\":null";
    }
    out += "}\n\n";
  }

  CompletionOptions options_;
  const LoadedModel& model_;
  std::string head_;
  std::vector<size_t> offsets_;  // per choice, in characters
};

Result<std::vector<int32_t>> prompt_ids(const CompletionPrompt& prompt, bool add_bos, const LoadedModel& model) {
  const Tokenizer& tokenizer = model.tokenizer;
  if (prompt.text) {
    REDOUBT_TRY(std::vector<int32_t> ids,
                encode_prompt(tokenizer, MarkedText::all_markup(*prompt.text), model.engine->max_context(), "prompt"));
    if (add_bos && tokenizer.bos() && (ids.empty() || ids.front() != *tokenizer.bos())) {
      ids.insert(ids.begin(), *tokenizer.bos());
    }
    return ids;
  }
  for (const int32_t id : prompt.ids) {
    if (id >= tokenizer.vocab_size()) {
      return invalid(fmt::format("prompt: expected token ids under {}, found {}", tokenizer.vocab_size(), id),
                     "prompt");
    }
  }
  return prompt.ids;
}

Status completions(ServerContext& context, const HttpRequest& http, const Json& body,
                   const std::shared_ptr<ResponseWriter>& writer) {
  REDOUBT_TRY(CompletionsRequest request, parse_completions_request(body));
  REDOUBT_TRY(const std::shared_ptr<LoadedModel> model, acquire_model(context, http, request.model));
  CompletionOptions options{.id = random_id("cmpl-"),
                            .model = model->name,
                            .fingerprint = context.options.fingerprint,
                            .created = unix_seconds(),
                            .n = request.generation.n,
                            .echo = request.echo,
                            .logprobs = request.logprobs.has_value(),
                            .token_ids = request.generation.return_token_ids,
                            .discard = request.generation.max_tokens == 0,
                            .include_usage = request.include_usage,
                            .continuous_usage = request.continuous_usage};
  if (options.discard) request.generation.max_tokens = 1;  // the engine's 0 has no limit; the token is not shown
  std::vector<GenerationRequest> requests;
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    // One seed for all prompts: each then gets what it would get alone.
    REDOUBT_TRY(GenerationRequest generation, lower_generation(request.generation, {http, *model}));
    request.generation.seed = generation.sampling.seed;
    generation.id = random_id("gen-");
    REDOUBT_TRY(generation.prompt, prompt_ids(request.prompts[i], request.add_special_tokens, *model));
    REDOUBT_CHECK(fit_context(generation, model->engine->max_context(), false, "prompt", request.generation));
    note_open_thinking(generation, *model);
    generation.thinking.budget_tokens = request.thinking_budget;
    generation.logprobs = request.logprobs.has_value();
    generation.top_logprobs = static_cast<int>(request.logprobs.value_or(0));
    generation.prompt_logprobs = request.echo && generation.logprobs;
    if (request.echo) {
      const auto& text = request.prompts[i].text;
      options.prompt_texts.push_back(text ? *text : model->tokenizer.decode(generation.prompt));
    }
    if (options.token_ids || generation.prompt_logprobs) options.prompt_ids.push_back(generation.prompt);
    requests.push_back(std::move(generation));
  }
  GenerationOptions stream{.model = model,
                           .return_token_ids = request.generation.return_token_ids,
                           .metrics = context.metrics,
                           .limits = context.limits};
  const size_t choices = requests.size() * static_cast<size_t>(request.generation.n);
  std::unique_ptr<AnswerSink> sink;
  if (request.stream)
    sink = std::make_unique<CompletionChunks>(std::move(options), choices, *model);
  else
    sink = std::make_unique<CompletionBody>(std::move(options), choices, *model);
  GenerationStream::start(http, std::move(requests), std::move(stream), std::move(sink), writer);
  return ok();
}

}  // namespace

void add_completions_routes(ServerContext& context, std::vector<Route>& routes) {
  routes.push_back({.method = "POST",
                    .path = "/v1/completions",
                    .rule = generate_rule(),
                    .summary = "Continues a raw prompt",
                    .request_schema = completions_request_schema(),
                    .response_schema = object_schema({"id", "object", "created", "model", "choices", "usage"}),
                    .streams = true,
                    .handler = json_handler(context, ErrorStyle::openai,
                                            [&context](const HttpRequest& http, const Json& body, const auto& writer) {
                                              return completions(context, http, body, writer);
                                            })});
}

}  // namespace redoubt
