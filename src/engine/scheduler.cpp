#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace redoubt {

namespace {

constexpr int64_t kBurstSteps = 8;  // full steps that a tenant may have saved up
constexpr double kNearSeconds = 1;  // a tenant that wanted something so short a time ago may come again
constexpr double kTimesLost = 4;    // for so many times the time that was given up, nothing more is

int64_t blocks_for(int64_t tokens) { return (tokens + kCacheBlockTokens - 1) / kCacheBlockTokens; }

}  // namespace

Scheduler::Scheduler(const Options& options, PrefixCache& cache, Speculator& speculator)
    : options_(options),
      cache_(&cache),
      speculator_(&speculator),
      fair_share_(kBurstSteps * std::max<int64_t>(1, options.step.max_tokens)) {
  const StepLimits& step = options.step;
  max_running_ =
      std::max<int64_t>(1, std::min({options.max_running, step.max_tokens, step.max_chunks, step.max_logits}));
}

void Scheduler::add(Sequence& sequence) {
  Lane& lane = lanes_[sequence.live->request.tenant];
  sequence.lane = &lane;
  lane.weight = sequence.live->request.share_weight;
  if (lane.members++ == 0) fair_share_.enter(lane);
  enter(sequence);
}

void Scheduler::enter(Sequence& sequence) {
  sequence.state = Sequence::State::waiting;
  waiting_.insert(&sequence);
  sequence.lane->waiting.insert(&sequence);
}

void Scheduler::leave(Sequence& sequence) {
  waiting_.erase(&sequence);
  sequence.lane->waiting.erase(&sequence);
  num_running_ -= static_cast<int64_t>(sequence.lane->running.erase(&sequence));
}

void Scheduler::remove(Sequence& sequence) {
  leave(sequence);
  paused_.erase(&sequence);
  give_back_blocks(sequence);
  sequence.state = Sequence::State::finished;
  --sequence.lane->members;
}

void Scheduler::pause(Sequence& sequence) {
  if (sequence.state == Sequence::State::paused || sequence.state == Sequence::State::finished) return;
  leave(sequence);
  paused_.insert(&sequence);
  sequence.state = Sequence::State::paused;
}

void Scheduler::resume(Sequence& sequence) {
  if (sequence.state != Sequence::State::paused) return;
  paused_.erase(&sequence);
  enter(sequence);
}

// Tokens that the lane could compute in the next step, by their cost, no further than `enough`.
int64_t Scheduler::demand_of(const Lane& lane, int64_t enough) const {
  int64_t tokens = 0;
  for (const Ranked* sequences : {&lane.running, &lane.waiting}) {
    for (const Sequence* sequence : *sequences) {
      if (tokens >= enough) return enough;
      if (sequences == &lane.waiting && !sequence->may_start()) continue;
      const int64_t left = std::min(enough, sequence->size() - sequence->computed);
      tokens += static_cast<int64_t>(options_.token_cost.of(sequence->computed, left));
    }
  }
  return std::min(tokens, enough);
}

int64_t Scheduler::order_lanes() {
  active_.clear();
  const int64_t most = options_.step.max_tokens;
  const int64_t contended = pace_.tokens_within(options_.contended_step_seconds, most);
  int64_t near = 0;  // those that want something, and those that lately did
  for (auto at = lanes_.begin(); at != lanes_.end();) {
    Lane& lane = at->second;
    lane.demand = demand_of(lane, most);
    if (lane.demand > 0) {
      lane.wanted_at = busy_seconds_;
      active_.push_back(&lane);
    }
    const bool is_near = lane.wanted_at + kNearSeconds >= busy_seconds_;
    near += is_near ? 1 : 0;
    const bool is_gone = lane.members == 0 && !is_near;
    at = is_gone && fair_share_.is_forgettable(lane) ? lanes_.erase(at) : std::next(at);
  }
  const bool is_short = near > 1 || busy_seconds_ < short_until_;
  may_give_up_ = !is_short;
  const int64_t tokens = is_short ? contended : most;
  fair_share_.advance(active_, contended);
  FairShare::order(active_, tokens);
  return tokens;
}

