#include "engine/disk_prefix.h"

#include <algorithm>

namespace redoubt {

namespace {

constexpr int64_t kPieceBytes = int64_t{16} << 20;  // a few milliseconds of copying
constexpr size_t kMaxReadings = 4;                  // sequences at once
constexpr int64_t kLookAhead = 8;                   // waiting sequences, the first in rank

}  // namespace

void DiskPrefix::advance() {
  int64_t seen = 0;
  for (Sequence* sequence : scheduler_.waiting()) {
    if (readings_.size() >= kMaxReadings || seen > kLookAhead) break;
    seen += sequence->choice == 0 ? 1 : 0;
    if (sequence->on_disk == Sequence::OnDisk::unknown) begin(*sequence);
  }
  int64_t left_bytes = kPieceBytes;
  std::erase_if(readings_, [&](Reading& reading) { return !take(reading, left_bytes); });
  write_pending();
}

void DiskPrefix::begin(Sequence& sequence) {
  sequence.on_disk = Sequence::OnDisk::taken;
  const std::vector<CacheKey>& keys = sequence.live->block_keys;
  // Another choice waits for the first; who has begun already has what there was; every row is wanted for logprobs.
  if (sequence.choice != 0 || sequence.was_admitted || sequence.wants_prompt_logprobs() || keys.empty()) return;
  if (!sequence.blocks.empty()) return;
  scheduler_.match_prefix(sequence);
  const auto first = static_cast<size_t>(sequence.shared);
  const auto most = static_cast<size_t>((sequence.prompt_tokens - 1) / kCacheBlockTokens);
  size_t end = first;
  while (end < most && disk_.contains(keys[end])) ++end;
  queries_ += (most - std::min(most, first)) * kCacheBlockTokens;
  if (end == first) return scheduler_.give_back_blocks(sequence);
  sequence.on_disk = Sequence::OnDisk::reading;
  readings_.push_back(
      {&sequence,
       disk_.read({keys.begin() + static_cast<std::ptrdiff_t>(first), keys.begin() + static_cast<std::ptrdiff_t>(end)},
                  model_.cache_block_bytes(), wake_),
       sequence.shared});
}

// False: the reading is over, and the sequence may start with what it has.
bool DiskPrefix::take(Reading& reading, int64_t& left_bytes) {
  Sequence& sequence = *reading.sequence;
  while (left_bytes > 0) {
    BlockReading::Next next = reading.blocks->next();
    if (next.block.empty() && !next.over) return true;
    // Its blocks may have been taken from it meanwhile; then what was read has no place to go.
    if (next.over || sequence.shared != reading.next || !place(sequence, next.block)) {
      sequence.on_disk = Sequence::OnDisk::taken;
      return false;
    }
    ++reading.next;
    left_bytes -= static_cast<int64_t>(next.block.size());
  }
  wake_();  // there may be more, and nobody else would say so
  return true;
}

bool DiskPrefix::place(Sequence& sequence, std::span<const std::byte> bytes) {
  const std::optional<int32_t> block = cache_.allocate();
  if (!block.has_value()) return false;
  model_.write_block(*block, bytes);
  const auto tokens = std::span<const int32_t>(sequence.tokens)
                          .subspan(static_cast<size_t>(sequence.shared * kCacheBlockTokens), kCacheBlockTokens);
  const PrefixCache::Inserted inserted =
      cache_.insert(sequence.live->cache_space, sequence.shared_node, tokens, *block);
  sequence.blocks.push_back(inserted.block);
  sequence.shared_node = inserted.node;
  ++sequence.shared;
  sequence.computed = sequence.shared * kCacheBlockTokens;
  hits_ += kCacheBlockTokens;
  sequence.live->disk_tokens += kCacheBlockTokens;
  return true;
}

void DiskPrefix::spill(const std::vector<Scheduler::NewBlock>& blocks) {
  pending_.insert(pending_.end(), blocks.begin(), blocks.end());
  // More than the cache has blocks: the oldest are gone from it already.
  while (static_cast<int64_t>(pending_.size()) > cache_.num_blocks()) pending_.pop_front();
  write_pending();
}

void DiskPrefix::write_pending() {
  const int64_t block_bytes = model_.cache_block_bytes();
  for (int64_t left_bytes = kPieceBytes; left_bytes > 0 && !pending_.empty() && disk_.has_room(block_bytes);) {
    const Scheduler::NewBlock block = pending_.front();
    pending_.pop_front();
    if (!cache_.is_node_of(block.block, block.node_id) || disk_.contains(block.key)) continue;
    std::vector<std::byte> bytes(static_cast<size_t>(block_bytes));
    model_.read_block(block.block, bytes);
    disk_.write(block.key, std::move(bytes), wake_);
    left_bytes -= block_bytes;
  }
}

void DiskPrefix::forget(const Sequence& sequence) {
  std::erase_if(readings_, [&](const Reading& reading) { return reading.sequence == &sequence; });
}

}  // namespace redoubt
