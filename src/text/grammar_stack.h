// Where a text stands in a grammar: a set of stacks that share their lower parts.
//
// A stack is a state (its top, which reads the next byte) and a frame, which names the state to go on with when the
// top's rule ends, and the frame below. Equal frames are one frame, so equal stacks are equal pairs, and the set merges
// them.
#pragma once

#include <cstdint>
#include <vector>

#include "text/grammar_program.h"

namespace redoubt::grammar {

struct Stack {
  uint32_t state = 0;
  uint32_t frame = 0;
  bool operator==(const Stack&) const = default;
};

// Frame 0 is the bottom: the end of the text, or (in masks shared by many stacks) whatever lies below.
class Frames {
 public:
  struct Frame {
    uint32_t state, below, depth;
    uint64_t order;  // of the states from here down: frames order alike however they are numbered
  };
  Frames();
  uint32_t push(uint32_t state, uint32_t below);
  const Frame& operator[](uint32_t frame) const { return frames_[frame]; }
  size_t size() const { return frames_.size(); }

 private:
  void rehash(size_t slots);
  std::vector<Frame> frames_;
  std::vector<uint32_t> table_;  // open addressing: frame numbers, 0 is free
};

// By state, then by what lies below.
void put_in_order(std::vector<Stack>& stacks, const Frames& frames);

struct StackSet {
  std::vector<Stack> stacks;  // in order, unique; tops that can read a byte
  bool ended = false;         // the bottom was reached: the text is whole
  uint32_t peak = 0;          // deepest frame that any of them needs to come to its end
  uint32_t width = 0;         // how near it came to kMaxStacks, so that too wide a set can be foreseen
  uint32_t looks = 0;         // what finding it took: stacks, calls and bytes looked at
};

// Follows what reads no byte: calls, and ends of rules. One Arrival fills one StackSet.
class Arrival {
 public:
  // Stacks that could not come to their end within max_depth are left out, so that nobody runs into a dead end.
  Arrival(const Program& program, Frames& frames, uint32_t max_depth)
      : program_(program), frames_(frames), max_depth_(max_depth) {}
  void arrive(Stack stack, StackSet& set);
  void finish(StackSet& set);  // sorts; must be called once after the last arrive

  // Of more the first are kept: fewer texts then, but each still a valid one, and none leads to a dead end. Which are
  // the first depends on the stacks alone, so that a mask and a token that come to the same set keep the same.
  static constexpr size_t kMaxStacks = 256;
  static constexpr size_t kMaxSeen = 8 * kMaxStacks;  // passed on the way to a set, those that read no byte too
  // Of one state: a program has none with more (grammar_program.cpp), since only the first kMaxStacks are followed.
  static constexpr size_t kMaxCalls = 4 * kMaxStacks;
  // Calls looked at on the way to a set: as many as all states on the deepest way may have, and more.
  static constexpr size_t kMaxLooks = 128 * kMaxCalls;

 private:
  bool seen(Stack stack);
  const Program& program_;
  Frames& frames_;
  uint32_t max_depth_;
  std::vector<Stack> seen_, work_;
  size_t looks_ = 0;
  std::vector<uint16_t> places_;  // of seen_, by hash, once there are many; 0 is free
};

// The set after one more byte.
void step(const Program& program, Frames& frames, uint32_t max_depth, const StackSet& from, uint8_t byte, StackSet& to);

}  // namespace redoubt::grammar
