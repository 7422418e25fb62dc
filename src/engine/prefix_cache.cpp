#include "engine/prefix_cache.h"

#include <algorithm>

#include "core/result.h"
#include "engine/counter_random.h"

namespace redoubt {

size_t PrefixCache::KeyHash::operator()(const Key& key) const {
  uint64_t hash = mix_bits(key.parent + 0x9e3779b97f4a7c15u);
  for (const int32_t token : key.tokens) hash = mix_bits(hash ^ static_cast<uint32_t>(token));
  return static_cast<size_t>(hash);
}

PrefixCache::PrefixCache(int64_t num_blocks) : pool_(num_blocks), node_of_block_(static_cast<size_t>(num_blocks)) {}
PrefixCache::~PrefixCache() = default;

namespace {

std::array<int32_t, kCacheBlockTokens> block_tokens(std::span<const int32_t> tokens) {
  std::array<int32_t, kCacheBlockTokens> copy{};
  std::copy_n(tokens.begin(), kCacheBlockTokens, copy.begin());
  return copy;
}

}  // namespace

void PrefixCache::hold(Node& node) {
  pool_.retain(node.block);
  if (!node.is_unheld) return;
  unheld_.erase(node.unheld_at);
  node.is_unheld = false;
}

PrefixCache::Match PrefixCache::match(const std::string& space, std::span<const int32_t> tokens, int64_t max_blocks) {
  Match found;
  const auto root = roots_.find(space);
  if (root == roots_.end()) return found;
  uint64_t parent = root->second.id;
  for (int64_t i = 0; i < max_blocks; ++i) {
    const auto at = nodes_.find({parent, block_tokens(tokens.subspan(static_cast<size_t>(i * kCacheBlockTokens)))});
    if (at == nodes_.end()) break;
    hold(at->second);
    found.last = &at->second;
    found.blocks.push_back(at->second.block);
    parent = at->second.id;
  }
  return found;
}

PrefixCache::Inserted PrefixCache::insert(const std::string& space, Node* parent, std::span<const int32_t> tokens,
                                          int32_t block) {
  REDOUBT_ASSERT(static_cast<int64_t>(tokens.size()) == kCacheBlockTokens);
  Root* root = nullptr;
  if (parent == nullptr) {
    root = &roots_[space];
    if (root->id == 0) root->id = next_id_++;
  }
  const Key key{parent != nullptr ? parent->id : root->id, block_tokens(tokens)};
  const auto [at, is_new] = nodes_.try_emplace(key);
  Node& node = at->second;
  if (!is_new) {
    hold(node);
    pool_.release(block);
    return {&node, node.block, false};
  }
  node.id = next_id_++;
  node.key = key;
  node.parent = parent;
  node.block = block;
  if (parent == nullptr) node.space = space;
  pool_.retain(block);
  node_of_block_[static_cast<size_t>(block)] = &node;
  ++(parent != nullptr ? parent->children : root->children);
  return {&node, block, true};
}

void PrefixCache::release(int32_t block) {
  const int32_t left = pool_.release(block);
  Node* node = node_of_block_[static_cast<size_t>(block)];
  if (node == nullptr || left != 1) return;
  unheld_.push_front(node);
  node->unheld_at = unheld_.begin();
  node->is_unheld = true;
}

void PrefixCache::evict_oldest() {
  ++num_evicted_;
  Node* node = unheld_.back();
  REDOUBT_ASSERT(node->children == 0);
  unheld_.pop_back();
  if (node->parent != nullptr) {
    --node->parent->children;
  } else if (const auto root = roots_.find(node->space); --root->second.children == 0) {
    roots_.erase(root);
  }
  node_of_block_[static_cast<size_t>(node->block)] = nullptr;
  pool_.release(node->block);
  const Key key = node->key;
  nodes_.erase(key);
}

std::optional<int32_t> PrefixCache::allocate() {
  if (pool_.num_free() == 0 && !unheld_.empty()) evict_oldest();
  return pool_.allocate();
}

}  // namespace redoubt
