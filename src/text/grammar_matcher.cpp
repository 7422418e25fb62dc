// GrammarMatcher: the stacks of one sequence, moved by tokens.

#include <algorithm>

#include "text/grammar.h"
#include "text/grammar_mask_cache.h"
#include "text/grammar_stack.h"
#include "text/grammar_vocabulary.h"

namespace redoubt {

using grammar::Frames;
using grammar::MaskEntry;
using grammar::Program;
using grammar::Stack;
using grammar::StackSet;
using grammar::Vocabulary;

namespace {

constexpr size_t kFramesBeforeCleaning = 256;
// Of the cache for one mask: each may have to be made, and nobody gets a token meanwhile.
constexpr size_t kMaxEntries = 64;

}  // namespace

struct GrammarMatcher::State {
  std::shared_ptr<const Program> program;
  std::shared_ptr<const Vocabulary> vocabulary;
  Frames frames;
  StackSet now;

  // Keeps only the frames that a stack stands on: ended rules leave theirs behind.
  void clean() {
    Frames kept;
    std::vector<uint32_t> place(frames.size(), 0);
    for (Stack& stack : now.stacks) stack.frame = keep(stack.frame, kept, place);
    frames = std::move(kept);
    put_in_order(now.stacks, frames);
  }

  uint32_t keep(uint32_t frame, Frames& kept, std::vector<uint32_t>& place) const {
    if (frame == 0 || place[frame] != 0) return place[frame];
    const uint32_t below = keep(frames[frame].below, kept, place);  // at most max_depth deep
    return place[frame] = kept.push(frames[frame].state, below);
  }

  // False if a limit on depth or width could matter within the next token: then the cached entries do not apply.
  bool fill_from_cache(std::span<uint32_t> mask) const {
    size_t entries = now.stacks.size();
    if (entries > kMaxEntries) return false;
    std::shared_ptr<const MaskEntry> entry;
    size_t width = 0;  // of all that is looked at: no set within the next token is wider
    for (const Stack& stack : now.stacks) {
      uint32_t frame = stack.frame;
      entry = program->masks->find(*program, *vocabulary, nullptr, stack.state);
      if (frames[frame].depth + entry->peak > program->max_depth) return false;
      width += entry->width;
      entry->add_to(mask);
      while (!entry->residue.empty() && frame != 0) {
        if (++entries > kMaxEntries) return false;
        const uint32_t state = frames[frame].state;
        frame = frames[frame].below;
        entry = program->masks->find(*program, *vocabulary, entry, state);
        if (frames[frame].depth + entry->peak > program->max_depth) return false;
        width += entry->width;
        entry->add_to(mask);
      }
    }
    return width <= grammar::Arrival::kMaxStacks;
  }
};

GrammarMatcher::GrammarMatcher(GrammarPtr grammar, std::shared_ptr<const GrammarVocabulary> vocabulary)
    : state_(std::make_unique<State>()) {
  state_->program = std::static_pointer_cast<const Program>(grammar);
  state_->vocabulary = std::static_pointer_cast<const Vocabulary>(vocabulary);
  const Program& program = *state_->program;
  grammar::Arrival arrival(program, state_->frames, program.max_depth);
  arrival.arrive({program.rule_start[program.root], 0}, state_->now);
  arrival.finish(state_->now);
}

GrammarMatcher::GrammarMatcher(const GrammarMatcher& other) : state_(std::make_unique<State>(*other.state_)) {}
GrammarMatcher::GrammarMatcher(GrammarMatcher&&) noexcept = default;
GrammarMatcher& GrammarMatcher::operator=(GrammarMatcher&&) noexcept = default;
GrammarMatcher::~GrammarMatcher() = default;

void GrammarMatcher::fill_mask(std::span<uint32_t> mask) {
  std::fill(mask.begin(), mask.end(), 0);
  if (state_->fill_from_cache(mask)) return;
  std::fill(mask.begin(), mask.end(), 0);
  grammar::fill_exactly(*state_->program, *state_->vocabulary, state_->frames, state_->now, mask);
}

bool GrammarMatcher::accept(int32_t token) {
  const std::string_view text = state_->vocabulary->text(token);
  if (text.empty()) return false;
  const Program& program = *state_->program;
  StackSet from = state_->now, to;
  for (const char byte : text) {
    step(program, state_->frames, program.max_depth, from, static_cast<uint8_t>(byte), to);
    if (to.stacks.empty() && !to.ended) return false;
    std::swap(from, to);
  }
  state_->now = std::move(from);
  if (state_->frames.size() > kFramesBeforeCleaning) state_->clean();
  return true;
}

bool GrammarMatcher::can_end() const { return state_->now.ended; }
bool GrammarMatcher::must_end() const { return state_->now.ended && state_->now.stacks.empty(); }

}  // namespace redoubt
