// Cache blocks on disk, found again after a restart: written behind, read ahead, by one thread of its own.
//
// A file for each block, DIR/ab/abcd....kv, named by its key and readable by the owner alone; written under another
// name and renamed, so that a name never stands for half a block. What is damaged is removed and counts as absent. Over
// max_bytes the least recently used go; the time of last use is the file's, so that it outlives us.
// All models of a server share one. Thread safety: every function from any thread; callbacks come on the cache's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/cache_record.h"

namespace redoubt {

struct DiskCacheOptions {
  std::filesystem::path directory;
  int64_t max_bytes = int64_t{16} << 30;
  int64_t max_queued_bytes = int64_t{64} << 20;  // waiting to be written
};

struct DiskCacheStats {
  int64_t bytes = 0, records = 0;
  uint64_t written = 0, read = 0, evicted = 0, damaged = 0;
};

// Blocks on their way from disk, in order. It ends early where one is gone or damaged.
class BlockReading {
 public:
  virtual ~BlockReading() = default;  // stops
  struct Next {
    std::vector<std::byte> block;  // empty: not there yet, or over
    bool over = false;
  };
  virtual Next next() = 0;
};

class DiskCache {
 public:
  // Errors: io (the directory cannot be made, read or written).
  static Result<std::unique_ptr<DiskCache>> open(const DiskCacheOptions& options);
  virtual ~DiskCache() = default;  // what was queued is written first

  virtual bool contains(const CacheKey& key) const = 0;
  virtual bool has_room(int64_t block_bytes) const = 0;  // in the queue
  // Queues one block; `on_written` is called when it left the queue.
  virtual void write(const CacheKey& key, std::vector<std::byte> block, std::function<void()> on_written) = 0;
  // `on_ready` is called when next() has something new to say.
  virtual std::unique_ptr<BlockReading> read(std::vector<CacheKey> keys, int64_t block_bytes,
                                             std::function<void()> on_ready) = 0;
  virtual DiskCacheStats stats() const = 0;
};

}  // namespace redoubt
