// Blocks that texts with equal leading tokens share, and the one place where sequences get and give back blocks.
//
// A tree for each space (tenant, adapter, cache salt): a node is one full block of kCacheBlockTokens tokens, its
// parent the block before it. Nodes are found by (parent, their own tokens) and compared whole, so that no collision of
// a hash can ever show one prompt's cache to another.
// Blocks of generated tokens are inserted only where these have the bits of prompt tokens (docs/decisions/0002), so a
// hit changes no bit of an answer.
//
// Invariant: who holds a node's block holds the blocks of all its ancestors. Therefore the blocks nobody holds form
// whole subtrees, and the least recently released of them is always a leaf: eviction takes it from the end of a list.
// Thread safety: the engine thread's alone.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"
#include "model/model.h"

namespace redoubt {

class PrefixCache {
 public:
  struct Key {
    uint64_t parent = 0;  // the id of a node, or of a space's root
    std::array<int32_t, kCacheBlockTokens> tokens{};
    bool operator==(const Key&) const = default;
  };
  struct Node {  // valid while its block is held
    uint64_t id = 0;
    Key key;
    std::string space;       // of a first block; empty below
    Node* parent = nullptr;  // null: a first block, whose parent is the space's root
    int32_t block = 0;
    int64_t children = 0;
    std::list<Node*>::iterator unheld_at;
    bool is_unheld = false;
  };

  explicit PrefixCache(int64_t num_blocks);
  ~PrefixCache();
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  struct Match {
    std::vector<int32_t> blocks;  // held once more by the caller
    Node* last = nullptr;
  };
  // The longest known chain of at most `max_blocks` blocks that `tokens` begins with.
  Match match(const std::string& space, std::span<const int32_t> tokens, int64_t max_blocks);

  struct Inserted {
    Node* node = nullptr;
    int32_t block = 0;
    bool is_new = false;
  };
  // Offers a computed block (held by the caller) as the continuation of `parent` (null: the first). Where an equal
  // block is known already, the caller's is given back and the known one held in its place: use the returned block.
  Inserted insert(const std::string& space, Node* parent, std::span<const int32_t> tokens, int32_t block);

  std::optional<int32_t> allocate();  // a free block, or one that nobody holds any more
  void release(int32_t block);        // of a sequence: the last block first

  // Whether the block still belongs to the node of this id.
  bool is_node_of(int32_t block, uint64_t id) const {
    const Node* node = node_of_block_[static_cast<size_t>(block)];
    return node != nullptr && node->id == id;
  }

  int64_t num_blocks() const { return pool_.size(); }
  int64_t num_available() const { return pool_.num_free() + static_cast<int64_t>(unheld_.size()); }
  int64_t num_used() const { return pool_.size() - pool_.num_free(); }
  uint64_t num_evicted() const { return num_evicted_; }                // ever
  int64_t num_held() const { return pool_.size() - num_available(); }  // by sequences

 private:
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Root {
    uint64_t id = 0;
    int64_t children = 0;
  };

  void hold(Node& node);
  void evict_oldest();

  BlockPool pool_;
  uint64_t num_evicted_ = 0;
  uint64_t next_id_ = 1;
  std::unordered_map<Key, Node, KeyHash> nodes_;
  std::unordered_map<std::string, Root> roots_;
  std::vector<Node*> node_of_block_;  // [num_blocks], null: not in the tree
  std::list<Node*> unheld_;           // in the tree and held by no sequence, the most recently released first
};

}  // namespace redoubt
