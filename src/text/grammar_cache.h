// Compiled grammars of one model, kept for the next request that asks for the same: compiling takes up to a second, and
// the masks that a grammar's states have been given (grammar_mask_cache.h) stay with it.
//
// A grammar is found by whose it is (`space`: a tenant; another tenant's is never found, so that nobody can tell from
// the time a request takes what others ask for), by what kind of source it has, and by that source, whole and not as a
// hash. What cannot be compiled is kept too, as its error. Beyond the limits the least recently used goes; whoever
// holds a grammar keeps it alive, and its masks may grow meanwhile: they are counted at the next find.
// Thread safety: all of it. Requests for the same grammar at once compile it once, the others wait; nobody waits for
// the compilation of another one.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "text/grammar.h"

namespace redoubt {

struct GrammarCacheLimits {
  size_t max_bytes = size_t{128} << 20;  // sources, programs and masks; 0: nothing is kept
  size_t max_grammars = 512;
};

class GrammarCache {
 public:
  explicit GrammarCache(GrammarCacheLimits limits = {}) : limits_(limits) {}

  struct Key {
    std::string space, kind, source;
    bool operator==(const Key&) const = default;
  };
  using Compile = std::function<Result<GrammarPtr>()>;
  // The kept grammar (or error) of the key, else what `compile` gives. `compile` may ask for other keys.
  Result<GrammarPtr> find(Key key, const Compile& compile);

  struct Stats {
    uint64_t hits = 0, misses = 0;
    size_t grammars = 0, bytes = 0;
  };
  Stats stats() const;

 private:
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Slot {
    size_t key_bytes = 0;
    std::mutex making;  // held while it is compiled
    std::atomic<bool> is_made = false;
    std::optional<Result<GrammarPtr>> made;  // written once, before is_made
    size_t size_bytes() const;
  };
  struct Kept {
    Key key;
    std::shared_ptr<Slot> slot;
  };
  std::shared_ptr<Slot> slot_of(Key key);
  void keep_within_limits();

  const GrammarCacheLimits limits_;
  mutable std::mutex mutex_;  // guards what follows; never held while something is compiled
  std::list<Kept> kept_;      // the most recently used first
  std::unordered_map<Key, std::list<Kept>::iterator, KeyHash> places_;
  uint64_t hits_ = 0, misses_ = 0;
};

}  // namespace redoubt
