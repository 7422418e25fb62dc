// Where other threads leave what the engine thread picks up between two steps.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/sequence.h"

namespace redoubt {

struct Arrival {
  std::shared_ptr<LiveRequest> live;
  std::vector<std::unique_ptr<Sequence>> choices;
};

struct Mailbox {
  std::mutex mutex;
  std::condition_variable wake;
  // All below under the mutex.
  std::vector<Arrival> arrived;
  bool controls_changed = false;  // some RequestControl was written
  bool woken = false;             // the cache on disk has something new to say
  bool stopping = false;
  bool draining = false;
  uint64_t next_arrival = 0;
  int64_t unfinished = 0;  // sequences, from submit to their end
  int64_t paused = 0;      // of these
};

}  // namespace redoubt
