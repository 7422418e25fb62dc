#include "server/generation_stream.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "core/clock.h"
#include "governance/permit.h"
#include "server/access_question.h"
#include "server/api_error.h"
#include "server/metrics.h"
#include "server/request_limits.h"

namespace redoubt {

namespace {

// What a client may ask for only where a policy permits it. (A chat template of its own: acquire_chat_model. An adapter
// no request may name: parsing refuses it.)
Status check_shaping(const HttpRequest& http, const AskedModel& model, const std::vector<GenerationRequest>& requests) {
  const bool first_of_all =
      std::any_of(requests.begin(), requests.end(), [](const auto& r) { return r.priority != 0; });
  if (!first_of_all) return ok();
  const int asked = -requests.front().priority;  // as the client counts: smaller is sooner
  AccessQuestion question = model_question(http, "set_priority", model);
  question.context.emplace("priority", std::to_string(asked));
  Status may = http.permit->check(std::move(question));
  if (!may) may.error().param = "priority";
  return may;
}

}  // namespace

struct GenerationStream::Choice {
  std::optional<OutputParser> parser;
  std::optional<ForcedCallReader> forced;
  PieceTokens pending;  // tokens whose text has not come out yet
  bool content_started = false;
  bool called = false;  // a tool call was begun
  bool cut = false;     // a second call came where only one may
  bool finished = false;
};

struct GenerationStream::State {
  GenerationOptions options;
  std::unique_ptr<AnswerSink> sink;
  std::shared_ptr<ResponseWriter> writer;
  int per_request = 1;
  std::optional<int32_t> think_open, think_close;
  std::shared_ptr<RequestLimits> limits;  // null: none

  std::mutex mutex;
  std::vector<std::shared_ptr<Generation>> generations;
  std::vector<Choice> choices;
  std::vector<std::pair<int, TokenEvent>> early;  // came before the response was begun
  bool structured = false;
  bool opening = true, over = false, client_left = false, behind = false, want_cancel = false;
  enum class Fault : uint8_t { none, engines, requests };
  std::vector<Fault> faults;  // [requests]
  size_t requests = 0, requests_done = 0;
  AnswerUsage usage;
  FinishReason finish = FinishReason::stop;  // of the first choice
  int64_t preemptions = 0, max_tokens = 0;
  int64_t started_ns = 0, first_token_ns = 0, last_token_ns = 0;
};

class GenerationStream::Listener final : public GenerationListener {
 public:
  Listener(std::shared_ptr<GenerationStream> stream, int first_choice)
      : stream_(std::move(stream)), first_choice_(first_choice) {}
  void on_token(const TokenEvent& event) override {
    if (stream_) stream_->on_token(first_choice_, event);
  }
  void on_done(const GenerationUsage& usage) override {
    if (const auto stream = std::move(stream_)) stream->on_done(first_choice_, usage);
  }

