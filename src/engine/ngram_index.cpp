#include "engine/ngram_index.h"

#include <algorithm>
#include <bit>

#include "core/result.h"
#include "engine/counter_random.h"

namespace redoubt {

namespace {

size_t bucket_before(std::span<const int32_t> tokens, int64_t place, int64_t width, size_t buckets) {
  uint64_t hash = 0;
  for (int64_t i = place - width; i < place; ++i)
    hash = mix_bits(hash ^ static_cast<uint32_t>(tokens[static_cast<size_t>(i)]));
  return static_cast<size_t>(hash) & (buckets - 1);
}

int64_t match_before(std::span<const int32_t> tokens, int64_t place) {
  const auto end = static_cast<int64_t>(tokens.size());
  int64_t length = 0;
  while (length < NgramIndex::kMaxMatch && length < place &&
         tokens[static_cast<size_t>(place - 1 - length)] == tokens[static_cast<size_t>(end - 1 - length)])
    ++length;
  return length;
}

}  // namespace

void NgramIndex::file(Chains& chains, std::span<const int32_t> tokens, int64_t begin, int64_t end) {
  // Twice as many hashes as tokens; growing files everything again, so it happens at doublings only.
  const size_t wanted = std::bit_ceil(std::max<size_t>(64, 2 * tokens.size()));
  if (chains.newest.size() < wanted) {
    chains.newest.assign(wanted, -1);
    chains.earlier.reserve(wanted / 2);
    chains.earlier.clear();
    begin = 0;
  }
  for (int64_t place = std::max(begin, chains.width); place < end; ++place) {
    int32_t& newest = chains.newest[bucket_before(tokens, place, chains.width, chains.newest.size())];
    chains.earlier.push_back(newest);
    newest = static_cast<int32_t>(place);
  }
}

NgramIndex::Match NgramIndex::longest(const Chains& chains, std::span<const int32_t> tokens) const {
  const auto end = static_cast<int64_t>(tokens.size());
  Match best;
  int32_t place = chains.newest[bucket_before(tokens, end, chains.width, chains.newest.size())];
  for (int i = 0; i < kCandidates && place >= 0; ++i) {
    const int64_t length = match_before(tokens, place);
    if (length > best.length) best = {length, place};
    place = chains.earlier[static_cast<size_t>(place - chains.width)];
  }
  return best.length >= chains.width ? best : Match{};
}

NgramIndex::Match NgramIndex::find(std::span<const int32_t> tokens) {
  const auto size = static_cast<int64_t>(tokens.size());
  REDOUBT_ASSERT(size >= filed_);
  const int64_t end = std::min(size, filed_ + kFiledAtOnce);  // the place `size` itself has nothing behind it yet
  for (Chains& chains : chains_) file(chains, tokens, filed_, end);
  filed_ = end;
  for (const Chains& chains : chains_) {
    if (size < chains.width) continue;
    if (const Match match = longest(chains, tokens); match.length > 0) return match;
  }
  return {};
}

void copy_continuation(std::span<const int32_t> tokens, const NgramIndex::Match& match, int64_t count,
                       std::vector<int32_t>& out) {
  const auto size = static_cast<int64_t>(tokens.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = match.next + i;
    out.push_back(from < size ? tokens[static_cast<size_t>(from)]
                              : out[out.size() - static_cast<size_t>(size - match.next)]);
  }
}

}  // namespace redoubt
