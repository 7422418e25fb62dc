#include "engine/module_drafter.h"

#include <algorithm>

namespace redoubt {

namespace {

// A sequence whose drafts did not pay is tried again after so many tokens.
constexpr int64_t kTokensBetweenTrials = 64;

}  // namespace

// The positions of a chunk whose tokens the text kept. The last may stand before a token that was never drawn (-1).
DraftChunk ModuleDrafter::rows_of(const PlannedChunk& chunk) const {
  const Sequence& sequence = *chunk.sequence;
  return {.next_tokens =
              std::span<const int32_t>(sequence.tokens)
                  .subspan(static_cast<size_t>(chunk.begin + 1), static_cast<size_t>(sequence.computed - chunk.begin)),
          .position = chunk.begin,
          .hidden_row = chunk.first_row,
          .form = chunk.form,
          .blocks = sequence.blocks};
}

void ModuleDrafter::end(const PlannedChunk& chunk) {
  if (chunk.form != AttentionForm::prefill) return;
  if (int32_t& last = chunk.sequence->tokens.back(); last < 0) last = 0;
  const DraftChunk rows = rows_of(chunk);
  model_.draft({&rows, 1}, HiddenStates::of_step, {});
}

void ModuleDrafter::draft(std::span<const PlannedChunk> plan) {
  chunks_.clear();
  drafting_.clear();
  bool decodes_only = true;
  for (const PlannedChunk& planned : plan) {
    decodes_only = decodes_only && planned.form == AttentionForm::decode;
    if (planned.sequence == nullptr) continue;
    Sequence& sequence = *planned.sequence;
    chunks_.push_back(rows_of(planned));
    if (!sequence.is_decoding() || !wants_draft(sequence)) continue;
    chunks_.back().num_logits = 1;
    sequence.draft.clear();
    drafting_.push_back(&sequence);
  }
  if (chunks_.empty()) return;
  pass(HiddenStates::of_step, decodes_only && !drafting_.empty());
  num_drafting_ = std::max<int64_t>(1, static_cast<int64_t>(drafting_.size()));
  for (int64_t depth = 1; !drafting_.empty(); ++depth) {
    extend(depth);
    if (!drafting_.empty()) pass(HiddenStates::of_draft, true);
  }
}

bool ModuleDrafter::wants_draft(const Sequence& sequence) const {
  if (sequence.answer.left() <= 1) return false;
  const Acceptance& acceptance = sequence.acceptance;
  const double chance = acceptance.chance(DraftKind::mtp_1);
  if (!sequence.draft.empty() && acceptance.chance(sequence.draft.front().kind) >= chance) return false;
  return speculator_.module_pays(chance, num_drafting_) || sequence.answer.generated() % kTokensBetweenTrials == 0;
}

bool ModuleDrafter::wants_more(const Sequence& sequence, int64_t depth) const {
  const bool has_room = sequence.computed + depth <= static_cast<int64_t>(sequence.blocks.size()) * kCacheBlockTokens;
  if (!has_room || depth >= std::min(speculator_.options().max_depth, sequence.answer.left() - 1)) return false;
  double chance = sequence.acceptance.chance(kind_of_mtp(depth + 1));
  for (const DraftedToken& drafted : sequence.draft) chance *= sequence.acceptance.chance(drafted.kind);
  return speculator_.module_pays(chance, static_cast<int64_t>(drafting_.size()));
}

void ModuleDrafter::pass(HiddenStates from, bool is_timed) {
  const size_t size = drafting_.size() * static_cast<size_t>(model_.config().vocab_size);
  logits_.resize(std::max(logits_.size(), size));
  const int64_t begin_ns = clock_.now_ns();
  model_.draft(chunks_, from, std::span(logits_).first(size));
  const auto seconds = static_cast<double>(clock_.now_ns() - begin_ns) * 1e-9;
  if (is_timed) speculator_.observe_module(static_cast<int64_t>(drafting_.size()), seconds);
}

// Takes the token that each row of the last pass drafts, the depth-th, and sets up a pass over those that go on.
void ModuleDrafter::extend(int64_t depth) {
  const auto vocab = static_cast<size_t>(model_.config().vocab_size);
  chunks_.clear();
  going_on_.clear();
  for (size_t i = 0; i < drafting_.size(); ++i) {
    Sequence& sequence = *drafting_[i];
    const std::optional<int32_t> token =
        sequence.answer.guess(std::span(logits_).subspan(i * vocab, vocab), depth - 1, sampler_);
    if (!token.has_value()) continue;
    sequence.draft.push_back({*token, kind_of_mtp(depth)});
    if (!wants_more(sequence, depth)) continue;
    chunks_.push_back({.next_tokens = {&sequence.draft.back().token, 1},
                       .position = sequence.computed + depth - 1,
                       .hidden_row = static_cast<int64_t>(i),
                       .form = AttentionForm::decode,
                       .blocks = sequence.blocks,
                       .num_logits = 1});
    going_on_.push_back(&sequence);
  }
  std::swap(drafting_, going_on_);
}

}  // namespace redoubt