 private:
  std::shared_ptr<GenerationStream> stream_;
  int first_choice_;
};

GenerationStream::GenerationStream(GenerationOptions options, std::unique_ptr<AnswerSink> sink,
                                   std::shared_ptr<ResponseWriter> writer, int per_request)
    : state_(std::make_unique<State>()) {
  state_->options = std::move(options);
  state_->sink = std::move(sink);
  state_->writer = std::move(writer);
  state_->per_request = per_request;
}

GenerationStream::~GenerationStream() = default;

void GenerationStream::start(const HttpRequest& http, std::vector<GenerationRequest> requests,
                             GenerationOptions options, std::unique_ptr<AnswerSink> sink,
                             std::shared_ptr<ResponseWriter> writer) {
  const AskedModel asked{.name = options.model->name, .stage = options.model->stage, .limits = options.limits};
  if (const Status may = check_shaping(http, asked, requests); !may)
    return send_styled_error(*writer, may.error(), sink->error_style());
  for (GenerationRequest& request : requests) request.tenant = http.permit->principal().tenant;
  const int per_request = requests.empty() ? 1 : requests.front().n;
  const std::shared_ptr<LoadedModel> model = options.model;
  const std::shared_ptr<GenerationStream> stream(
      new GenerationStream(std::move(options), std::move(sink), writer, per_request));
  State& state = *stream->state_;
  state.started_ns = SteadyClock().now_ns();
  state.requests = requests.size();
  state.faults.resize(requests.size());
  state.think_open = model->tokenizer.find("<think>");
  state.think_close = model->tokenizer.find("</think>");
  for (const GenerationRequest& request : requests) {
    state.max_tokens = request.stop.max_tokens;
    state.structured = request.grammar != nullptr;
    state.sink->progress.prompt_tokens += static_cast<int64_t>(request.prompt.size());
  }
  state.choices.resize(requests.size() * static_cast<size_t>(per_request));
  for (Choice& choice : state.choices) {
    if (state.options.parser) choice.parser.emplace(model->tokenizer, *state.options.parser);
    if (state.options.forced) choice.forced.emplace(*state.options.forced);
  }
  // The callback holds the model too: it is let go on the socket's side, never on the engine's own thread.
  const std::weak_ptr<GenerationStream> weak = stream;
  writer->on_close([weak, model](bool client_left) {
    if (!client_left) return;
    if (const auto self = weak.lock()) {
      {
        const std::lock_guard lock(self->state_->mutex);
        self->state_->client_left = true;
      }
      self->cancel_all();
    }
  });
  if (state.options.limits != nullptr) {
    const MayThink may_think = !model->output_format.thinks ? MayThink::never
                               : state.options.parser       ? MayThink::unless_told
                                                            : MayThink::where_opened;
    auto reserved = RequestLimits::reserve(*state.options.limits, http.permit->principal(), model->name, may_think,
                                           requests, http.taken.get());
    if (const auto* refused = std::get_if<ApiError>(&reserved)) {
      state.over = true;
      return send_styled_error(*writer, *refused, state.sink->error_style());
    }
    state.limits = std::get<std::shared_ptr<RequestLimits>>(std::move(reserved));
    state.limits->on_lost([weak](const std::string& limit) {
      if (const auto self = weak.lock()) self->lose_quota(limit);
    });
  }
  if (!stream->submit_all(std::move(requests))) return;
  stream->open();
  http.permit->on_revoked([weak](const Error& reason) {
    if (const auto self = weak.lock()) self->revoke(reason);
  });
  writer->on_backpressure([weak](bool behind) {
    if (const auto self = weak.lock()) self->pause_all(behind);
  });
}

size_t GenerationStream::prompt_of(int choice) const { return static_cast<size_t>(choice / state_->per_request); }

HttpHeaders GenerationStream::headers() const {
  HttpHeaders all = state_->options.headers;
  if (state_->limits != nullptr)
    all.insert(all.end(), state_->limits->headers().begin(), state_->limits->headers().end());
  return all;
}

// No lock is held over submit: the engine may call back, from its thread or from inside.
bool GenerationStream::submit_all(std::vector<GenerationRequest> requests) {
  State& state = *state_;
  int first_choice = 0;
  for (GenerationRequest& request : requests) {
    const ErrorStyle style = state.sink->error_style();
    auto generation = state.options.model->engine->submit(std::move(request),
                                                          std::make_shared<Listener>(shared_from_this(), first_choice));
    if (!generation) {
      {
        const std::lock_guard lock(state.mutex);
        state.over = true;
        state.opening = false;
      }
      cancel_all();
      if (state.limits != nullptr && is_clients_fault(generation.error().code))
        state.limits->settle(prompt_of(first_choice), {});
      if (state.options.metrics != nullptr && generation.error().code == ErrorCode::overloaded) {
        state.options.metrics->observe_refused(state.options.model->name);
      }
      send_styled_error(*state.writer, generation.error(), style);
      return false;
    }
    first_choice += state.per_request;
    const std::lock_guard lock(state.mutex);
    state.generations.push_back(std::move(*generation));
  }
  return true;
}

void GenerationStream::open() {
  State& state = *state_;
  bool cancel = false;
  std::vector<std::shared_ptr<Generation>> finished;  // let go without the lock
  {
    const std::lock_guard lock(state.mutex);
    std::string out;
    if (const char* type = state.sink->stream_type()) {
      // For text/event-stream the server says itself that nothing may be kept or gathered on the way.
      const bool sse = std::string_view(type).starts_with("text/event-stream");
      HttpHeaders told = headers();
      if (!sse) told.insert(told.end(), {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}});
      state.writer->start_stream(200, type, std::move(told), state.sink->idle_comment());
      state.sink->begin(out);
    }
    state.opening = false;
    for (const auto& [first_choice, event] : state.early) {
      if (!state.over) handle(first_choice, event, out);
    }
    state.early = {};
    flush(out);
    if (state.requests_done == state.requests) {
      complete(out);
      finished.swap(state.generations);
    }
    cancel = state.client_left || state.want_cancel;
  }
  if (cancel) cancel_all();
}

