#include "text/grammar_mask_cache.h"

#include <algorithm>
#include <array>
#include <limits>

namespace redoubt::grammar {
namespace {

constexpr uint32_t kWholeTrie = 0xffffffff;
constexpr size_t kMaxCacheBytes = size_t{64} << 20;  // of one grammar; then all are dropped
constexpr size_t kMaxConfigurations = 16'384;        // sets of stacks within one walk
constexpr size_t kMaxWork = 4'000'000;               // stacks stepped within one walk; beyond, tokens are left out
constexpr size_t kMergeResidue = 24;                 // more residual nodes than this become a trie of their own

// Walks a trie along a grammar; sets of stacks become the states of a deterministic automaton built on the way, since
// a walk meets the same few sets again and again.
class Walk {
 public:
  Walk(const Program& program, const TokenTrie& trie, Frames frames, uint32_t max_depth)
      : program_(program), trie_(trie), frames_(std::move(frames)), max_depth_(max_depth) {}

  std::vector<uint32_t> accepted;
  std::vector<uint32_t> escaped;  // nodes at which the bottom was reached
  uint32_t peak = 0;
  Frames& frames() { return frames_; }

  void run(const StackSet& start, const std::vector<uint32_t>& points) {
    peak = std::max(peak, start.peak);
    const uint32_t first = intern(start);
    for (const uint32_t point : points) {
      if (start.ended && point != kWholeTrie) escaped.push_back(point);
      below(point, first);
    }
  }

 private:
  static constexpr uint32_t kDead = 0, kUnknown = 1, kBase = 2;

  struct Configuration {
    StackSet set;
    std::array<uint32_t, 256> next;
  };

  void below(uint32_t point, uint32_t first) {
    const bool whole = point == kWholeTrie;
    const uint32_t begin = whole ? 0 : point + 1, end = whole ? trie_.size() : trie_.nodes[point].end;
    const uint32_t base = whole ? 0 : trie_.nodes[point].depth;
    path_.assign(1, first);
    for (uint32_t i = begin; i < end;) {
      const TokenTrie::Node& node = trie_.nodes[i];
      const uint32_t depth = node.depth - base;
      uint32_t next = configurations_[path_[depth - 1]]->next[node.byte];
      if (next == kUnknown) next = advance(path_[depth - 1], node.byte);
      if (next == kDead) {
        i = node.end;
        continue;
      }
      const uint32_t id = next - kBase;
      for (uint32_t t = node.tokens; t < trie_.nodes[i + 1].tokens; ++t)
        accepted.push_back(static_cast<uint32_t>(trie_.tokens[t]));
      if (configurations_[id]->set.ended && node.end > i + 1) escaped.push_back(i);
      path_.resize(depth);
      path_.push_back(id);
      i = configurations_[id]->set.stacks.empty() ? node.end : i + 1;
    }
  }

  uint32_t advance(uint32_t from, uint8_t byte) {
    StackSet to;
    uint32_t& slot = configurations_[from]->next[byte];
    work_ += configurations_[from]->set.stacks.size() + 1;
    if (work_ > kMaxWork) return kDead;
    step(program_, frames_, max_depth_, configurations_[from]->set, byte, to);
    work_ += to.stacks.size();
    if (to.stacks.empty() && !to.ended) return slot = kDead;
    peak = std::max(peak, to.peak);
    if (configurations_.size() >= kMaxConfigurations && !ids_.contains(key(to))) return kDead;
    return slot = intern(to) + kBase;
  }

  static std::vector<uint32_t> key(const StackSet& set) {
    std::vector<uint32_t> key{set.ended};
    for (const Stack& stack : set.stacks) {
      key.push_back(stack.state);
      key.push_back(stack.frame);
    }
    return key;
  }

  uint32_t intern(const StackSet& set) {
    const auto [it, inserted] = ids_.try_emplace(key(set), static_cast<uint32_t>(configurations_.size()));
    if (!inserted) return it->second;
    auto made = std::make_unique<Configuration>();
    made->set = set;
    made->next.fill(kDead);
    for (const Stack& stack : set.stacks) {
      const Program::State& state = program_.states[stack.state];
      for (uint32_t e = state.bytes_begin; e < state.bytes_end; ++e)
        std::fill(made->next.begin() + program_.bytes[e].first, made->next.begin() + program_.bytes[e].last + 1,
                  kUnknown);
    }
    configurations_.push_back(std::move(made));
    return it->second;
  }

  struct KeyHash {
    size_t operator()(const std::vector<uint32_t>& key) const {
      uint64_t h = 0xcbf29ce484222325u;
      for (const uint32_t v : key) h = (h ^ v) * 0x100000001b3u;
      return static_cast<size_t>(h ^ (h >> 29));
    }
  };

