#include "text/grammar_stack.h"

#include <algorithm>

namespace redoubt::grammar {
namespace {

size_t slot_of(uint32_t state, uint32_t below, size_t mask) {
  const uint64_t h = (uint64_t{state} << 32 | below) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(h >> 40) & mask;
}

}  // namespace

Frames::Frames() : frames_{{0, 0, 0}}, table_(64, 0) {}

uint32_t Frames::push(uint32_t state, uint32_t below) {
  const size_t mask = table_.size() - 1;
  size_t slot = slot_of(state, below, mask);
  while (table_[slot] != 0) {
    const Frame& frame = frames_[table_[slot]];
    if (frame.state == state && frame.below == below) return table_[slot];
    slot = (slot + 1) & mask;
  }
  const auto made = static_cast<uint32_t>(frames_.size());
  table_[slot] = made;
  frames_.push_back({state, below, frames_[below].depth + 1});
  if (frames_.size() * 2 > table_.size()) rehash(table_.size() * 2);
  return made;
}

void Frames::rehash(size_t slots) {
  table_.assign(slots, 0);
  for (uint32_t i = 1; i < frames_.size(); ++i) {
    size_t slot = slot_of(frames_[i].state, frames_[i].below, slots - 1);
    while (table_[slot] != 0) slot = (slot + 1) & (slots - 1);
    table_[slot] = i;
  }
}

// Few stacks are the rule; a set of many is hostile, and bounded.
bool Arrival::seen(Stack stack) {
  if (std::find(seen_.begin(), seen_.end(), stack) != seen_.end()) return true;
  if (seen_.size() >= 8 * kMaxStacks) return true;
  seen_.push_back(stack);
  return false;
}

void Arrival::arrive(Stack stack, StackSet& set) {
  work_.push_back(stack);
  while (!work_.empty()) {
    const Stack top = work_.back();
    work_.pop_back();
    const Program::State& state = program_.states[top.state];
    const uint32_t need = frames_[top.frame].depth + state.height;
    if (need > max_depth_ || seen(top)) continue;
    set.peak = std::max(set.peak, need);
    if (state.bytes_begin != state.bytes_end) set.stacks.push_back(top);
    if (state.accepting) {
      if (top.frame == 0)
        set.ended = true;
      else
        work_.push_back({frames_[top.frame].state, frames_[top.frame].below});
    }
    for (uint32_t e = state.calls_begin; e < state.calls_end; ++e) {
      const CallEdge& call = program_.calls[e];
      const uint32_t callee = program_.rule_start[call.rule];
      const bool tail = program_.states[call.target].final;
      // Asked here and not only on arrival, so that no frame is made in vain.
      if (frames_[top.frame].depth + (tail ? 0 : 1) + program_.states[callee].height > max_depth_) continue;
      work_.push_back({callee, tail ? top.frame : frames_.push(call.target, top.frame)});
    }
  }
}

void Arrival::finish(StackSet& set) {
  std::sort(set.stacks.begin(), set.stacks.end());
  if (set.stacks.size() > kMaxStacks) set.stacks.resize(kMaxStacks);
}

void step(const Program& program, Frames& frames, uint32_t max_depth, const StackSet& from, uint8_t byte,
          StackSet& to) {
  to.stacks.clear();
  to.ended = false;
  to.peak = 0;
  Arrival arrival(program, frames, max_depth);
  for (const Stack& stack : from.stacks) {
    const Program::State& state = program.states[stack.state];
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e) {
      const ByteEdge& edge = program.bytes[e];
      if (edge.first <= byte && byte <= edge.last) arrival.arrive({edge.target, stack.frame}, to);
    }
  }
  arrival.finish(to);
}

}  // namespace redoubt::grammar
