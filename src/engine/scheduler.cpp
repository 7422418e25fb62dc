#include "engine/scheduler.h"

#include <algorithm>

namespace redoubt {

namespace {

int64_t blocks_for(int64_t tokens) { return (tokens + kCacheBlockTokens - 1) / kCacheBlockTokens; }

}  // namespace

Scheduler::Scheduler(const Options& options, PrefixCache& cache, Speculator& speculator)
    : options_(options), cache_(&cache), speculator_(&speculator) {
  const StepLimits& step = options.step;
  max_running_ =
      std::max<int64_t>(1, std::min({options.max_running, step.max_tokens, step.max_chunks, step.max_logits}));
}

void Scheduler::add(Sequence& sequence) {
  sequence.state = Sequence::State::waiting;
  waiting_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  waiting_.erase(&sequence);
  running_.erase(&sequence);
  paused_.erase(&sequence);
  give_back_blocks(sequence);
  sequence.state = Sequence::State::finished;
}

void Scheduler::pause(Sequence& sequence) {
  if (sequence.state == Sequence::State::paused || sequence.state == Sequence::State::finished) return;
  waiting_.erase(&sequence);
  running_.erase(&sequence);
  paused_.insert(&sequence);
  sequence.state = Sequence::State::paused;
}

void Scheduler::resume(Sequence& sequence) {
  if (sequence.state != Sequence::State::paused) return;
  paused_.erase(&sequence);
  add(sequence);
}

void Scheduler::plan(std::vector<PlannedChunk>& plan) {
  plan.clear();
  Left left{options_.step.max_tokens, options_.step.max_logits, options_.step.max_chunks};
  order_.assign(running_.begin(), running_.end());
  for (const bool decoding : {true, false}) {
    for (Sequence* sequence : order_) {
      // Taking blocks for an earlier one may have sent this one back to wait.
      if (sequence->state == Sequence::State::running && sequence->is_decoding() == decoding)
        take(*sequence, left, plan);
    }
    if (decoding) add_drafts(left, plan);
  }
  while (left.tokens > 0 && left.chunks > 0) {
    const auto next = std::ranges::find_if(waiting_, [](const Sequence* sequence) { return sequence->may_start(); });
    // The first one that does not fit closes the door behind it: nobody overtakes, nobody starves.
    if (next == waiting_.end() || !admit(**next, left, plan)) break;
  }
}

void Scheduler::take(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  if (left.chunks == 0 || left.tokens == 0) return;
  PlannedChunk chunk{.sequence = &sequence, .begin = sequence.computed};
  const bool in_prompt = chunk.begin < sequence.prompt_tokens;
  chunk.form = in_prompt ? AttentionForm::prefill : AttentionForm::decode;
  chunk.count = std::min((in_prompt ? sequence.prompt_tokens : sequence.size()) - chunk.begin, left.tokens);
  const bool every_row = in_prompt && sequence.wants_prompt_logprobs();
  if (every_row) chunk.count = std::min(chunk.count, left.logits);
  const auto reaches_end = [&] { return chunk.begin + chunk.count == sequence.size(); };
  if (reaches_end() && left.logits == 0) --chunk.count;

  chunk.count = std::min(chunk.count, reserve(sequence, chunk.begin + chunk.count, left, plan) - chunk.begin);
  if (chunk.count <= 0) return;
  chunk.num_logits = every_row ? chunk.count : reaches_end() ? 1 : 0;
  left.tokens -= chunk.count;
  left.logits -= chunk.num_logits;
  left.chunks -= 1;
  plan.push_back(chunk);
}

// Drafts never take what another sequence needs: a token and a row are kept for each that runs or could be let in, and
// blocks are taken only where some are free. `plan` holds one token of each decoding sequence, in rank order.
void Scheduler::add_drafts(Left& left, std::vector<PlannedChunk>& plan) {
  const auto planned = static_cast<int64_t>(plan.size());
  const int64_t others = std::min(max_running_, num_running() + num_waiting()) - planned;
  speculator_->begin_step(planned);
  for (PlannedChunk& chunk : plan) {
    Sequence& sequence = *chunk.sequence;
    if (sequence.draft.empty() || chunk.num_logits == 0) continue;
    const int64_t room = std::min({left.tokens - others, left.logits - others, sequence.answer.left() - 1});
    if (room <= 0) continue;
    int64_t depth = speculator_->depth(sequence.acceptance, sequence.draft, room);
    const int64_t end = chunk.begin + chunk.count;
    while (static_cast<int64_t>(sequence.blocks.size()) < blocks_for(end + depth)) {
      const std::optional<int32_t> block = cache_->allocate();
      if (!block.has_value()) break;
      sequence.blocks.push_back(*block);
    }
    depth = std::min(depth, static_cast<int64_t>(sequence.blocks.size()) * kCacheBlockTokens - end);
    chunk.num_drafts = depth;
    chunk.count += depth;
    chunk.num_logits += depth;
    left.tokens -= depth;
    left.logits -= depth;
  }
}

// Gets blocks for the first `tokens` tokens, as many as there are; how many tokens the sequence then has room for.
int64_t Scheduler::reserve(Sequence& sequence, int64_t tokens, Left& left, std::vector<PlannedChunk>& plan) {
  while (static_cast<int64_t>(sequence.blocks.size()) < blocks_for(tokens)) {
    if (const std::optional<int32_t> block = cache_->allocate(); block.has_value()) {
      sequence.blocks.push_back(*block);
      continue;
    }
    Sequence* victim = victim_below(sequence);
    if (victim == nullptr) break;
    preempt(*victim, left, plan);
  }
  return static_cast<int64_t>(sequence.blocks.size()) * kCacheBlockTokens;
}

// The lowest-ranked of those that hold blocks without running: paused, or resumed and not yet let in again.
Sequence* Scheduler::idle_holder(const Sequence& besides) const {
  for (const Ranked* idle : {&paused_, &waiting_})
    for (auto at = idle->rbegin(); at != idle->rend(); ++at)
      if (!(*at)->blocks.empty() && *at != &besides) return *at;
  return nullptr;
}

Sequence* Scheduler::victim_below(const Sequence& sequence) const {
  if (Sequence* idle = idle_holder(sequence); idle != nullptr) return idle;
  for (auto at = running_.rbegin(); at != running_.rend(); ++at) {
    if (!RanksBefore{}(&sequence, *at)) break;
    if (!(*at)->blocks.empty()) return *at;
  }
  return nullptr;
}

void Scheduler::preempt(Sequence& victim, Left& left, std::vector<PlannedChunk>& plan) {
  const auto planned = std::ranges::find(plan, &victim, &PlannedChunk::sequence);
  if (planned != plan.end()) {
    left.tokens += planned->count;
    left.logits += planned->num_logits;
    left.chunks += 1;
    plan.erase(planned);
  }
  give_back_blocks(victim);
  ++num_preemptions_;
  ++victim.live->usage.preemptions;
  if (victim.state != Sequence::State::running) return;
  running_.erase(&victim);
  add(victim);
}

bool Scheduler::admit(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  const auto lower_priority = [&]() -> Sequence* {
    if (running_.empty()) return nullptr;
    Sequence* last = *running_.rbegin();
    return last->live->request.priority < sequence.live->request.priority ? last : nullptr;
  };
  if (num_running() >= max_running_) {
    Sequence* victim = lower_priority();
    if (victim == nullptr) return false;
    preempt(*victim, left, plan);
  }
  const bool starts_anew = sequence.blocks.empty();
  if (starts_anew) match_prefix(sequence);
  // Room for all there is to compute and the next token, so that it is not sent away again at once.
  const int64_t wanted = blocks_for(sequence.size() + 1) - static_cast<int64_t>(sequence.blocks.size());
  while (cache_->num_available() < wanted) {
    Sequence* victim = idle_holder(sequence);
    if (victim == nullptr) victim = lower_priority();
    if (victim == nullptr) {
      if (starts_anew) give_back_blocks(sequence);
      return false;
    }
    preempt(*victim, left, plan);
  }

  if (!sequence.was_admitted) {
    sequence.was_admitted = true;
    prefix_queries_ += static_cast<uint64_t>(sequence.prompt_tokens);
    prefix_hits_ += static_cast<uint64_t>(sequence.computed);
    if (sequence.choice == 0) sequence.live->usage.cached_tokens = sequence.computed;
  }
  waiting_.erase(&sequence);
  running_.insert(&sequence);
  sequence.state = Sequence::State::running;
  take(sequence, left, plan);
  return true;
}

void Scheduler::match_prefix(Sequence& sequence) {
  if (sequence.wants_prompt_logprobs()) return;  // they need every row computed
  // The token whose logits come next is always computed: the last of the prompt, until there is an answer.
  const bool has_answer = sequence.size() > sequence.prompt_tokens;
  const int64_t full_blocks = (has_answer ? sequence.prompt_tokens : sequence.prompt_tokens - 1) / kCacheBlockTokens;
  PrefixCache::Match match = cache_->match(sequence.live->cache_space, sequence.tokens, full_blocks);
  sequence.blocks = std::move(match.blocks);
  sequence.shared = static_cast<int64_t>(sequence.blocks.size());
  sequence.shared_node = match.last;
  sequence.computed = sequence.shared * kCacheBlockTokens;
}

void Scheduler::commit(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  sequence.computed = chunk.begin + chunk.count - chunk.num_drafts;
  const LiveRequest& live = *sequence.live;
  if (chunk.form != AttentionForm::prefill || (!options_.prefix_cache && live.request.n == 1)) return;
  const int64_t full_blocks = std::min(sequence.computed, sequence.prompt_tokens) / kCacheBlockTokens;
  for (; sequence.shared < full_blocks; ++sequence.shared) {
    const auto i = static_cast<size_t>(sequence.shared);
    const auto tokens = std::span<const int32_t>(sequence.tokens).subspan(i * kCacheBlockTokens, kCacheBlockTokens);
    const PrefixCache::Inserted inserted =
        cache_->insert(live.cache_space, sequence.shared_node, tokens, sequence.blocks[i]);
    sequence.blocks[i] = inserted.block;
    sequence.shared_node = inserted.node;
    if (inserted.is_new && i < live.block_keys.size())
      new_blocks_.push_back({inserted.block, inserted.node->id, live.block_keys[i]});
  }
}

void Scheduler::give_back_blocks(Sequence& sequence) {
  for (auto block = sequence.blocks.rbegin(); block != sequence.blocks.rend(); ++block) cache_->release(*block);
  sequence.blocks.clear();
  sequence.computed = 0;
  sequence.shared = 0;
  sequence.shared_node = nullptr;
}

}  // namespace redoubt
