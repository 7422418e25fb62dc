// Drafts from the model's module for multi-token prediction (DeepSeek-V3 report §2.2), after each step.
//
// The module has rows of its own in the cache blocks, so it computes every position that the step computed and the text
// kept; its last position's logits draft the token after the next. Each further pass goes on from the module's own
// hidden state and drafts one token more, for the sequences where that still pays. A block shared by equal prompts
// holds a last row that belongs to one of their continuations: a draft may be worse for it, an answer never. Bound: one
// layer more for every step, and the head for every pass that drafts. Thread safety: the engine thread's.
#pragma once

#include <span>
#include <vector>

#include "core/clock.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/speculation.h"
#include "model/model.h"

namespace redoubt {

class ModuleDrafter {
 public:
  // All outlive the drafter.
  ModuleDrafter(Model& model, const Clock& clock, Speculator& speculator, Sampler& sampler)
      : model_(model), clock_(clock), speculator_(speculator), sampler_(sampler) {}

  // After Model::step of `plan` and the drawing of its tokens; a null sequence is over. Sequences that decode get a new
  // Sequence::draft where the module's is worth more than what was looked up.
  void draft(std::span<const PlannedChunk> plan);

  // Before a sequence ends with this chunk: the prefix cache may hold its prompt, whose rows others will build upon.
  void end(const PlannedChunk& chunk);

 private:
  DraftChunk rows_of(const PlannedChunk& chunk) const;
  bool wants_draft(const Sequence& sequence) const;
  bool wants_more(const Sequence& sequence, int64_t depth) const;
  void pass(HiddenStates from, bool is_timed);
  void extend(int64_t depth);

  Model& model_;
  const Clock& clock_;
  Speculator& speculator_;
  Sampler& sampler_;
  std::vector<DraftChunk> chunks_;
  std::vector<Sequence*> drafting_, going_on_;  // whose rows the logits are, in order
  int64_t num_drafting_ = 1;                    // in the last first pass
  std::vector<float> logits_;
};

}  // namespace redoubt
