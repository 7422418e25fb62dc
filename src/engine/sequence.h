// A request on its way through the engine, and its sequences: one for each choice.
//
// A sequence is a list of tokens (prompt, then answer), how many of them are in the cache, and the blocks that hold
// them. The engine thread alone reads and writes these; what other threads may touch is RequestControl.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/answer.h"
#include "engine/cache_record.h"
#include "engine/engine.h"
#include "engine/fair_share.h"
#include "engine/ngram_index.h"
#include "engine/prefix_cache.h"
#include "engine/speculation.h"

namespace redoubt {

struct RequestControl {  // set by any thread, read by the engine thread between steps
  std::atomic<bool> cancelled{false};
  std::atomic<bool> paused{false};
};

struct Lane;

struct LiveRequest {
  GenerationRequest request;
  std::shared_ptr<GenerationListener> listener;
  std::shared_ptr<RequestControl> control = std::make_shared<RequestControl>();
  std::string cache_space;           // tenant, adapter and salt, unambiguously joined
  std::vector<CacheKey> block_keys;  // of the prompt's full blocks, where there is a cache on disk
  uint64_t arrival = 0;              // counts up
  int64_t unfinished = 0;            // choices
  int64_t disk_tokens = 0;           // of the prompt, read from the cache on disk
  bool prompt_computed = false;      // by the first choice: the others may start on its blocks
  int64_t submitted_ns = 0, admitted_ns = 0, first_token_ns = 0;
  GenerationUsage usage;
};

struct Sequence {
  enum class State : uint8_t { waiting, running, paused, finished };

  std::shared_ptr<LiveRequest> live;
  Lane* lane = nullptr;  // of its tenant; the scheduler's
  int choice = 0;
  Answer answer;

  enum class OnDisk : uint8_t { unknown, reading, taken };  // what the cache on disk has for the prompt

  State state = State::waiting;
  OnDisk on_disk = OnDisk::taken;
  bool was_admitted = false;
  uint64_t last_step = 0;       // that it took part in
  bool awaits_grant = false;    // paused until its allowance grows or is closed
  std::vector<int32_t> tokens;  // prompt, then the answer so far
  int64_t prompt_tokens = 0;
  int64_t computed = 0;         // tokens [0, computed) are in the cache
  std::vector<int32_t> blocks;  // of the tokens in the cache and of those in the step under way
  // Prompt blocks [0, shared) are in the prefix cache; the last of them is shared_node.
  int64_t shared = 0;
  PrefixCache::Node* shared_node = nullptr;

  std::vector<DraftedToken> draft;  // what may follow `tokens`; empty where nothing is known
  NgramIndex ngrams;
  Acceptance acceptance;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
  bool is_decoding() const { return computed >= prompt_tokens && computed + 1 == size(); }
  bool may_start() const { return on_disk == OnDisk::taken && (choice == 0 || live->prompt_computed); }
  bool wants_prompt_logprobs() const { return choice == 0 && live->request.prompt_logprobs && !live->prompt_computed; }
};

// Who goes first within a tenant: larger priority, then earlier arrival, then lower choice.
struct RanksBefore {
  bool operator()(const Sequence* a, const Sequence* b) const {
    const LiveRequest &x = *a->live, &y = *b->live;
    if (x.request.priority != y.request.priority) return x.request.priority > y.request.priority;
    if (x.arrival != y.arrival) return x.arrival < y.arrival;
    return a->choice < b->choice;
  }
};
using Ranked = std::set<Sequence*, RanksBefore>;

// A tenant's sequences, and its share of the machine.
struct Lane : Share {
  Ranked waiting, running;
  double wanted_at = -std::numeric_limits<double>::infinity();  // scheduler's time when it last had work
};

}  // namespace redoubt
