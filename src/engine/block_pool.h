// The cache's blocks and who holds them: a free list and a count of holders per block.
//
// Ids are those of Model::reserve_cache (0 .. num_blocks-1). A block is free when its count is 0. Free blocks are
// handed out last in, first out, so that the part of the cache a light load touches stays small. Thread safety: the
// engine thread's alone.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace redoubt {

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  std::optional<int32_t> allocate();  // held once; nullopt: none is free
  void retain(int32_t block);
  int32_t release(int32_t block);  // the holders left; at 0 the block is free again

  int32_t holders(int32_t block) const { return holders_[static_cast<size_t>(block)]; }
  int64_t size() const { return static_cast<int64_t>(holders_.size()); }
  int64_t num_free() const { return static_cast<int64_t>(free_.size()); }

 private:
  std::vector<int32_t> holders_;  // [num_blocks]
  std::vector<int32_t> free_;
};

}  // namespace redoubt
