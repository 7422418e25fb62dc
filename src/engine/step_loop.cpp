#include "engine/step_loop.h"

#include <algorithm>
#include <chrono>

#include "engine/logprobs.h"

namespace redoubt {

namespace {

// Lets the engine thread look again; outlives the engine, since the disk's thread may still hold it.
std::function<void()> waker_of(std::shared_ptr<Mailbox> mailbox) {
  return [mailbox = std::move(mailbox)] {
    const std::lock_guard lock(mailbox->mutex);
    mailbox->woken = true;
    mailbox->wake.notify_one();
  };
}

}  // namespace

StepLoop::StepLoop(Model& model, const Options& options, const Clock& clock, std::shared_ptr<Mailbox> mailbox)
    : model_(model),
      clock_(clock),
      mailbox_(std::move(mailbox)),
      vocab_size_(static_cast<size_t>(model.config().vocab_size)),
      cache_(model.num_cache_blocks()),
      speculator_(options.speculation),
      scheduler_(options.scheduling, cache_, speculator_) {
  if (speculator_.uses_module() && model.has_mtp()) module_.emplace(model, clock, speculator_, sampler_);
  if (options.disk_cache != nullptr) disk_.emplace(*options.disk_cache, model, cache_, scheduler_, waker_of(mailbox_));
  published_.last_progress_ns = clock.now_ns();
  publish();
}

void StepLoop::run() {
  bool idle = true;
  for (;;) {
    std::vector<Arrival> arrived;
    bool controls_changed = false, stopping = false;
    {
      std::unique_lock lock(mailbox_->mutex);
      const auto has_mail = [&] {
        return !mailbox_->arrived.empty() || mailbox_->controls_changed || mailbox_->woken || mailbox_->stopping;
      };
      if (idle) mailbox_->wake.wait(lock, has_mail);
      arrived.swap(mailbox_->arrived);
      controls_changed = std::exchange(mailbox_->controls_changed, false);
      mailbox_->woken = false;
      stopping = mailbox_->stopping;
    }
    if (idle) note_progress();
    for (Arrival& arrival : arrived) add(std::move(arrival));
    if (controls_changed || !arrived.empty()) apply_controls();
    if (stopping) break;
    if (disk_.has_value()) disk_->advance();
    scheduler_.plan(plan_);
    idle = plan_.empty();
    publish();  // before the step, which may be long: the health checks must know that there is work
    if (!idle) step();
  }
  while (!sequences_.empty()) abort(*sequences_.begin()->second);
}

void StepLoop::add(Arrival arrival) {
  for (std::unique_ptr<Sequence>& choice : arrival.choices) {
    Sequence* sequence = choice.get();
    sequences_.emplace(sequence, std::move(choice));
    scheduler_.add(*sequence);
    hold_without_grant(*sequence);
  }
}

void StepLoop::apply_controls() {
  std::vector<Sequence*> cancelled, ended;
  for (const auto& [sequence, owner] : sequences_) {
    const RequestControl& control = *sequence->live->control;
    const Answer::Grant grant = sequence->awaits_grant ? sequence->answer.grant() : Answer::Grant::left;
    sequence->awaits_grant = grant == Answer::Grant::used_up;
    if (control.cancelled) {
      cancelled.push_back(sequence);
    } else if (grant == Answer::Grant::ended) {
      ended.push_back(sequence);
    } else if (const bool pause = control.paused || sequence->awaits_grant;
               pause != (sequence->state == Sequence::State::paused)) {
      pause ? scheduler_.pause(*sequence) : scheduler_.resume(*sequence);
      num_paused_ += pause ? 1 : -1;
    }
  }
  std::ranges::sort(cancelled, RanksBefore{});
  for (Sequence* sequence : cancelled) abort(*sequence);
  std::ranges::sort(ended, RanksBefore{});
  for (Sequence* sequence : ended) end_by_allowance(*sequence);
  const std::lock_guard lock(mailbox_->mutex);
  mailbox_->paused = num_paused_;
}

// What the last step computed is not looked at.
bool StepLoop::fail_if_damaged() {
  const Status weights = model_.damage();
  if (weights.has_value()) return false;
  while (!sequences_.empty()) {
    Sequence& sequence = *sequences_.begin()->second;
    sequence.answer.end(FinishReason::error, weights.error(), events_);
    ++counters_.damaged_requests;
    finish(sequence, FinishReason::error);
  }
  return true;
}

void StepLoop::step() {
  if (fail_if_damaged()) return;
  chunks_.clear();
  int64_t rows = 0, tokens = 0;
  bool decodes_only = true;
  const int64_t begin_ns = clock_.now_ns();
  for (PlannedChunk& planned : plan_) {
    Sequence& sequence = *planned.sequence;
    planned.first_row = tokens;
    if (sequence.live->admitted_ns == 0) sequence.live->admitted_ns = begin_ns;
    // Drafted tokens stand behind the sequence's own for the length of the step.
    for (int64_t i = 0; i < planned.num_drafts; ++i)
      sequence.tokens.push_back(sequence.draft[static_cast<size_t>(i)].token);
    chunks_.push_back({.tokens = std::span<const int32_t>(sequence.tokens)
                                     .subspan(static_cast<size_t>(planned.begin), static_cast<size_t>(planned.count)),
                       .position = planned.begin,
                       .form = planned.form,
                       .blocks = sequence.blocks,
                       .num_logits = planned.num_logits});
    rows += planned.num_logits;
    tokens += planned.count;
    decodes_only = decodes_only && planned.form == AttentionForm::decode;
  }
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(rows) * vocab_size_));
  const std::span<float> logits = std::span(logits_).first(static_cast<size_t>(rows) * vocab_size_);
  const auto elapsed = [&] { return static_cast<double>(clock_.now_ns() - begin_ns) * 1e-9; };
  std::function<bool(double)> gives_up;
  if (scheduler_.may_give_up()) gives_up = [&](double share_done) { return this->gives_up(elapsed(), share_done); };
  if (!model_.try_step(chunks_, logits, gives_up)) {
    take_back_drafts();
    scheduler_.give_up(elapsed());
    counters_.given_up_tokens += static_cast<uint64_t>(tokens);
    return;
  }
  ++counters_.steps;
  counters_.step_tokens += static_cast<uint64_t>(tokens);
  counters_.step_sequences += plan_.size();
  const auto bucket = std::ranges::lower_bound(kStepSizeBounds, tokens) - kStepSizeBounds.begin();
  ++counters_.steps_of_size[static_cast<size_t>(bucket)];
  if (fail_if_damaged()) return;
  scheduler_.observe_step(plan_, elapsed());
  if (decodes_only) speculator_.observe_step(tokens, elapsed());
  take_back_drafts();

  size_t at = 0;
  for (PlannedChunk& planned : plan_) {
    scheduler_.commit(planned);
    const size_t size = static_cast<size_t>(planned.num_logits) * vocab_size_;
    if (size > 0 && !take_rows(planned, logits.subspan(at, size))) planned.sequence = nullptr;
    at += size;
  }
  if (module_.has_value()) module_->draft(plan_);
  if (disk_.has_value()) disk_->spill(scheduler_.take_new_blocks());
}