  const Program& program_;
  const TokenTrie& trie_;
  Frames frames_;
  uint32_t max_depth_;
  size_t work_ = 0;
  std::vector<uint32_t> path_;
  std::vector<std::unique_ptr<Configuration>> configurations_;
  std::unordered_map<std::vector<uint32_t>, uint32_t, KeyHash> ids_;
};

// The residue as one trie of what is left of each token: thousands of tokens end a string, in a few dozen ways.
std::shared_ptr<const TokenTrie> merge_residue(const TokenTrie& trie, const std::vector<uint32_t>& residue,
                                               const Vocabulary& vocabulary) {
  std::vector<TokenTrie::Entry> entries;
  for (const uint32_t point : residue) {
    for (uint32_t i = point + 1; i < trie.nodes[point].end; ++i) {
      const size_t left = trie.nodes[i].depth - trie.nodes[point].depth;
      for (uint32_t t = trie.nodes[i].tokens; t < trie.nodes[i + 1].tokens; ++t) {
        const std::string_view text = vocabulary.text(trie.tokens[t]);
        entries.emplace_back(text.substr(text.size() - left), trie.tokens[t]);
      }
    }
  }
  return std::make_shared<const TokenTrie>(TokenTrie::build(std::move(entries)));
}

std::shared_ptr<const MaskEntry> compute(const Program& program, const Vocabulary& vocabulary, const MaskEntry* above,
                                         uint32_t state) {
  auto entry = std::make_shared<MaskEntry>();
  entry->trie = above == nullptr ? vocabulary.trie() : above->trie;
  // The base is unknown here, and with it the depth: no limit; `peak` tells whoever uses the entry if it applies.
  Walk walk(program, *entry->trie, Frames(), std::numeric_limits<uint32_t>::max());
  StackSet start;
  if (above == nullptr) {
    start.stacks = {{state, 0}};
    start.peak = program.states[state].height;
    walk.run(start, {kWholeTrie});
  } else {
    Arrival arrival(program, walk.frames(), std::numeric_limits<uint32_t>::max());
    arrival.arrive({state, 0}, start);
    arrival.finish(start);
    walk.run(start, above->residue);
  }
  entry->peak = walk.peak;
  // A walk may meet a token more than once (it can follow several residues), in no order of ids: bits settle both.
  std::vector<uint32_t> words((static_cast<size_t>(vocabulary.vocab_size()) + 31) / 32, 0);
  for (const uint32_t id : walk.accepted) words[id / 32] |= 1u << (id % 32);
  if (walk.accepted.size() > words.size() / 4) {
    entry->words = std::move(words);
  } else {
    for (const uint32_t id : walk.accepted) {
      if ((words[id / 32] >> (id % 32) & 1) != 0) entry->ids.push_back(id);
      words[id / 32] &= ~(1u << (id % 32));
    }
  }
  entry->residue = std::move(walk.escaped);
  const bool whole = std::find(entry->residue.begin(), entry->residue.end(), kWholeTrie) != entry->residue.end();
  if (entry->residue.size() > kMergeResidue && !whole) {
    entry->trie = merge_residue(*entry->trie, entry->residue, vocabulary);
    entry->residue = {kWholeTrie};
  }
  return entry;
}

}  // namespace

void MaskEntry::add_to(std::span<uint32_t> mask) const {
  const size_t n = std::min(words.size(), mask.size());
  for (size_t i = 0; i < n; ++i) mask[i] |= words[i];
  for (const uint32_t id : ids)
    if (id / 32 < mask.size()) mask[id / 32] |= 1u << (id % 32);
}

size_t MaskEntry::size_bytes() const {
  const bool own_trie = residue.size() == 1 && residue[0] == kWholeTrie;
  return sizeof *this + 4 * (ids.size() + words.size() + residue.size()) +
         (own_trie ? trie->nodes.size() * sizeof(TokenTrie::Node) + 4 * trie->tokens.size() : 0);
}

std::shared_ptr<const MaskEntry> MaskCache::find(const Program& program, const Vocabulary& vocabulary,
                                                 const std::shared_ptr<const MaskEntry>& above, uint32_t state) {
  const Key key{above ? static_cast<const void*>(above.get()) : static_cast<const void*>(&vocabulary), state};
  {
    const std::shared_lock lock(mutex_);
    const auto it = entries_.find(key);
    if (it != entries_.end()) return it->second.entry;
  }
  const uint32_t rule = program.states[state].rule;
  const uint32_t local = state - program.rule_start[rule];
  const auto shared = above ? nullptr : shared_rule(program, vocabulary, rule);
  std::shared_ptr<const MaskEntry> entry = shared ? shared->find(local) : nullptr;
  if (!entry) {
    entry = compute(program, vocabulary, above.get(), state);
    if (shared) shared->keep(local, entry);
  }
  const std::unique_lock lock(mutex_);
  bytes_ += entry->size_bytes() + sizeof(Kept) + 64;
  if (bytes_ > kMaxCacheBytes) {
    entries_.clear();
    bytes_ = entry->size_bytes();
  }
  return entries_.try_emplace(key, Kept{entry, above}).first->second.entry;
}

std::shared_ptr<Vocabulary::RuleMasks> MaskCache::shared_rule(const Program& program, const Vocabulary& vocabulary,
                                                              uint32_t rule) {
  if (program.rule_text[rule] == nullptr) return nullptr;
  const std::unique_lock lock(mutex_);
  if (rules_of_ != &vocabulary) rules_.clear();
  rules_of_ = &vocabulary;
  auto& masks = rules_[rule];
  if (!masks) masks = vocabulary.shared_masks(*program.rule_text[rule]);
  return masks;
}

void fill_exactly(const Program& program, const Vocabulary& vocabulary, Frames frames, const StackSet& start,
                  std::span<uint32_t> mask) {
  Walk walk(program, *vocabulary.trie(), std::move(frames), program.max_depth);
  walk.run(start, {kWholeTrie});
  for (const uint32_t id : walk.accepted)
    if (id / 32 < mask.size()) mask[id / 32] |= 1u << (id % 32);
}

}  // namespace redoubt::grammar