void GenerationStream::on_token(int first_choice, const TokenEvent& event) {
  State& state = *state_;
  bool cancel = false;
  {
    const std::lock_guard lock(state.mutex);
    if (event.token >= 0) count_token();
    if (event.finish == FinishReason::error) {
      const bool is_own_fault = event.error && event.error->code == ErrorCode::invalid_argument;
      state.faults[prompt_of(first_choice)] = is_own_fault ? State::Fault::requests : State::Fault::engines;
    }
    if (state.opening) {
      state.early.emplace_back(first_choice, event);
      return;
    }
    if (state.over || state.client_left) return;
    std::string out;
    handle(first_choice, event, out);
    flush(out);
    cancel = std::exchange(state.want_cancel, false);
  }
  if (cancel) cancel_all();
}

// What the engine failed at, and what the server ended before anything was computed. Not what its client left, nor what
// the request brought about itself: its schema was compiled and its prompt rendered for it.
bool GenerationStream::is_given_back(size_t prompt, const GenerationUsage& usage) const {
  const State::Fault fault = state_->faults[prompt];
  if (fault != State::Fault::none || state_->client_left) return fault == State::Fault::engines;
  return usage.completion_tokens == 0 && usage.prefilled_tokens == 0;
}

void GenerationStream::on_done(int first_choice, const GenerationUsage& usage) {
  State& state = *state_;
  std::vector<std::shared_ptr<Generation>> finished;  // let go without the lock
  {
    const std::lock_guard lock(state.mutex);
    if (state.limits != nullptr) {
      const size_t prompt = prompt_of(first_choice);
      is_given_back(prompt, usage) ? state.limits->refund(prompt) : state.limits->settle(prompt, usage);
    }
    AnswerUsage& sum = state.usage;
    sum.prompt_tokens += usage.prompt_tokens;
    sum.cached_tokens += usage.cached_tokens;
    sum.completion_tokens += usage.completion_tokens;
    sum.reasoning_tokens += usage.reasoning_tokens;
    sum.draft_tokens += usage.draft_tokens;
    sum.accepted_draft_tokens += usage.accepted_draft_tokens;
    sum.queue_ns = std::max(sum.queue_ns, usage.queue_ns);
    sum.prefill_ns = std::max(sum.prefill_ns, usage.prefill_ns);
    sum.decode_ns = std::max(sum.decode_ns, usage.decode_ns);
    state.sink->prompt_done(first_choice, usage);
    state.preemptions += usage.preemptions;
    ++state.requests_done;
    if (state.opening || state.requests_done < state.requests) return;
    std::string out;
    complete(out);
    finished.swap(state.generations);
  }
}

void GenerationStream::complete(std::string& out) {
  State& state = *state_;
  if (!state.over) {
    state.over = true;
    if (!state.client_left) {
      state.sink->done(out, state.usage);
      if (state.sink->stream_type() != nullptr) {
        if (!out.empty()) state.writer->write(std::move(out));
        state.writer->end();
      } else {
        state.writer->send(200, "application/json", std::move(out), headers());
      }
    }
  }
  if (state.client_left) state.finish = FinishReason::abort;
  if (state.options.metrics == nullptr) return;
  FinishedRequest finished{.model = state.options.model->name,
                           .reason = state.finish,
                           .n = state.per_request,
                           .max_tokens = state.max_tokens,
                           .structured = state.structured};
  finished.usage.prompt_tokens = state.usage.prompt_tokens;
  finished.usage.cached_tokens = state.usage.cached_tokens;
  finished.usage.completion_tokens = state.usage.completion_tokens;
  finished.usage.reasoning_tokens = state.usage.reasoning_tokens;
  finished.usage.queue_ns = state.usage.queue_ns;
  finished.usage.prefill_ns = state.usage.prefill_ns;
  finished.usage.decode_ns = state.usage.decode_ns;
  finished.usage.preemptions = state.preemptions;
  if (state.first_token_ns > 0) finished.ttft_s = static_cast<double>(state.first_token_ns - state.started_ns) * 1e-9;
  finished.e2e_s = static_cast<double>(SteadyClock().now_ns() - state.started_ns) * 1e-9;
  state.options.metrics->observe_finished(finished);
}