// A lone tenant's long step, when a request of another has come that would have to wait for what is left of it.
bool StepLoop::gives_up(double seconds, double share_done) {
  if (seconds / share_done - seconds <= scheduler_.contended_step_seconds()) return false;
  const std::string& tenant = plan_.front().sequence->live->request.tenant;
  const std::lock_guard lock(mailbox_->mutex);
  return std::ranges::any_of(mailbox_->arrived,
                             [&](const Arrival& arrival) { return arrival.live->request.tenant != tenant; });
}

void StepLoop::take_back_drafts() {
  for (const PlannedChunk& planned : plan_) {
    std::vector<int32_t>& tokens = planned.sequence->tokens;
    tokens.resize(tokens.size() - static_cast<size_t>(planned.num_drafts));
  }
}

// The rows of one chunk: log-probabilities of the prompt where they are wanted, and the next tokens if the rows reach
// the sequence's last token.
bool StepLoop::take_rows(const PlannedChunk& chunk, std::span<float> rows) {
  Sequence& sequence = *chunk.sequence;
  LiveRequest& live = *sequence.live;
  if (sequence.wants_prompt_logprobs()) take_prompt_logprobs(chunk, rows);
  if (sequence.computed != sequence.size()) return true;

  if (sequence.choice == 0) end_prompt(live);
  if (live.first_token_ns == 0) live.first_token_ns = clock_.now_ns();
  return draw_tokens(chunk, rows.last(static_cast<size_t>(1 + chunk.num_drafts) * vocab_size_));
}

