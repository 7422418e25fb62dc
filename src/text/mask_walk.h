// Which tokens survive from a place in a grammar: walks over tries of their texts.
//
// Two kinds of places share the walk: a state of a rule without calls (RulePlaces, by table), and a set of stacks
// (StackPlaces, numbered as they are met). A place is a number; kDead is none.
#pragma once

#include <algorithm>
#include <array>
#include <bitset>
#include <memory>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/grammar_program.h"
#include "text/grammar_stack.h"
#include "text/token_slices.h"
#include "text/token_trie.h"

namespace redoubt::grammar {

constexpr uint32_t kDead = 0xffffffff;
constexpr uint32_t kWholeTrie = 0xffffffff;

class RulePlaces {
 public:
  RulePlaces(const Program& program, const RuleTable& table, uint32_t base)
      : program_(program), table_(table), base_(base) {}
  uint32_t next(uint32_t place, uint8_t byte) { return table_.next(place, byte); }
  int last_alike(int byte) const { return table_.last_alike[static_cast<size_t>(byte)]; }  // all up to it lead alike
  bool ended(uint32_t place) const { return program_.states[base_ + place].accepting; }
  bool reads(uint32_t place) const {
    const Program::State& state = program_.states[base_ + place];
    return state.bytes_begin != state.bytes_end;
  }

 private:
  const Program& program_;
  const RuleTable& table_;
  uint32_t base_;
};

// Sets of stacks become the states of a deterministic automaton built on the way, since a walk meets the same few sets
// again and again.
class StackPlaces {
 public:
  StackPlaces(const Program& program, Frames frames, uint32_t max_depth)
      : program_(program), frames_(std::move(frames)), max_depth_(max_depth) {}
  Frames& frames() { return frames_; }
  uint32_t add(const StackSet& set);
  uint32_t next(uint32_t place, uint8_t byte) {
    const uint32_t known = places_[place]->next[byte];
    return known == kUnknown ? advance(place, byte) : known;
  }
  int last_alike(int byte) const { return byte; }
  bool ended(uint32_t place) const { return places_[place]->set.ended; }
  bool reads(uint32_t place) const { return !places_[place]->set.stacks.empty(); }
  uint32_t peak() const { return peak_; }    // deepest frame needed by any set met
  uint32_t width() const { return width_; }  // widest of them

 private:
  static constexpr uint32_t kUnknown = kDead - 1;
  struct Place {
    StackSet set;
    std::array<uint32_t, 256> next;
  };
  struct KeyHash {
    size_t operator()(const std::vector<uint32_t>& key) const {
      uint64_t h = 0xcbf29ce484222325u;
      for (const uint32_t v : key) h = (h ^ v) * 0x100000001b3u;
      return static_cast<size_t>(h ^ (h >> 29));
    }
  };
  static std::vector<uint32_t> key(const StackSet& set);
  uint32_t advance(uint32_t from, uint8_t byte);

