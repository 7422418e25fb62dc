// The engine thread: picks up what arrived, plans a step, has the model compute it, draws tokens, tells the listeners.
// A step itself neither allocates nor fails; everything around it is here.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/clock.h"
#include "engine/disk_prefix.h"
#include "engine/engine.h"
#include "engine/mailbox.h"
#include "engine/module_drafter.h"
#include "engine/prefix_cache.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "model/model.h"

namespace redoubt {

class StepLoop {
 public:
  struct Options {
    Scheduler::Options scheduling;
    SpeculationOptions speculation;
    DiskCache* disk_cache = nullptr;  // null: none
  };
  StepLoop(Model& model, const Options& options, const Clock& clock, std::shared_ptr<Mailbox> mailbox);

  void run();  // until mailbox.stopping; then everything unfinished is aborted

  // From any thread.
  EngineStats stats();
  void note_progress();  // work came to an idle engine: its waiting time begins now
  int64_t max_running() const { return scheduler_.max_running(); }
  Status weights() const { return model_.damage(); }

 private:
  void add(Arrival arrival);
  void apply_controls();
  void step();
  bool gives_up(double seconds, double share_done);  // the step under way, that has taken so long so far
  void take_back_drafts();
  bool fail_if_damaged();  // true: the weights cannot be trusted any more, and every sequence was ended
  bool take_rows(const PlannedChunk& chunk, std::span<float> rows);  // false: the sequence is over
  void end_prompt(LiveRequest& live);
  void take_prompt_logprobs(const PlannedChunk& chunk, std::span<const float> rows);
  bool draw_tokens(const PlannedChunk& chunk, std::span<float> rows);
  void settle_draft(Sequence& sequence, const PlannedChunk& chunk, int64_t before);
  void look_up_draft(Sequence& sequence);
  void deliver(Sequence& sequence);
  void finish(Sequence& sequence, FinishReason reason);
  void abort(Sequence& sequence);
  void end_by_allowance(Sequence& sequence);
  void hold_without_grant(Sequence& sequence);
  void publish();

  Model& model_;
  const Clock& clock_;
  const std::shared_ptr<Mailbox> mailbox_;
  const size_t vocab_size_;
  PrefixCache cache_;
  Speculator speculator_;
  Scheduler scheduler_;
  Sampler sampler_;
  std::optional<DiskPrefix> disk_;       // nullopt: none
  std::optional<ModuleDrafter> module_;  // nullopt: the model has none, or it is not wanted
  std::unordered_map<Sequence*, std::unique_ptr<Sequence>> sequences_;
  int64_t num_paused_ = 0;

  std::vector<PlannedChunk> plan_;
  std::vector<SequenceChunk> chunks_;
  std::vector<float> logits_;
  std::vector<TokenEvent> events_;
  std::vector<int32_t> copied_;  // scratch
  EngineStats counters_;         // the engine thread's own

  std::mutex stats_mutex_;
  EngineStats published_;
  uint64_t seen_layers_ = 0;
};

}  // namespace redoubt