void GenerationStream::count_token() {
  State& state = *state_;
  const int64_t now = SteadyClock().now_ns();
  ServerMetrics* metrics = state.options.metrics;
  if (state.first_token_ns == 0) {
    state.first_token_ns = now;
    if (metrics != nullptr) {
      metrics->observe_first_token(state.options.model->name, static_cast<double>(now - state.started_ns) * 1e-9);
    }
  } else if (metrics != nullptr && state.choices.size() == 1) {  // several choices share steps: their gaps say nothing
    metrics->observe_inter_token(state.options.model->name, static_cast<double>(now - state.last_token_ns) * 1e-9);
  }
  state.last_token_ns = now;
}

void GenerationStream::handle(int first_choice, const TokenEvent& event, std::string& out) {
  State& state = *state_;
  const int index = first_choice + event.choice;
  if (index < 0 || static_cast<size_t>(index) >= state.choices.size()) return;
  Choice& choice = state.choices[static_cast<size_t>(index)];
  if (choice.finished) return;
  if (event.finish == FinishReason::error) {
    const Error unknown{ErrorCode::internal, "the engine failed", {}};
    state.finish = FinishReason::error;
    return fail(request_error(event.error.value_or(unknown)), out);
  }
  if (event.finish == FinishReason::abort && !choice.cut) {
    state.finish = FinishReason::abort;
    return fail(
        {503, "the request was cancelled by the server", "unavailable_error", "", "cancelled", {{"Retry-After", "1"}}},
        out);
  }
  if (event.token >= 0) {
    ++state.sink->progress.completion_tokens;
    if (event.in_reasoning) ++state.sink->progress.reasoning_tokens;
    const bool is_mark = choice.parser && (event.token == state.think_open || event.token == state.think_close);
    if (event.logprob && !is_mark) choice.pending.logprobs.push_back(*event.logprob);
    if (state.options.return_token_ids) choice.pending.ids.push_back(event.token);
  }
  if (event.token >= 0 || !event.text.empty()) {
    std::vector<OutputEvent> events;
    if (choice.parser)
      events = choice.parser->push(event.token, event.text);
    else if (!event.text.empty())
      events.push_back({OutputEvent::Kind::content, event.text, 0});
    // A newline after </think> is trimmed: then it belongs to no text.
    if (events.empty() && choice.parser && !choice.content_started && !choice.pending.logprobs.empty() &&
        event.text.find_first_not_of('\n') == std::string::npos && !event.text.empty()) {
      choice.pending.logprobs.pop_back();
    }
    emit(index, events, out);
  }
  if (event.finish == FinishReason::none) return;
  const size_t prompt = prompt_of(index);
  if (event.by_allowance && state.limits != nullptr && state.limits->is_unavailable(prompt)) {
    state.finish = FinishReason::abort;
    return fail(limits_unavailable(state.limits->limit_of(prompt)), out);
  }
  end_choice(index, event, out);
}

void GenerationStream::emit(int index, std::vector<OutputEvent>& events, std::string& out) {
  Choice& choice = state_->choices[static_cast<size_t>(index)];
  for (OutputEvent& event : events) {
    if (choice.forced && event.kind == OutputEvent::Kind::content) {
      std::vector<OutputEvent> calls;
      choice.forced->push(event.text, calls);
      for (OutputEvent& call : calls) emit_one(index, std::move(call), out);
    } else {
      emit_one(index, std::move(event), out);
    }
  }
}