  const Program& program_;
  Frames frames_;
  uint32_t max_depth_, peak_ = 0, width_ = 0;
  size_t work_ = 0;
  std::vector<std::unique_ptr<Place>> places_;
  std::unordered_map<std::vector<uint32_t>, uint32_t, KeyHash> ids_;
};

struct WalkResult {
  std::vector<uint32_t>& mask;     // a bit for each token that survives
  std::vector<uint32_t>& escaped;  // nodes of the whole trie, at which the bottom was reached
};

// The tokens below a node of the trie (kWholeTrie: all) that survive from `start`.
template <typename Places>
void walk_tokens(Places& places, uint32_t start, const TokenTrie& trie, uint32_t point, WalkResult& out) {
  const bool whole = point == kWholeTrie;
  const uint32_t begin = whole ? 0 : point + 1, end = whole ? trie.size() : trie.nodes[point].end;
  const uint32_t base = whole ? 0 : trie.nodes[point].depth;
  std::vector<uint32_t> path{start};
  for (uint32_t i = begin; i < end;) {
    const TokenTrie::Node& node = trie.nodes[i];
    const uint32_t depth = node.depth - base;
    const uint32_t next = places.next(path[depth - 1], node.byte);
    if (next == kDead) {
      i = node.end;
      continue;
    }
    for (uint32_t t = node.tokens; t < trie.nodes[i + 1].tokens; ++t) {
      const auto id = static_cast<uint32_t>(trie.tokens[t]);
      out.mask[id / 32] |= 1u << (id % 32);
    }
    if (node.end > i + 1 && places.ended(next)) out.escaped.push_back(trie.origin.empty() ? i : trie.origin[i]);
    if (path.size() <= depth) path.resize(depth + 1);
    path[depth] = next;
    i = places.reads(next) ? i + 1 : node.end;
  }
}

// How far all strings over a set of characters come alike: those of up to `length` characters survive, longer ones do
// not. Nothing, if it is not that simple (or would take long to find): then tokens are walked.
//
// Characters of `out` (ASCII) must be dead at every place on the way; nothing is then said of strings that end a rule.
template <typename Places>
std::optional<uint32_t> reach(Places& places, uint32_t start, SliceSet set, const std::bitset<128>& out,
                              uint32_t longest) {
  constexpr size_t kMaxPlaces = 64;  // at once
  std::vector<uint32_t> seen{start}, now{start}, next;
  std::vector<std::pair<uint32_t, uint8_t>> open;  // places within a character
  const auto add = [](auto& list, const auto& item) {
    if (list.empty() || (list.back() != item && std::find(list.begin(), list.end(), item) == list.end()))
      list.push_back(item);
  };
  bool ends = false;  // a string has come to the bottom: what goes on from there is not known here
  for (uint32_t length = 1; length <= longest; ++length) {
    bool survived = true;
    open.clear();
    next.clear();
    for (const uint32_t place : now) open.emplace_back(place, 0);
    for (size_t i = 0; i < open.size(); ++i) {
      if (open.size() > kMaxPlaces || next.size() > kMaxPlaces || seen.size() > 4 * kMaxPlaces) return std::nullopt;
      const auto [place, within] = open[i];
      for (const Utf8Step& step : utf8_steps(set, within)) {
        for (int byte = step.first; byte <= step.last; ++byte) {
          const uint32_t to = places.next(place, static_cast<uint8_t>(byte));
          const bool left_out = byte < 128 && out.test(static_cast<size_t>(byte));
          if (left_out && to != kDead) return std::nullopt;
          byte = std::min<int>(places.last_alike(byte), step.last);  // these are left out too, or none is
          if (left_out) continue;
          if (to == kDead) {
            survived = false;
            continue;
          }
          ends = ends || places.ended(to);
          if (step.target == 0)
            add(next, to);
          else
            add(open, std::pair(to, step.target));
        }
      }
    }
    if (out.any() && ends) return std::nullopt;
    if (!survived) {
      if (!next.empty() || ends) return std::nullopt;
      return length - 1;
    }
    const size_t known = seen.size();
    for (const uint32_t place : next) add(seen, place);
    if (seen.size() == known) return longest;  // nothing new: it goes on like this for ever
    now.swap(next);
  }
  return longest;
}

// Characters of the set that cannot come first.
template <typename Places>
std::bitset<128> dead_at(Places& places, uint32_t start, SliceSet set) {
  std::bitset<128> out;
  for (const Utf8Step& step : utf8_steps(set, 0))
    for (int byte = step.first; byte <= std::min<int>(step.last, 127); ++byte)
      if (places.next(start, static_cast<uint8_t>(byte)) == kDead) out.set(static_cast<size_t>(byte));
  return out;
}

// The tokens that survive from `start`, of a whole vocabulary; as walk_tokens over its whole trie, but that a node at
// which the bottom was reached may be left out where all tokens below it survive anyhow.
template <typename Places>
void walk_vocabulary(Places& places, uint32_t start, const TokenTrie& whole, const TokenSlices& slices,
                     WalkResult& out) {
  constexpr int kWide = 20;       // bytes; a state that reads fewer is walked at once
  constexpr size_t kExcept = 16;  // characters; a mask each
  int readable = 0;
  for (int byte = ' '; byte < 0x100; ++byte) readable += places.next(start, static_cast<uint8_t>(byte)) != kDead;
  if (readable < kWide) return walk_tokens(places, start, whole, kWholeTrie, out);

  walk_tokens(places, start, slices.rest(), kWholeTrie, out);
  // All text at once, but for a few characters that the state does not read.
  if (const auto dead = dead_at(places, start, SliceSet::text); dead.count() <= kExcept) {
    if (const auto length = reach(places, start, SliceSet::text, dead, slices.all_text().longest())) {
      slices.add_text(*length, dead, out.mask);
      return;
    }
  }
  for (size_t i = 0; i < kSlices; ++i) {
    const auto set = static_cast<SliceSet>(i);
    const TokenSlices::Slice& slice = slices[set];
    if (const auto length = reach(places, start, set, {}, slice.tokens.longest()))
      slice.tokens.add_up_to(*length, out.mask);
    else
      walk_tokens(places, start, slice.trie, kWholeTrie, out);
  }
}

}  // namespace redoubt::grammar