void Scheduler::observe_step(std::span<const PlannedChunk> plan, double seconds) {
  double tokens = 0;
  int64_t rows = 0;
  for (const PlannedChunk& chunk : plan) {
    tokens += options_.token_cost.of(chunk.begin, chunk.count);
    rows += chunk.num_logits;
  }
  pace_.observe(std::llround(tokens), rows, seconds);
  busy_seconds_ += seconds;
}

void Scheduler::give_up(double seconds) {
  busy_seconds_ += seconds;
  short_until_ = busy_seconds_ + kTimesLost * seconds;
}

void Scheduler::plan(std::vector<PlannedChunk>& plan) {
  plan.clear();
  const int64_t tokens = order_lanes();
  if (active_.empty()) return;
  ++num_steps_;
  int64_t decoding = 0, reserved = 0;
  for (Share* share : active_) {
    const Lane& lane = *static_cast<Lane*>(share);
    decoding += std::ranges::count_if(lane.running, &Sequence::is_decoding);
    reserved += share->reserved;
  }
  speculator_->begin_step(decoding);
  Left left{.tokens = tokens, .logits = options_.step.max_logits, .chunks = options_.step.max_chunks};
  if (!may_give_up_) {
    left.row_tokens = pace_.row_tokens(tokens);
    left.cost = &options_.token_cost;
  }
  for (Share* share : active_) {
    reserved -= share->reserved;
    left.tokens -= reserved;
    serve(*static_cast<Lane*>(share), left, plan);
    left.tokens += reserved;
  }
}

void Scheduler::serve(Lane& lane, Left& left, std::vector<PlannedChunk>& plan) {
  order_.assign(lane.running.begin(), lane.running.end());
  // Where not all can take part, those go first that have waited longest.
  if (static_cast<double>(left.tokens) < (1 + left.row_tokens) * static_cast<double>(order_.size()))
    std::ranges::stable_sort(order_, {}, [](const Sequence* sequence) { return sequence->last_step; });
  for (const bool decoding : {true, false}) {
    for (Sequence* sequence : order_) {
      // Taking blocks for an earlier one may have sent this one back to wait.
      if (sequence->state == Sequence::State::running && sequence->is_decoding() == decoding)
        take(*sequence, left, plan);
    }
    if (decoding) add_drafts(lane, left, plan);
  }
  while (left.tokens > 0) {
    const auto next = std::ranges::find_if(lane.waiting, &Sequence::may_start);
    // The first one that does not fit closes the door behind it: nobody overtakes, nobody starves.
    if (next == lane.waiting.end() || !admit(**next, left, plan)) break;
  }
}

int64_t Scheduler::Left::tokens_from(int64_t begin) const {
  return cost == nullptr ? tokens : std::max<int64_t>(1, cost->tokens_within(static_cast<double>(tokens), begin));
}

double Scheduler::Left::beyond(int64_t begin, int64_t count, int64_t rows) const {
  const double by_depth = cost == nullptr ? 0 : cost->of(begin, count) - static_cast<double>(count);
  return by_depth + row_tokens * static_cast<double>(rows);
}

void Scheduler::Left::take_off(int64_t count, double count_beyond) {
  spent_beyond += count_beyond;
  const auto whole = static_cast<int64_t>(spent_beyond);
  spent_beyond -= static_cast<double>(whole);
  tokens -= count + whole;
}

void Scheduler::Left::spend(int64_t begin, int64_t count, int64_t rows) {
  logits -= rows;
  take_off(count, beyond(begin, count, rows));
}

void Scheduler::Left::give_back(int64_t begin, int64_t count, int64_t rows) {
  logits += rows;
  take_off(-count, -beyond(begin, count, rows));
}

void Scheduler::take(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  if (left.chunks == 0 || left.tokens <= 0) return;
  PlannedChunk chunk{.sequence = &sequence, .begin = sequence.computed};
  const bool in_prompt = chunk.begin < sequence.prompt_tokens;
  chunk.form = in_prompt ? AttentionForm::prefill : AttentionForm::decode;
  chunk.count =
      std::min((in_prompt ? sequence.prompt_tokens : sequence.size()) - chunk.begin, left.tokens_from(chunk.begin));
  const bool every_row = in_prompt && sequence.wants_prompt_logprobs();
  if (every_row) chunk.count = std::min(chunk.count, left.logits);
  const auto reaches_end = [&] { return chunk.begin + chunk.count == sequence.size(); };
  if (reaches_end() && left.logits == 0) --chunk.count;

  chunk.count = std::min(chunk.count, reserve(sequence, chunk.begin + chunk.count, left, plan) - chunk.begin);
  if (chunk.count <= 0) return;
  chunk.num_logits = every_row ? chunk.count : reaches_end() ? 1 : 0;
  left.spend(chunk.begin, chunk.count, chunk.num_logits);
  left.chunks -= 1;
  sequence.last_step = num_steps_;
  plan.push_back(chunk);
}

