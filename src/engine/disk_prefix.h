// The engine thread's side of the disk cache: prompt blocks go to it after the step that computed them, and come back
// before a prompt that begins with them is let in.
//
// All copying is in bounded pieces between steps, so that nobody else's step waits: a piece of kPieceBytes each time
// advance() is called. A sequence whose blocks are being read waits meanwhile; others pass it. A block that the cache
// in memory gives up before its turn is simply not written. Thread safety: the engine thread's.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "engine/disk_cache.h"
#include "engine/prefix_cache.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "model/model.h"

namespace redoubt {

class DiskPrefix {
 public:
  // All outlive it. `wake` may be called from any thread, and after this object's end.
  DiskPrefix(DiskCache& disk, Model& model, PrefixCache& cache, Scheduler& scheduler, std::function<void()> wake)
      : disk_(disk), model_(model), cache_(cache), scheduler_(scheduler), wake_(std::move(wake)) {}

  // Before a step is planned: sees to sequences that wait, and takes what was read.
  void advance();
  // After a step: prompt blocks that are new in the prefix cache.
  void spill(const std::vector<Scheduler::NewBlock>& blocks);
  void forget(const Sequence& sequence);  // it is over

  uint64_t queries() const { return queries_; }  // tokens looked up
  uint64_t hits() const { return hits_; }        // tokens read

 private:
  struct Reading {
    Sequence* sequence = nullptr;
    std::unique_ptr<BlockReading> blocks;
    int64_t next = 0;  // block of the prompt
  };
  void begin(Sequence& sequence);
  bool take(Reading& reading, int64_t& left_bytes);
  bool place(Sequence& sequence, std::span<const std::byte> block);
  void write_pending();

  DiskCache& disk_;
  Model& model_;
  PrefixCache& cache_;
  Scheduler& scheduler_;
  std::function<void()> wake_;
  std::vector<Reading> readings_;
  std::deque<Scheduler::NewBlock> pending_;
  uint64_t queries_ = 0, hits_ = 0;
};

}  // namespace redoubt
