#include "engine/block_pool.h"

#include "core/result.h"

namespace redoubt {

BlockPool::BlockPool(int64_t num_blocks) : holders_(static_cast<size_t>(num_blocks), 0) {
  free_.reserve(holders_.size());
  for (int64_t block = num_blocks - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

std::optional<int32_t> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const int32_t block = free_.back();
  free_.pop_back();
  holders_[static_cast<size_t>(block)] = 1;
  return block;
}

void BlockPool::retain(int32_t block) {
  REDOUBT_ASSERT(holders(block) > 0);
  ++holders_[static_cast<size_t>(block)];
}

int32_t BlockPool::release(int32_t block) {
  REDOUBT_ASSERT(holders(block) > 0);
  const int32_t left = --holders_[static_cast<size_t>(block)];
  if (left == 0) free_.push_back(block);
  return left;
}

}  // namespace redoubt
