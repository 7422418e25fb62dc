#include "text/mask_walk.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxPlaces = 16'384;  // sets of stacks within one walk
constexpr size_t kMaxWork = 500'000;   // stacks looked at within one walk; beyond, tokens are left out

}  // namespace

std::vector<uint32_t> StackPlaces::key(const StackSet& set) {
  std::vector<uint32_t> key{set.ended};
  for (const Stack& stack : set.stacks) {
    key.push_back(stack.state);
    key.push_back(stack.frame);
  }
  return key;
}

uint32_t StackPlaces::add(const StackSet& set) {
  peak_ = std::max(peak_, set.peak);
  width_ = std::max(width_, set.width);
  const auto [it, inserted] = ids_.try_emplace(key(set), static_cast<uint32_t>(places_.size()));
  if (!inserted) return it->second;
  auto made = std::make_unique<Place>();
  made->set = set;
  made->next.fill(kDead);
  for (const Stack& stack : set.stacks) {
    const Program::State& state = program_.states[stack.state];
    for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e)
      std::fill(made->next.begin() + program_.bytes[e].first, made->next.begin() + program_.bytes[e].last + 1,
                kUnknown);
  }
  places_.push_back(std::move(made));
  return it->second;
}

uint32_t StackPlaces::advance(uint32_t from, uint8_t byte) {
  StackSet to;
  uint32_t& slot = places_[from]->next[byte];  // a Place stays where it is
  work_ += places_[from]->set.stacks.size() + 1;
  if (work_ > kMaxWork) return kDead;
  step(program_, frames_, max_depth_, places_[from]->set, byte, to);
  work_ += std::max(8 * to.width, to.looks);
  if (to.stacks.empty() && !to.ended) return slot = kDead;
  if (places_.size() >= kMaxPlaces && !ids_.contains(key(to))) return kDead;
  return slot = add(to);
}

}  // namespace redoubt::grammar
