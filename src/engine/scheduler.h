// Which tokens of which sequences a step computes.
//
// Continuous batching: sequences join and leave between any two steps. Tenants are served one after the other, the one
// furthest behind its share first, each with what the step has left but for what is reserved for those behind it
// (fair_share.h). Of a tenant, a step first takes one token of every sequence that is decoding, then drafted tokens
// behind these, as far as they pay and leave every other running sequence its share (speculation.h), then pieces of the
// prompts (and of answers to recompute) of those that run, then lets waiting sequences in, always in rank order
// (priority, then arrival), until a limit is reached.
//
// While several tenants want something or lately did, a step has as many tokens as it can compute in
// `contended_step_seconds`, deep ones counted as more (token_cost.h). A tenant alone for longer gets larger steps, and
// these may be given up when another one comes: it does not wait for the rest. What is lost so is bounded: for four
// times as long steps are then short.
//
// When blocks or places run out they are taken from others, see block_claims.cpp; what was taken is recomputed later,
// prompt tokens in the prefill form and generated tokens in the decode form, so the bits stay.
//
// Progress: of the tenants' first running sequences, the one that came first can take blocks from all others and is
// never taken from, and a whole context fits the cache (Engine sees to that), so it always advances. The number of
// running sequences is held at or below the rows of logits, chunks and tokens of a step, so every running sequence can
// take part in every step that has all its tokens. Thread safety: the engine thread's alone.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/prefix_cache.h"
#include "engine/sequence.h"
#include "engine/step_pace.h"
#include "engine/token_cost.h"

namespace redoubt {

struct PlannedChunk {
  Sequence* sequence = nullptr;
  int64_t begin = 0, count = 0;  // tokens [begin, begin + count)
  AttentionForm form = AttentionForm::prefill;
  int64_t num_logits = 0;
  int64_t num_drafts = 0;  // of count: the last ones are Sequence::draft's first, to be verified
  int64_t first_row = 0;   // of its tokens in the step, all chunks together
};

class Scheduler {
 public:
  struct NewBlock {  // of the prefix cache, for the one on disk
    int32_t block = 0;
    uint64_t node_id = 0;
    CacheKey key{};
  };

  struct Options {
    StepLimits step;            // max_tokens: of one step
    int64_t max_running = 256;  // sequences
    bool prefix_cache = true;
    bool cache_answers = false;  // what was generated, too: only where both forms have the same bits
    double contended_step_seconds = 0.06;
    TokenCost token_cost;
  };
  Scheduler(const Options& options, PrefixCache& cache, Speculator& speculator);

  void add(Sequence& sequence);     // waiting
  void remove(Sequence& sequence);  // finished or cancelled; gives its blocks back
  void pause(Sequence& sequence);   // keeps its blocks until others need them
  void resume(Sequence& sequence);

  void plan(std::vector<PlannedChunk>& plan);
  // The planned step is one tenant's alone and longer than others would have to wait for.
  bool may_give_up() const { return may_give_up_; }
  void observe_step(std::span<const PlannedChunk> plan, double seconds);
  void give_up(double seconds);            // after so long; nothing of the planned step counts
  void commit(const PlannedChunk& chunk);  // the step has computed it; drafted tokens count when they are accepted

  // For the cache on disk: what a waiting sequence finds in memory, and its return.
  void match_prefix(Sequence& sequence);
  void give_back_blocks(Sequence& sequence);
  std::vector<NewBlock> take_new_blocks() { return std::exchange(new_blocks_, {}); }
  const Ranked& waiting() const { return waiting_; }

  int64_t num_running() const { return num_running_; }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t max_running() const { return max_running_; }
  double contended_step_seconds() const { return options_.contended_step_seconds; }
  uint64_t num_preemptions() const { return num_preemptions_; }
  uint64_t prefix_queries() const { return prefix_queries_; }  // tokens
  uint64_t prefix_hits() const { return prefix_hits_; }        // tokens

 private:
  struct Left {  // of the step's limits, for the tenant being served
    int64_t tokens = 0, logits = 0, chunks = 0;
    // Blocks over weight of the poorest tenant that waits for some: nobody who would hold more is let in before it.
    double poorest_waiting = std::numeric_limits<double>::infinity();
    // Where time is short: tokens for a row of logits, and what tokens cost by their depth.
    double row_tokens = 0;
    const TokenCost* cost = nullptr;
    double spent_beyond = 0;  // tokens that were not computed, not yet taken off

    int64_t tokens_from(int64_t begin) const;  // one at least
    void spend(int64_t begin, int64_t count, int64_t rows);
    void give_back(int64_t begin, int64_t count, int64_t rows);
    double beyond(int64_t begin, int64_t count, int64_t rows) const;
    void take_off(int64_t count, double count_beyond);
  };
  void enter(Sequence& sequence);  // its lane's queue
  void leave(Sequence& sequence);
  int64_t order_lanes();  // the step's tokens
  int64_t demand_of(const Lane& lane, int64_t enough) const;
  void serve(Lane& lane, Left& left, std::vector<PlannedChunk>& plan);
  void take(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan);
  void add_drafts(const Lane& lane, Left& left, std::vector<PlannedChunk>& plan);
  bool admit(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan);

  // block_claims.cpp
  int64_t reserve(Sequence& sequence, int64_t tokens, Left& left, std::vector<PlannedChunk>& plan);
  static double holding_of(const Lane& lane, int64_t more);  // blocks over weight
  Sequence* place_holder_for(const Sequence& sequence) const;
  void make_place(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan);
  bool make_room(Sequence& sequence, int64_t blocks, Left& left, std::vector<PlannedChunk>& plan);
  Sequence* idle_holder(const Sequence& besides) const;
  Sequence* own_victim_below(const Sequence& sequence) const;
  Sequence* victim_of_richer(const Sequence& sequence, int64_t blocks) const;
  int64_t blocks_of_richer(const Sequence& sequence, int64_t blocks) const;
  Sequence* victim_of_later(const Sequence& sequence) const;
  static void withdraw(const Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan);
  void set_aside(Sequence& victim, Left& left, std::vector<PlannedChunk>& plan);
  void preempt(Sequence& victim, Left& left, std::vector<PlannedChunk>& plan);

  Options options_;
  PrefixCache* cache_;
  Speculator* speculator_;
  int64_t max_running_ = 0, num_running_ = 0;
  FairShare fair_share_;
  StepPace pace_;
  double busy_seconds_ = 0;            // of all steps: the time that `wanted_at` and the next are in
  double short_until_ = 0;             // steps are short until then
  bool may_give_up_ = false;           // steps are long, too
  std::map<std::string, Lane> lanes_;  // by tenant
  Ranked waiting_, paused_;            // of all tenants
  std::vector<Share*> active_;         // scratch: the lanes that want something
  std::vector<Sequence*> order_;       // scratch
  std::vector<NewBlock> new_blocks_;
  uint64_t num_steps_ = 0, num_preemptions_ = 0, prefix_queries_ = 0, prefix_hits_ = 0;
};

}  // namespace redoubt
