#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <thread>

#include "core/log.h"
#include "engine/admission.h"
#include "engine/disk_cache.h"
#include "engine/memory_room.h"
#include "engine/step_loop.h"

namespace redoubt {

namespace {

void have_controls_read(Mailbox& mailbox) {
  const std::lock_guard lock(mailbox.mutex);
  mailbox.controls_changed = true;
  mailbox.wake.notify_one();
}

class LiveGeneration final : public Generation {
 public:
  LiveGeneration(std::shared_ptr<RequestControl> control, std::shared_ptr<Mailbox> mailbox)
      : control_(std::move(control)), mailbox_(std::move(mailbox)) {}
  void cancel() override { set(control_->cancelled, true); }
  void pause() override { set(control_->paused, true); }
  void resume() override { set(control_->paused, false); }

 private:
  void set(std::atomic<bool>& flag, bool value) {
    flag = value;
    have_controls_read(*mailbox_);
  }
  std::shared_ptr<RequestControl> control_;
  std::shared_ptr<Mailbox> mailbox_;
};

// Lengths go before the names, so that no two triples join to one key.
std::string space_of(const GenerationRequest& request) {
  return fmt::format("{} {} {}{}{}", request.tenant.size(), request.adapter.size(), request.tenant, request.adapter,
                     request.cache_salt);
}

std::string cache_space(const GenerationRequest& request, bool shared_between_requests, uint64_t arrival) {
  return shared_between_requests ? space_of(request) : fmt::format("request {}", arrival);
}

// Whether blocks hold rows of the MTP module, each of which follows from the token behind its own as well.
bool has_module_rows(const Model& model, const EngineOptions& options) {
  return model.has_mtp() && Speculator(options.speculation).uses_module();
}

// Everything but space and tokens that a block's values depend on. Blocks of an engine without the MTP module's rows do
// for none that drafts from them.
std::string identity_of(const Model& model, const EngineOptions& options) {
  return fmt::format("{} {} {} {}", options.disk_identity, model.kernels_name(), model.cache_block_bytes(),
                     has_module_rows(model, options));
}

class BatchEngine final : public Engine {
 public:
  BatchEngine(Model& model, const Tokenizer& tokenizer, EngineOptions options, const Scheduler::Options& scheduling,
              int64_t max_context, const Clock& clock)
      : options_(std::move(options)),
        clock_(clock),
        max_context_(max_context),
        tokenizer_(tokenizer),
        setting_{&tokenizer, ThinkMarks::of(tokenizer), options_.eos_ids, model.config().vocab_size},
        vocabulary_(options_.vocabulary),
        disk_identity_(identity_of(model, options_)),
        loop_(model, {scheduling, options_.speculation, options_.prefix_cache ? options_.disk_cache.get() : nullptr},
              clock, mailbox_),
        thread_([this] { loop_.run(); }) {}

  ~BatchEngine() override { end(); }

  Result<std::shared_ptr<Generation>> submit(GenerationRequest request,
                                             std::shared_ptr<GenerationListener> listener) override;
  EngineStats stats() const override { return loop_.stats(); }
  int64_t max_context() const override { return max_context_; }
  void drain() override {
    const std::lock_guard lock(mailbox_->mutex);
    mailbox_->draining = true;
  }
  void stop() override { end(); }

 private:
  void end() {
    {
      const std::lock_guard lock(mailbox_->mutex);
      mailbox_->draining = mailbox_->stopping = true;
      mailbox_->wake.notify_one();
    }
    if (thread_.joinable()) thread_.join();
  }
  std::shared_ptr<const GrammarVocabulary> vocabulary();
  Status admit(Arrival arrival);