void GenerationStream::emit_one(int index, OutputEvent event, std::string& out) {
  State& state = *state_;
  Choice& choice = state.choices[static_cast<size_t>(index)];
  const bool is_text = event.kind == OutputEvent::Kind::content || event.kind == OutputEvent::Kind::reasoning;
  if (choice.cut) return;
  if (is_text && event.text.empty()) return;
  if (!is_text) {
    choice.pending.logprobs.clear();  // calls have no place for them
    if (event.tool_index > 0 && !state.options.parallel_tool_calls) {
      choice.cut = true;
      state.want_cancel = state.choices.size() == 1;  // nothing more is wanted
      return;
    }
    choice.called = true;
  }
  if (event.kind == OutputEvent::Kind::content) choice.content_started = true;
  state.sink->piece(out, index, event, std::exchange(choice.pending, {}));
}

void GenerationStream::end_choice(int index, const TokenEvent& event, std::string& out) {
  State& state = *state_;
  Choice& choice = state.choices[static_cast<size_t>(index)];
  if (choice.parser) {
    std::vector<OutputEvent> rest = choice.parser->finish();
    emit(index, rest, out);
  }
  if (choice.forced) {
    std::vector<OutputEvent> rest;
    choice.forced->finish(rest);
    emit(index, rest, out);
  }
  choice.finished = true;
  if (index == 0) state.finish = choice.cut ? FinishReason::stop : event.finish;
  ChoiceEnd end;
  end.reason = event.finish == FinishReason::length ? EndReason::length
               : choice.called                      ? EndReason::tool_calls
                                                    : EndReason::stop;
  end.stop_string = event.stop_string;
  if (event.finish == FinishReason::length && state.limits != nullptr) {
    const size_t prompt = prompt_of(index);
    end.limit = event.by_allowance ? state.limits->limit_of(prompt)
                                   : state.limits->limit_of_length(prompt, state.options.model->engine->max_context());
  }
  const std::vector<int32_t>& eos = state.options.model->stop_ids;
  if (event.stop_token && std::find(eos.begin(), eos.end(), *event.stop_token) == eos.end() &&
      event.stop_token != state.options.model->tokenizer.eos()) {
    end.stop_token = event.stop_token;
  }
  end.ids = std::move(choice.pending.ids);
  state.sink->finish_choice(out, index, end);
  choice.parser.reset();
  choice.pending = {};
}

void GenerationStream::fail(const ApiError& error, std::string& out) {
  State& state = *state_;
  if (state.over) return;
  state.over = true;
  state.want_cancel = true;
  if (state.sink->stream_type() == nullptr) {
    send_styled_error(*state.writer, error, state.sink->error_style());
    return;
  }
  state.sink->fail(out, error);
  flush(out);
  state.writer->end();
}

void GenerationStream::flush(std::string& out) {
  if (out.empty()) return;
  if (state_->sink->stream_type() != nullptr) state_->writer->write(std::move(out));
  out.clear();
}

void GenerationStream::revoke(const Error& reason) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->over || state_->client_left) return;
    std::string out;
    state_->finish = FinishReason::abort;
    if (reason.code == ErrorCode::unavailable) {
      fail(api_error(unavailable(reason.message + ", so the answer ends here")), out);
    } else {
      fail({403, reason.message, "permission_error", "", "revoked", {}}, out);
    }
  }
  cancel_all();
}

void GenerationStream::lose_quota(const std::string& limit) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->over || state_->client_left) return;
    std::string out;
    state_->finish = FinishReason::abort;
    fail(limits_unavailable(limit), out);
  }
  cancel_all();
}

void GenerationStream::cancel_all() {
  std::vector<std::shared_ptr<Generation>> generations;
  {
    const std::lock_guard lock(state_->mutex);
    generations = state_->generations;
  }
  for (const auto& generation : generations) generation->cancel();
}

void GenerationStream::pause_all(bool behind) {
  std::vector<std::shared_ptr<Generation>> generations;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->behind == behind) return;
    state_->behind = behind;
    generations = state_->generations;
  }
  for (const auto& generation : generations) behind ? generation->pause() : generation->resume();
}

}  // namespace redoubt
