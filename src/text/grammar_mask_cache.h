// Which tokens may follow at a stack, found once for each top state and remembered.
//
// The entry of a top state holds the tokens that the rules above the frame below accept whole, whatever lies below, and
// the residue: tokens whose beginning ends the rule, with what is left of them. The residue is asked of the state below
// in an entry of its own (keyed by the entry above and that state), and so on until nothing is left. A mask is then the
// union of a few entries. Entries hold only what the state itself decides, so they are shared by all sequences.
// prepare_masks (grammar.h) finds them before the first sequence comes.
// Thread safety: all of it; two threads may compute the same entry, and one wins.
// Bound: memory bandwidth (16 KiB a dense entry at 129,280 tokens); a first visit costs a walk over the tokens of no
// slice (token_slices.h), some thousands.
#pragma once

#include <atomic>
#include <memory>
#include <shared_mutex>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/grammar_stack.h"
#include "text/grammar_vocabulary.h"

namespace redoubt::grammar {

struct MaskEntry {
  std::vector<uint32_t> ids;      // accepted tokens, where they are few
  std::vector<uint32_t> words;    // else a bit each
  uint32_t peak = 0;              // deepest frame met, from the frame below the top
  uint32_t width = 0;             // most stacks at once, and never fewer than a byte's arrival had to look at, by 8
  std::vector<uint32_t> residue;  // nodes of the whole trie: what follows them is left to the state below

  void add_to(std::span<uint32_t> mask) const;
  size_t size_bytes() const;
  bool operator==(const MaskEntry&) const = default;
};

class MaskCache {
 public:
  // The entry of a state at the top (above null), or below the stack that led to `above`.
  std::shared_ptr<const MaskEntry> find(const Program& program, const Vocabulary& vocabulary,
                                        const std::shared_ptr<const MaskEntry>& above, uint32_t state);
  size_t size_bytes() const { return bytes_; }

 private:
  std::shared_ptr<RuleMasks> shared_rule(const Program& program, const Vocabulary& vocabulary, uint32_t rule);
  struct Key {
    const void* owner;  // the entry above, or the vocabulary's trie
    uint32_t state;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return (reinterpret_cast<size_t>(key.owner) >> 4) * 0x9e3779b97f4a7c15u ^ key.state * 0x85ebca6bu;
    }
  };
  struct Kept {
    std::shared_ptr<const MaskEntry> entry;
    std::shared_ptr<const void> owner;  // keeps the key's address from being used again
  };
  struct EntryHash {
    size_t operator()(const std::shared_ptr<const MaskEntry>& entry) const;
  };
  struct EntryEqual {
    bool operator()(const auto& a, const auto& b) const { return *a == *b; }
  };
  std::shared_mutex mutex_;
  std::unordered_map<Key, Kept, KeyHash> entries_;
  // Each but once: the states within a counted text mostly allow the same, and leave the same to the state below.
  std::unordered_set<std::shared_ptr<const MaskEntry>, EntryHash, EntryEqual> distinct_;
  std::unordered_map<uint32_t, std::shared_ptr<RuleMasks>>
      rules_;  // by rule, of the vocabulary below; null: not shared
  std::shared_ptr<const void> rules_of_;
  std::atomic<size_t> bytes_ = 0;  // written under the mutex
};

// The tokens of the whole trie that may follow `start`, with its real stacks and the depth limit: exact, and slow.
void fill_exactly(const Program& program, const Vocabulary& vocabulary, Frames frames, const StackSet& start,
                  std::span<uint32_t> mask);

}  // namespace redoubt::grammar