  const EngineOptions options_;
  const Clock& clock_;
  const int64_t max_context_;
  const Tokenizer& tokenizer_;
  const AnswerSetting setting_;
  std::mutex vocabulary_mutex_;
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  const std::shared_ptr<Mailbox> mailbox_ = std::make_shared<Mailbox>();
  const std::string disk_identity_;
  mutable StepLoop loop_;
  std::thread thread_;
};

std::shared_ptr<const GrammarVocabulary> BatchEngine::vocabulary() {
  const std::lock_guard lock(vocabulary_mutex_);
  if (vocabulary_ == nullptr) vocabulary_ = make_grammar_vocabulary(tokenizer_);
  return vocabulary_;
}

Result<std::shared_ptr<Generation>> BatchEngine::submit(GenerationRequest request,
                                                        std::shared_ptr<GenerationListener> listener) {
  REDOUBT_CHECK(loop_.weights());
  REDOUBT_CHECK(
      check_request(request, {.vocab_size = setting_.vocab_size, .max_context = max_context_}, setting_.marks));
  Arrival arrival{.live = std::make_shared<LiveRequest>()};
  LiveRequest& live = *arrival.live;
  live.request = std::move(request);
  live.listener = std::move(listener);
  live.unfinished = live.request.n;
  live.submitted_ns = clock_.now_ns();
  const auto prompt_tokens = static_cast<int64_t>(live.request.prompt.size());
  live.usage.prompt_tokens = prompt_tokens;
  if (live.request.prompt_logprobs) live.usage.prompt_logprobs.resize(live.request.prompt.size());

  const bool uses_disk = options_.disk_cache != nullptr && options_.prefix_cache;
  if (uses_disk) live.block_keys = cache_keys(disk_identity_, space_of(live.request), live.request.prompt);

  const auto vocabulary_if_needed = live.request.grammar != nullptr ? vocabulary() : nullptr;
  const int64_t room = max_context_ - prompt_tokens;
  const int64_t max_tokens = live.request.stop.max_tokens == 0 ? room : live.request.stop.max_tokens;
  for (int choice = 0; choice < live.request.n; ++choice) {
    arrival.choices.push_back(std::make_unique<Sequence>(
        Sequence{.live = arrival.live,
                 .choice = choice,
                 .answer = Answer(live.request, choice, max_tokens, setting_, vocabulary_if_needed),
                 .on_disk = uses_disk ? Sequence::OnDisk::unknown : Sequence::OnDisk::taken,
                 .tokens = live.request.prompt,
                 .prompt_tokens = prompt_tokens}));
  }
  auto generation = std::make_shared<LiveGeneration>(live.control, mailbox_);
  if (Allowance* allowance = live.request.allowance.get(); allowance != nullptr)
    allowance->set_waker([mailbox = mailbox_] { have_controls_read(*mailbox); });
  REDOUBT_CHECK(admit(std::move(arrival)));
  return std::shared_ptr<Generation>(std::move(generation));
}

// The queue is bounded by what is unfinished, not by what the engine thread has picked up so far, so that the answer
// does not depend on timing. Paused sequences wait for their readers, not for us.
Status BatchEngine::admit(Arrival arrival) {
  const auto choices = static_cast<int64_t>(arrival.choices.size());
  const std::lock_guard lock(mailbox_->mutex);
  if (mailbox_->draining)
    return Error{ErrorCode::overloaded, "the server is shutting down and takes no new requests", {}};
  const int64_t active = mailbox_->unfinished - mailbox_->paused;
  if (active >= loop_.max_running() + options_.max_queue)
    return Error{ErrorCode::overloaded,
                 fmt::format("the queue is full: {} sequences run or wait, expected fewer than {}", active,
                             loop_.max_running() + options_.max_queue),
                 {}};
  if (active <= 0) loop_.note_progress();
  arrival.live->arrival = mailbox_->next_arrival++;
  arrival.live->cache_space = cache_space(arrival.live->request, options_.prefix_cache, arrival.live->arrival);
  mailbox_->unfinished += choices;
  mailbox_->arrived.push_back(std::move(arrival));
  mailbox_->wake.notify_one();
  return ok();
}

// Bytes for the cache: what was asked for, else half of the memory that the weights leave.
int64_t wanted_bytes(const EngineOptions& options) {
  if (options.cache_bytes > 0) return options.cache_bytes;
  return std::max<int64_t>(0, available_memory_bytes() - options.mapped_weights_bytes) / 2;
}

// Never more blocks than all running sequences could fill.
int64_t wanted_blocks(const Model& model, const EngineOptions& options, int64_t max_running, int64_t longest) {
  const int64_t blocks_a_sequence = (longest + kCacheBlockTokens - 1) / kCacheBlockTokens;
  return std::min({wanted_bytes(options) / model.cache_block_bytes(), max_running * blocks_a_sequence,
                   static_cast<int64_t>(std::numeric_limits<int32_t>::max())});
}

}  // namespace

EngineStats counted_together(const EngineStats& a, const EngineStats& b) {
  EngineStats sum;
  for (const auto count : {&EngineStats::prompt_tokens,
                           &EngineStats::generation_tokens,
                           &EngineStats::prefix_queries,
                           &EngineStats::prefix_hits,
                           &EngineStats::preemptions,
                           &EngineStats::prompt_cached_tokens,
                           &EngineStats::prompt_disk_tokens,
                           &EngineStats::evicted_tokens,
                           &EngineStats::finished_stop,
                           &EngineStats::finished_length,
                           &EngineStats::finished_abort,
                           &EngineStats::finished_error,
                           &EngineStats::disk_queries,
                           &EngineStats::disk_hits,
                           &EngineStats::drafts,
                           &EngineStats::draft_tokens,
                           &EngineStats::accepted_draft_tokens,
                           &EngineStats::steps,
                           &EngineStats::layers_done,
                           &EngineStats::given_up_tokens,
                           &EngineStats::step_tokens,
                           &EngineStats::step_sequences,
                           &EngineStats::damaged_requests})
    sum.*count = a.*count + b.*count;
  std::ranges::transform(a.accepted_at, b.accepted_at, sum.accepted_at.begin(), std::plus());
  std::ranges::transform(a.steps_of_size, b.steps_of_size, sum.steps_of_size.begin(), std::plus());
  return sum;
}

Result<std::unique_ptr<Engine>> Engine::create(Model& model, const Tokenizer& tokenizer, const EngineOptions& options,
                                               const Clock& clock) {
  Scheduler::Options scheduling{
      .step = model.limits(),
      .max_running = options.max_sequences,
      .prefix_cache = options.prefix_cache,
      .cache_answers = options.prefix_cache && model.forms_agree() && !has_module_rows(model, options),
      .contended_step_seconds = options.contended_step_seconds,
      .token_cost = TokenCost(model.config())};
  scheduling.step.max_tokens = std::min(scheduling.step.max_tokens, options.max_batch_tokens);
  if (scheduling.step.max_tokens < 1 || scheduling.max_running < 1)
    return invalid(fmt::format("engine: expected max_batch_tokens and max_sequences of at least 1, found {} and {}",
                               options.max_batch_tokens, options.max_sequences));
  if (options.speculation.max_depth < 0)
    return invalid(
        fmt::format("engine: expected a speculation depth of at least 0, found {}", options.speculation.max_depth));
  if (options.speculation.mode == Speculation::mtp && !model.has_mtp())
    log::warn("speculation: mtp was asked for, and this model has no MTP module: nothing is drafted");
  const int64_t of_model = model.config().max_position_embeddings;
  const int64_t wanted = options.max_context > 0 ? std::min(options.max_context, of_model) : of_model;
  if (model.num_cache_blocks() == 0) {
    const int64_t max_running = std::min(scheduling.max_running, scheduling.step.max_logits);
    const int64_t blocks = wanted_blocks(model, options, max_running, wanted);
    if (blocks < 1)
      return io_error(
          fmt::format("cache: expected at least {} bytes for one block, found {}; raise --cache-bytes or free "
                      "memory",
                      model.cache_block_bytes(), wanted_bytes(options)));
    REDOUBT_CHECK(model.reserve_cache(blocks));
  }
  const int64_t cache_tokens = model.num_cache_blocks() * kCacheBlockTokens;
  const int64_t max_context = std::min(wanted, cache_tokens);
  if (max_context < 2)
    return io_error(fmt::format("cache: room for {} tokens is too little for any request", cache_tokens));
  if (max_context < wanted)
    log::warn("the cache holds {} tokens: the longest request is {} tokens, not the {} asked for", cache_tokens,
              max_context, wanted);
  return std::unique_ptr<Engine>(
      std::make_unique<BatchEngine>(model, tokenizer, options, scheduling, max_context, clock));
}

}  // namespace redoubt