// Once for a request: its prompt is all there, or it ends before. What was read counts, as it does for limits.
void StepLoop::end_prompt(LiveRequest& live) {
  if (live.prompt_computed) return;
  live.prompt_computed = true;
  const int64_t cached = std::min(live.usage.cached_tokens, live.usage.prefilled_tokens);
  counters_.prompt_tokens += static_cast<uint64_t>(live.usage.prefilled_tokens);
  counters_.prompt_cached_tokens += static_cast<uint64_t>(cached);
  counters_.prompt_disk_tokens += static_cast<uint64_t>(std::min(live.disk_tokens, cached));
}

void StepLoop::take_prompt_logprobs(const PlannedChunk& chunk, std::span<const float> rows) {
  LiveRequest& live = *chunk.sequence->live;
  for (int64_t i = 0; i < chunk.num_logits; ++i) {
    const auto next = static_cast<size_t>(chunk.begin + i + 1);
    if (next >= live.request.prompt.size()) break;
    const std::span<const float> row = rows.subspan(static_cast<size_t>(i) * vocab_size_, vocab_size_);
    live.usage.prompt_logprobs[next] = token_logprob(row, live.request.prompt[next], live.request.top_logprobs);
  }
}

// One token from the row of the sequence's last, and one more from the row of each drafted token that it turns out to
// equal: only then does that row belong to this text.
bool StepLoop::draw_tokens(const PlannedChunk& chunk, std::span<float> rows) {
  Sequence& sequence = *chunk.sequence;
  const int64_t before = sequence.size();
  for (int64_t i = 0; i <= chunk.num_drafts; ++i) {
    const std::span<float> row = rows.subspan(static_cast<size_t>(i) * vocab_size_, vocab_size_);
    const Answer::Next next = sequence.answer.next(row, sampler_, events_);
    if (next.token >= 0) ++counters_.generation_tokens;
    sequence.tokens.push_back(next.token);
    if (next.finished) {
      settle_draft(sequence, chunk, before);
      if (module_.has_value()) module_->end(chunk);
      finish(sequence, next.reason);
      return false;
    }
    deliver(sequence);
    if (Allowance* allowance = sequence.live->request.allowance.get(); allowance != nullptr) {
      allowance->note(sequence.answer.used());
      if (sequence.answer.grant() != Answer::Grant::left) break;
    }
    if (i == chunk.num_drafts || sequence.draft[static_cast<size_t>(i)].token != next.token) break;
    ++sequence.computed;
  }
  settle_draft(sequence, chunk, before);
  sequence.draft.clear();
  if (speculator_.uses_ngrams()) look_up_draft(sequence);
  hold_without_grant(sequence);
  return true;
}

// What was granted is used up: the sequence waits for more, or for the end, which come by apply_controls().
void StepLoop::hold_without_grant(Sequence& sequence) {
  if (sequence.answer.grant() == Answer::Grant::left) return;
  sequence.awaits_grant = true;
  if (sequence.state == Sequence::State::paused) return;
  scheduler_.pause(sequence);
  ++num_paused_;
  const std::lock_guard lock(mailbox_->mutex);
  mailbox_->paused = num_paused_;
}

// Counts what the draft was worth: the tokens from `before` on are what came instead. Also drafted tokens that were not
// verified are compared as far as the text goes, so that acceptance is known while nothing is spent on it.
void StepLoop::settle_draft(Sequence& sequence, const PlannedChunk& chunk, int64_t before) {
  int64_t held = 0;
  for (const DraftedToken& drafted : sequence.draft) {
    if (before + held >= sequence.size()) break;
    const bool holds = sequence.tokens[static_cast<size_t>(before + held)] == drafted.token;
    sequence.acceptance.observe(drafted.kind, holds);
    if (!holds) break;
    ++held;
  }
  if (chunk.num_drafts == 0) return;
  const int64_t accepted = std::min(held, chunk.num_drafts);
  ++counters_.drafts;
  counters_.draft_tokens += static_cast<uint64_t>(chunk.num_drafts);
  counters_.accepted_draft_tokens += static_cast<uint64_t>(accepted);
  for (size_t i = 0; i < std::min(static_cast<size_t>(accepted), kDraftPositions); ++i) ++counters_.accepted_at[i];
  sequence.live->usage.draft_tokens += chunk.num_drafts;
  sequence.live->usage.accepted_draft_tokens += accepted;
}

void StepLoop::look_up_draft(Sequence& sequence) {
  const NgramIndex::Match match = sequence.ngrams.find(sequence.tokens);
  if (match.length == 0) return;
  copied_.clear();
  copy_continuation(sequence.tokens, match, speculator_.options().max_depth, copied_);
  for (const int32_t token : copied_)
    sequence.draft.push_back({token, kind_of_match(match.length + static_cast<int64_t>(sequence.draft.size()))});
}

