// Of whom the scheduler takes blocks and places when they run out.
//
// Blocks: first of sequences that hold some without running. Then, of a tenant that holds more for its weight, as long
// as it stays at least twice as rich as the one that takes: so nothing is taken back and forth. Then of the taker's own
// tenant, from lower-ranked sequences. At last, if the taker is its tenant's first and came before the firsts of
// others, from those: this is what progress rests on (scheduler.h). Within a tenant the lowest-ranked is always taken
// from. Places (the number of running sequences is limited): a higher priority takes that of a lower one of its own
// tenant, and a tenant with fewer running for its weight that of a richer one, which keeps its blocks while it waits.
#include <algorithm>

#include "engine/scheduler.h"

namespace redoubt {

namespace {

// What it takes from is at least so many times as rich as the taker, so that equals leave each other alone.
constexpr double kTimesAsRich = 2;

int64_t blocks_for(int64_t tokens) { return (tokens + kCacheBlockTokens - 1) / kCacheBlockTokens; }

int64_t num_blocks(const Sequence& sequence) { return static_cast<int64_t>(sequence.blocks.size()); }

int64_t blocks_of(const Lane& lane) {
  int64_t blocks = 0;
  for (const Sequence* sequence : lane.running) blocks += num_blocks(*sequence);
  return blocks;
}

double per_weight(const Lane& lane, int64_t held) { return static_cast<double>(held) / lane.weight; }

Sequence* last_with_blocks(const Ranked& sequences) {
  const auto at = std::find_if(sequences.rbegin(), sequences.rend(), [](Sequence* s) { return !s->blocks.empty(); });
  return at == sequences.rend() ? nullptr : *at;
}

}  // namespace

double Scheduler::holding_of(const Lane& lane, int64_t more) { return per_weight(lane, blocks_of(lane) + more); }

// Gets blocks for the first `tokens` tokens, as many as there are; how many tokens the sequence then has room for.
int64_t Scheduler::reserve(Sequence& sequence, int64_t tokens, Left& left, std::vector<PlannedChunk>& plan) {
  while (num_blocks(sequence) < blocks_for(tokens)) {
    if (const std::optional<int32_t> block = cache_->allocate(); block.has_value()) {
      sequence.blocks.push_back(*block);
      continue;
    }
    Sequence* victim = idle_holder(sequence);
    if (victim == nullptr) victim = victim_of_richer(sequence, 1);
    if (victim == nullptr) victim = own_victim_below(sequence);
    if (victim == nullptr) victim = victim_of_later(sequence);
    if (victim == nullptr) break;
    preempt(*victim, left, plan);
  }
  return num_blocks(sequence) * kCacheBlockTokens;
}

// The lowest-ranked of those that hold blocks without running: paused, or resumed and not yet let in again.
Sequence* Scheduler::idle_holder(const Sequence& besides) const {
  for (const Ranked* idle : {&paused_, &waiting_})
    for (auto at = idle->rbegin(); at != idle->rend(); ++at)
      if (!(*at)->blocks.empty() && *at != &besides) return *at;
  return nullptr;
}

Sequence* Scheduler::own_victim_below(const Sequence& sequence) const {
  Sequence* last = last_with_blocks(sequence.lane->running);
  return last != nullptr && RanksBefore{}(&sequence, last) ? last : nullptr;
}

// Of the richest tenant that stays rich enough beside this one with `blocks` more.
Sequence* Scheduler::victim_of_richer(const Sequence& sequence, int64_t blocks) const {
  if (lanes_.size() == 1) return nullptr;
  double richest = kTimesAsRich * holding_of(*sequence.lane, blocks);
  Sequence* victim = nullptr;
  for (const auto& [tenant, lane] : lanes_) {
    Sequence* last = &lane == sequence.lane ? nullptr : last_with_blocks(lane.running);
    if (last == nullptr) continue;
    const double after = per_weight(lane, blocks_of(lane) - num_blocks(*last));
    if (after < richest) continue;
    richest = after;
    victim = last;
  }
  return victim;
}

// If the sequence is its tenant's first: of the tenant whose first came last, if that was after this one.
Sequence* Scheduler::victim_of_later(const Sequence& sequence) const {
  if (*sequence.lane->running.begin() != &sequence) return nullptr;
  uint64_t latest = sequence.live->arrival;
  Sequence* victim = nullptr;
  for (const auto& [tenant, lane] : lanes_) {
    if (&lane == sequence.lane || lane.running.empty()) continue;
    Sequence* last = last_with_blocks(lane.running);
    const uint64_t arrival = (*lane.running.begin())->live->arrival;
    if (last == nullptr || arrival < latest) continue;
    latest = arrival;
    victim = last;
  }
  return victim;
}

// Whose place a sequence that wants to start may have while all are taken.
Sequence* Scheduler::place_holder_for(const Sequence& sequence) const {
  const Lane& own = *sequence.lane;
  double most = per_weight(own, static_cast<int64_t>(own.running.size()) + 1);
  Sequence* holder = nullptr;
  for (const auto& [tenant, lane] : lanes_) {
    const double after = per_weight(lane, static_cast<int64_t>(lane.running.size()) - 1);
    if (&lane == &own || lane.running.empty() || after < most) continue;
    most = after;
    holder = *lane.running.rbegin();
  }
  if (holder != nullptr || own.running.empty()) return holder;
  Sequence* last = *own.running.rbegin();
  return last->live->request.priority < sequence.live->request.priority ? last : nullptr;
}

// The holder waits: with its blocks if it is another tenant's, so that it goes on where it was.
void Scheduler::make_place(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  Sequence& holder = *place_holder_for(sequence);
  holder.lane == sequence.lane ? preempt(holder, left, plan) : set_aside(holder, left, plan);
}

// Blocks that make_room() could get from richer tenants, beside those that are free.
int64_t Scheduler::blocks_of_richer(const Sequence& sequence, int64_t blocks) const {
  const double least = kTimesAsRich * holding_of(*sequence.lane, blocks);
  int64_t reach = 0;
  for (const auto& [tenant, lane] : lanes_) {
    if (&lane == sequence.lane) continue;
    int64_t held = blocks_of(lane);
    for (auto at = lane.running.rbegin(); at != lane.running.rend(); ++at) {
      held -= num_blocks(**at);
      if (per_weight(lane, held) < least) break;
      reach += num_blocks(**at);
    }
  }
  return reach;
}

// Frees so many blocks for a sequence that wants to start, or takes none where that cannot be.
bool Scheduler::make_room(Sequence& sequence, int64_t blocks, Left& left, std::vector<PlannedChunk>& plan) {
  while (cache_->num_available() < blocks) {
    Sequence* victim = idle_holder(sequence);
    const int64_t then = num_blocks(sequence) + blocks;
    if (victim == nullptr && cache_->num_available() + blocks_of_richer(sequence, then) >= blocks)
      victim = victim_of_richer(sequence, then);
    if (victim == nullptr) {
      Sequence* last = own_victim_below(sequence);
      if (last != nullptr && last->live->request.priority < sequence.live->request.priority) victim = last;
    }
    if (victim == nullptr) return false;
    preempt(*victim, left, plan);
  }
  return true;
}

void Scheduler::withdraw(const Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  const auto planned = std::ranges::find(plan, &sequence, &PlannedChunk::sequence);
  if (planned == plan.end()) return;
  left.give_back(planned->begin, planned->count, planned->num_logits);
  left.chunks += 1;
  plan.erase(planned);
}

void Scheduler::set_aside(Sequence& victim, Left& left, std::vector<PlannedChunk>& plan) {
  withdraw(victim, left, plan);
  leave(victim);
  enter(victim);
}

void Scheduler::preempt(Sequence& victim, Left& left, std::vector<PlannedChunk>& plan) {
  withdraw(victim, left, plan);
  give_back_blocks(victim);
  ++num_preemptions_;
  ++victim.live->usage.preemptions;
  if (victim.state != Sequence::State::running) return;
  leave(victim);
  enter(victim);
}

}  // namespace redoubt
