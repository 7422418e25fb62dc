#include "text/grammar_cache.h"

#include <utility>

namespace redoubt {

size_t GrammarCache::KeyHash::operator()(const Key& key) const {
  const std::hash<std::string> hash;
  return (hash(key.source) * 31 + hash(key.kind)) * 31 + hash(key.space);
}

size_t GrammarCache::Slot::size_bytes() const {
  constexpr size_t kOverhead = 512;  // of lists, maps and an error's text
  const bool has_grammar = is_made && made->has_value();
  return kOverhead + 2 * key_bytes + (has_grammar ? made->value()->size_bytes() : 0);
}

// Found or made anew, and the most recently used from now on.
std::shared_ptr<GrammarCache::Slot> GrammarCache::slot_of(Key key) {
  const std::lock_guard lock(mutex_);
  if (const auto at = places_.find(key); at != places_.end()) {
    ++hits_;
    kept_.splice(kept_.begin(), kept_, at->second);
    return kept_.front().slot;
  }
  ++misses_;
  auto slot = std::make_shared<Slot>();
  slot->key_bytes = key.space.size() + key.kind.size() + key.source.size();
  kept_.push_front({std::move(key), slot});
  places_.emplace(kept_.front().key, kept_.begin());
  return slot;
}

Result<GrammarPtr> GrammarCache::find(Key key, const Compile& compile) {
  const std::shared_ptr<Slot> slot = slot_of(std::move(key));
  if (!slot->is_made) {
    const std::lock_guard lock(slot->making);
    if (!slot->is_made) {
      slot->made.emplace(compile());
      slot->is_made = true;
    }
  }
  keep_within_limits();
  return *slot->made;
}

// Few are kept, so all are asked for their size, which masks make grow.
void GrammarCache::keep_within_limits() {
  std::list<Kept> leaving;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  size_t bytes = 0, grammars = 0;
  for (auto at = kept_.begin(); at != kept_.end();) {
    const auto next = std::next(at);
    const size_t size = at->slot->size_bytes();
    if (grammars < limits_.max_grammars && bytes + size <= limits_.max_bytes) {
      ++grammars;
      bytes += size;
    } else {
      places_.erase(at->key);
      leaving.splice(leaving.end(), kept_, at);
    }
    at = next;
  }
}

GrammarCache::Stats GrammarCache::stats() const {
  const std::lock_guard lock(mutex_);
  Stats stats{.hits = hits_, .misses = misses_, .grammars = kept_.size()};
  for (const Kept& kept : kept_) stats.bytes += kept.slot->size_bytes();
  return stats;
}

}  // namespace redoubt