void StepLoop::deliver(Sequence& sequence) {
  for (const TokenEvent& event : events_) sequence.live->listener->on_token(event);
  events_.clear();
}

void StepLoop::end_by_allowance(Sequence& sequence) {
  sequence.answer.end(FinishReason::length, std::nullopt, events_);
  TokenEvent& last = events_.back();
  last.by_allowance = last.stop_string.empty();  // what had been held back may have become a stop string
  if (!last.by_allowance) last.finish = FinishReason::stop;
  finish(sequence, last.finish);
}

void StepLoop::abort(Sequence& sequence) {
  sequence.answer.end(FinishReason::abort, std::nullopt, events_);
  finish(sequence, FinishReason::abort);
}

// Gives the blocks back and counts before the listener hears of it, so that whoever was told sees figures that agree.
void StepLoop::finish(Sequence& sequence, FinishReason reason) {
  const std::unique_ptr<Sequence> owner = std::move(sequences_.extract(&sequence).mapped());
  LiveRequest& live = *sequence.live;
  const bool was_paused = sequence.state == Sequence::State::paused;
  num_paused_ -= was_paused ? 1 : 0;
  if (disk_.has_value()) disk_->forget(sequence);
  scheduler_.remove(sequence);
  if (sequence.choice == 0) end_prompt(live);  // the other choices need not wait for it
  live.usage.completion_tokens += sequence.answer.generated();
  live.usage.reasoning_tokens += sequence.answer.reasoning_tokens();
  switch (reason) {
    case FinishReason::stop:
      ++counters_.finished_stop;
      break;
    case FinishReason::length:
      ++counters_.finished_length;
      break;
    case FinishReason::abort:
      ++counters_.finished_abort;
      break;
    case FinishReason::error:
      ++counters_.finished_error;
      break;
    case FinishReason::none:
      break;
  }
  {
    const std::lock_guard lock(mailbox_->mutex);
    --mailbox_->unfinished;
    mailbox_->paused = num_paused_;
  }
  publish();
  deliver(sequence);
  if (--live.unfinished > 0) return;
  const int64_t now = clock_.now_ns();
  const int64_t admitted = live.admitted_ns == 0 ? now : live.admitted_ns;
  const int64_t first = live.first_token_ns == 0 ? now : live.first_token_ns;
  live.usage.queue_ns = admitted - live.submitted_ns;
  live.usage.prefill_ns = first - admitted;
  live.usage.decode_ns = now - first;
  live.listener->on_done(live.usage);
}

void StepLoop::publish() {
  const std::lock_guard lock(stats_mutex_);
  const int64_t last_progress_ns = published_.last_progress_ns;
  published_ = counters_;
  published_.running = scheduler_.num_running() + num_paused_;
  published_.waiting = scheduler_.num_waiting();
  published_.cache_blocks_total = cache_.num_blocks();
  published_.cache_blocks_used = cache_.num_used();
  published_.cache_blocks_held = cache_.num_held();
  published_.prefix_queries = scheduler_.prefix_queries();
  published_.prefix_hits = scheduler_.prefix_hits();
  published_.preemptions = scheduler_.num_preemptions();
  published_.evicted_tokens = cache_.num_evicted() * kCacheBlockTokens;
  if (disk_.has_value()) {
    published_.disk_queries = disk_->queries();
    published_.disk_hits = disk_->hits();
  }
  published_.has_work = scheduler_.num_running() + scheduler_.num_waiting() > 0;
  published_.last_progress_ns = last_progress_ns;
}

void StepLoop::note_progress() {
  const std::lock_guard lock(stats_mutex_);
  published_.last_progress_ns = clock_.now_ns();
}

EngineStats StepLoop::stats() {
  bool has_mail = false;
  {
    const std::lock_guard lock(mailbox_->mutex);
    has_mail = !mailbox_->arrived.empty();
  }
  const std::lock_guard lock(stats_mutex_);
  published_.layers_done = model_.layers_done();
  EngineStats stats = published_;
  stats.has_work = stats.has_work || has_mail;
  stats.is_damaged = !model_.damage().has_value();
  // A layer ended since somebody last looked, or there is nothing to do: no reason for worry as of now.
  if (stats.layers_done != seen_layers_ || !stats.has_work) published_.last_progress_ns = clock_.now_ns();
  seen_layers_ = stats.layers_done;
  stats.last_progress_ns = published_.last_progress_ns;
  return stats;
}

}  // namespace redoubt