// Drafts never take what another sequence needs: a token and a row are kept for each that runs or could be let in, and
// blocks are taken only where some are free. `plan` holds one token of each decoding sequence, in rank order.
void Scheduler::add_drafts(const Lane& lane, Left& left, std::vector<PlannedChunk>& plan) {
  const int64_t others = std::min(max_running_, num_running() + num_waiting()) - static_cast<int64_t>(plan.size());
  for (PlannedChunk& chunk : plan) {
    Sequence& sequence = *chunk.sequence;
    if (sequence.lane != &lane || sequence.draft.empty() || chunk.num_logits == 0) continue;
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
    left.spend(end, depth, depth);
  }
}

bool Scheduler::admit(Sequence& sequence, Left& left, std::vector<PlannedChunk>& plan) {
  if (num_running() >= max_running_ && place_holder_for(sequence) == nullptr) return false;
  const bool starts_anew = sequence.blocks.empty();
  if (starts_anew) match_prefix(sequence);
  // Room for all there is to compute and the next token, so that it is not sent away again at once.
  const int64_t wanted = blocks_for(sequence.size() + 1) - static_cast<int64_t>(sequence.blocks.size());
  const int64_t then = wanted + static_cast<int64_t>(sequence.blocks.size());
  if (holding_of(*sequence.lane, then) > left.poorest_waiting || !make_room(sequence, wanted, left, plan)) {
    if (starts_anew) give_back_blocks(sequence);
    left.poorest_waiting = std::min(left.poorest_waiting, holding_of(*sequence.lane, 0));
    return false;
  }
  if (num_running() >= max_running_) make_place(sequence, left, plan);

  if (!sequence.was_admitted) {
    sequence.was_admitted = true;
    prefix_queries_ += static_cast<uint64_t>(sequence.prompt_tokens);
    prefix_hits_ += static_cast<uint64_t>(sequence.computed);
    if (sequence.choice == 0) sequence.live->usage.cached_tokens = sequence.computed;
  }
  leave(sequence);
  sequence.lane->running.insert(&sequence);
  ++num_running_;
  sequence.state = Sequence::State::running;
  take(sequence, left, plan);
  return true;
}

void Scheduler::match_prefix(Sequence& sequence) {
  if (sequence.wants_prompt_logprobs()) return;  // they need every row computed
  // The token whose logits come next is always computed: the last one.
  const int64_t last = sequence.size() - 1;
  const int64_t full_blocks =
      (options_.cache_answers ? last : std::min(last, sequence.prompt_tokens)) / kCacheBlockTokens;
  PrefixCache::Match match = cache_->match(sequence.live->cache_space, sequence.tokens, full_blocks);
  sequence.blocks = std::move(match.blocks);
  sequence.shared = static_cast<int64_t>(sequence.blocks.size());
  sequence.shared_node = match.last;
  sequence.computed = sequence.shared * kCacheBlockTokens;
}

void Scheduler::commit(const PlannedChunk& chunk) {
  Sequence& sequence = *chunk.sequence;
  fair_share_.charge(*sequence.lane, options_.token_cost.of(chunk.begin, chunk.count));
  sequence.computed = chunk.begin + chunk.count - chunk.num_drafts;
  int64_t& prefilled = sequence.live->usage.prefilled_tokens;
  prefilled = std::max(prefilled, std::min(sequence.computed, sequence.prompt_tokens));
  const LiveRequest& live = *sequence.live;
  const bool is_prompt = chunk.form == AttentionForm::prefill;
  if (!(is_prompt || options_.cache_answers) || (!options_.prefix_cache && live.request.n == 1)) return;
  const int64_t in_cache = is_prompt ? std::min(sequence.computed, sequence.prompt_tokens) : sequence.computed;
  const int64_t full_blocks = in_cache / kCacheBlockTokens;
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
