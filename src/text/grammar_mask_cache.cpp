#include "text/grammar_mask_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "text/mask_walk.h"

namespace redoubt::grammar {
namespace {

constexpr size_t kMaxCacheBytes = size_t{64} << 20;  // of one grammar; then all are dropped

std::shared_ptr<const MaskEntry> compute(const Program& program, const Vocabulary& vocabulary, const MaskEntry* above,
                                         uint32_t state) {
  auto entry = std::make_shared<MaskEntry>();
  std::vector<uint32_t> words((static_cast<size_t>(vocabulary.vocab_size()) + 31) / 32, 0);
  WalkResult result{words, entry->residue};
  const uint32_t rule = program.states[state].rule;
  if (above == nullptr && program.tables[rule] != nullptr) {
    RulePlaces places(program, *program.tables[rule], program.rule_start[rule]);
    walk_vocabulary(places, state - program.rule_start[rule], *vocabulary.trie(), vocabulary.slices(), result);
    entry->width = 1;
  } else {
    // The base is unknown here, and with it the depth: no limit; `peak` tells whoever uses the entry if it applies.
    StackPlaces places(program, Frames(), std::numeric_limits<uint32_t>::max());
    StackSet start;
    if (above == nullptr) {
      start.stacks = {{state, 0}};
      start.peak = program.states[state].height;
      start.width = 1;
      walk_vocabulary(places, places.add(start), *vocabulary.trie(), vocabulary.slices(), result);
    } else {
      Arrival arrival(program, places.frames(), std::numeric_limits<uint32_t>::max());
      arrival.arrive({state, 0}, start);
      arrival.finish(start);
      const uint32_t first = places.add(start);
      for (const uint32_t point : above->residue) {
        if (start.ended) entry->residue.push_back(point);
        walk_tokens(places, first, *vocabulary.trie(), point, result);
      }
    }
    entry->peak = places.peak();
    entry->width = places.width();
  }
  // A list while it is short, and a quarter of the words' bytes at most.
  const size_t few = words.size() / 4;
  for (size_t i = 0; i < words.size() && entry->ids.size() <= few; ++i)
    for (uint32_t word = words[i]; word != 0; word &= word - 1)
      entry->ids.push_back(static_cast<uint32_t>(i * 32) + static_cast<uint32_t>(std::countr_zero(word)));
  if (entry->ids.size() > few) {
    entry->ids = {};
    entry->words = std::move(words);
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
  return sizeof *this + 4 * (ids.capacity() + words.capacity() + residue.capacity());
}

// Four sums side by side, since each waits for its own multiplication.
size_t MaskCache::EntryHash::operator()(const std::shared_ptr<const MaskEntry>& entry) const {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15u;
  std::array<uint64_t, 4> sums{entry->peak, entry->width, 0, 0};
  for (const auto* list : {&entry->ids, &entry->words, &entry->residue}) {
    for (uint64_t& sum : sums) sum = (sum ^ list->size()) * kFactor;
    for (size_t i = 0; i < list->size(); ++i) sums[i % 4] = (sums[i % 4] ^ (*list)[i]) * kFactor;
  }
  const uint64_t hash = ((sums[0] * kFactor ^ sums[1]) * kFactor ^ sums[2]) * kFactor ^ sums[3];
  return static_cast<size_t>(hash ^ hash >> 29);
}

std::shared_ptr<const MaskEntry> MaskCache::find(const Program& program, const Vocabulary& vocabulary,
                                                 const std::shared_ptr<const MaskEntry>& above, uint32_t state) {
  const Key key{above ? static_cast<const void*>(above.get()) : vocabulary.trie().get(), state};
  {
    const std::shared_lock lock(mutex_);
    const auto it = entries_.find(key);
    if (it != entries_.end()) return it->second.entry;
  }
  const uint32_t rule = program.states[state].rule;
  const uint32_t local = state - program.rule_start[rule];
  const auto shared = above ? nullptr : shared_rule(program, vocabulary, rule);
  std::shared_ptr<const MaskEntry> entry = shared ? shared->find(local) : nullptr;
  if (entry == nullptr) {
    entry = compute(program, vocabulary, above.get(), state);
    if (shared) shared->keep(local, entry);
  }
  const std::shared_ptr<const void> owner = above ? std::shared_ptr<const void>(above) : vocabulary.trie();
  const std::unique_lock lock(mutex_);
  if (const auto it = entries_.find(key); it != entries_.end()) return it->second.entry;
  if (bytes_ > kMaxCacheBytes) {
    entries_.clear();
    distinct_.clear();
    bytes_ = 0;
  }
  const auto [distinct, is_new] = distinct_.insert(std::move(entry));
  bytes_ += sizeof(Kept) + 64 + (is_new && shared == nullptr ? (*distinct)->size_bytes() : 0);
  return entries_.try_emplace(key, Kept{*distinct, owner}).first->second.entry;
}

std::shared_ptr<RuleMasks> MaskCache::shared_rule(const Program& program, const Vocabulary& vocabulary, uint32_t rule) {
  if (program.rule_text[rule] == nullptr) return nullptr;
  const std::unique_lock lock(mutex_);
  if (rules_of_ != vocabulary.trie()) rules_.clear();
  rules_of_ = vocabulary.trie();
  const auto known = rules_.find(rule);
  if (known != rules_.end()) return known->second;
  return rules_[rule] = vocabulary.shared_masks(*program.rule_text[rule]);
}

void fill_exactly(const Program& program, const Vocabulary& vocabulary, Frames frames, const StackSet& start,
                  std::span<uint32_t> mask) {
  StackPlaces places(program, std::move(frames), program.max_depth);
  std::vector<uint32_t> words((static_cast<size_t>(vocabulary.vocab_size()) + 31) / 32, 0), escaped;
  WalkResult result{words, escaped};
  walk_vocabulary(places, places.add(start), *vocabulary.trie(), vocabulary.slices(), result);
  std::copy_n(words.begin(), std::min(words.size(), mask.size()), mask.begin());
}

}  // namespace redoubt::grammar
