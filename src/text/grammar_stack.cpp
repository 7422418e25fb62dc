#include "text/grammar_stack.h"

#include <algorithm>

namespace redoubt::grammar {
namespace {

size_t slot_of(uint32_t state, uint32_t below, size_t mask) {
  const uint64_t h = (uint64_t{state} << 32 | below) * 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(h >> 40) & mask;
}

}  // namespace

void put_in_order(std::vector<Stack>& stacks, const Frames& frames) {
  if (stacks.size() < 2) return;
  std::sort(stacks.begin(), stacks.end(), [&](const Stack& a, const Stack& b) {
    return a.state != b.state ? a.state < b.state : frames[a.frame].order < frames[b.frame].order;
  });
}

Frames::Frames() : frames_{{0, 0, 0, 0}}, table_(64, 0) {}

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
  const uint64_t order = (frames_[below].order ^ state) * 0x9e3779b97f4a7c15u;
  frames_.push_back({state, below, frames_[below].depth + 1, order ^ order >> 29});
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

// Few stacks are the rule; a set of many is hostile, and not looked at further.
bool Arrival::seen(Stack stack) {
  constexpr size_t kFew = 24, kSlots = 4096;  // over kMaxSeen, a power of two
  static_assert(kSlots > kMaxSeen + 1);
  const auto slot_for = [&](const Stack& wanted) {
    size_t slot = slot_of(wanted.state, wanted.frame, kSlots - 1);
    while (places_[slot] != 0 && seen_[places_[slot] - 1u] != wanted) slot = (slot + 1) & (kSlots - 1);
    return slot;
  };
  if (seen_.size() < kFew) {
    if (std::find(seen_.begin(), seen_.end(), stack) != seen_.end()) return true;
    seen_.push_back(stack);
    return false;
  }
  if (places_.empty()) {
    places_.assign(kSlots, 0);
    for (size_t i = 0; i < seen_.size(); ++i) places_[slot_for(seen_[i])] = static_cast<uint16_t>(i + 1);
  }
  const size_t slot = slot_for(stack);
  if (places_[slot] != 0) return true;
  seen_.push_back(stack);
  places_[slot] = static_cast<uint16_t>(seen_.size());
  return false;
}

void Arrival::arrive(Stack stack, StackSet& set) {
  work_.push_back(stack);
  while (!work_.empty() && seen_.size() <= kMaxSeen && looks_ <= kMaxLooks) {
    ++looks_;
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
    looks_ += state.calls_end - state.calls_begin;
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
  put_in_order(set.stacks, frames_);
  set.width = static_cast<uint32_t>(std::max(set.stacks.size(), (seen_.size() + 7) / 8));
  set.looks = static_cast<uint32_t>(looks_);
  if (set.stacks.size() > kMaxStacks) set.stacks.resize(kMaxStacks);
}

void step(const Program& program, Frames& frames, uint32_t max_depth, const StackSet& from, uint8_t byte,
          StackSet& to) {
  to.stacks.clear();
  to.ended = false;
  to.peak = to.width = to.looks = 0;
  Arrival arrival(program, frames, max_depth);
  size_t edges = 0;
  for (const Stack& stack : from.stacks) {
    const Program::State& state = program.states[stack.state];
    edges += state.bytes_end - state.bytes_begin;
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e) {
      const ByteEdge& edge = program.bytes[e];
      if (edge.first <= byte && byte <= edge.last) arrival.arrive({edge.target, stack.frame}, to);
    }
  }
  arrival.finish(to);
  constexpr size_t kEdgesOfALook = 8;
  to.looks += static_cast<uint32_t>(edges / kEdgesOfALook);
}

}  // namespace redoubt::grammar
