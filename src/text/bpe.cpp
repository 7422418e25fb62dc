#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <random>
#include <unordered_map>

#include "text/tokenizer.h"

namespace redoubt {
namespace {

constexpr size_t kShortPiece = 64;                  // bytes; above this a heap is faster than scanning
constexpr size_t kHeapPiece = 2048;                 // and above this a queue for each rank than a heap
constexpr size_t kMaxPiece = size_t{1} << 30;       // positions fit 32 bits; longer pieces are cut
constexpr uint64_t kMixer = 0x9e3779b97f4a7c15ull;  // 2^64 / golden ratio

uint64_t random_seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

uint64_t fold_multiply(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t load_tail(const char* data, size_t size) {  // size < 8
  uint64_t word = 0;
  for (size_t i = 0; i < size; ++i) word |= uint64_t{static_cast<unsigned char>(data[i])} << (8 * i);
  return word;
}

uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

constexpr uint32_t kNone = UINT32_MAX;

// Positions that wait for their rank's turn, given out lowest first. Nearly all come in order.
struct WaitingPositions {
  std::vector<uint32_t> in_order;
  size_t next = 0;
  std::vector<uint32_t> late;  // a heap of those that came after a higher one

  void push(uint32_t position) {
    if (in_order.empty() || position > in_order.back()) return in_order.push_back(position);
    late.push_back(position);
    std::push_heap(late.begin(), late.end(), std::greater<>());
  }
  uint32_t pop() {  // kNone: none is left
    const uint32_t first = next < in_order.size() ? in_order[next] : kNone;
    if (late.empty() || first < late.front()) return next += first != kNone ? 1 : 0, first;
    std::pop_heap(late.begin(), late.end(), std::greater<>());
    const uint32_t position = late.back();
    late.pop_back();
    return position;
  }
};

// Pairs that wait to be merged: the lowest rank first, the leftmost of equals. The first are added all at once.
// As one heap.
class WaitingInHeap {
 public:
  explicit WaitingInHeap(size_t positions) { heap_.reserve(positions); }
  void add_first(uint32_t rank, uint32_t position) { heap_.push_back((uint64_t{rank} << 32) | position); }
  void order_first() { std::make_heap(heap_.begin(), heap_.end(), std::greater<>()); }
  void push(uint32_t rank, uint32_t position) {
    heap_.push_back((uint64_t{rank} << 32) | position);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }
  bool pop(uint32_t& rank, uint32_t& position) {  // false: none is left
    if (heap_.empty()) return false;
    std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
    rank = static_cast<uint32_t>(heap_.back() >> 32);
    position = static_cast<uint32_t>(heap_.back());
    heap_.pop_back();
    return true;
  }

 private:
  std::vector<uint64_t> heap_;
};

// The same as a queue for each rank that has positions: a long run of equal characters has few ranks, and then nearly
// everything is in order.
class WaitingByRank {
 public:
  explicit WaitingByRank(size_t) {}
  void add_first(uint32_t rank, uint32_t position) { push(rank, position); }
  void order_first() {}
  void push(uint32_t rank, uint32_t position) {
    if (rank != last_rank_ || last_ == nullptr) {
      const auto [at, is_new] = by_rank_.try_emplace(rank);
      if (is_new) {
        ranks_.push_back(rank);
        std::push_heap(ranks_.begin(), ranks_.end(), std::greater<>());
      }
      last_rank_ = rank;
      last_ = &at->second;
    }
    last_->push(position);
  }
  bool pop(uint32_t& rank, uint32_t& position) {
    while (!ranks_.empty()) {
      rank = ranks_.front();
      position = lowest().pop();
      if (position != kNone) return true;
      drop_lowest();
    }
    return false;
  }

 private:
  WaitingPositions& lowest() {
    if (lowest_ == nullptr || lowest_rank_ != ranks_.front()) {
      lowest_rank_ = ranks_.front();
      lowest_ = &by_rank_.find(lowest_rank_)->second;
    }
    return *lowest_;
  }
  void drop_lowest() {
    by_rank_.erase(ranks_.front());
    std::pop_heap(ranks_.begin(), ranks_.end(), std::greater<>());
    ranks_.pop_back();
    last_ = lowest_ = nullptr;
  }

  std::unordered_map<uint32_t, WaitingPositions> by_rank_;  // its values stay where they are
  std::vector<uint32_t> ranks_;                             // a heap of its keys
  uint32_t last_rank_ = 0, lowest_rank_ = 0;
  WaitingPositions *last_ = nullptr, *lowest_ = nullptr;  // of those ranks, found before
};

}  // namespace

Vocabulary::Vocabulary() : slots_(1024), seed_(random_seed() | 1) {}

uint64_t Vocabulary::hash(std::string_view bytes) const {
  uint64_t state = seed_ ^ (bytes.size() * kMixer);
  const char* data = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, data += 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    state = fold_multiply(state ^ word, kMixer ^ seed_);
  }
  return fold_multiply(state ^ load_tail(data, left), kMixer + seed_);
}

void Vocabulary::resize(int32_t size) {
  Entry unused;
  unused.kind = TokenKind::unused;
  entries_.resize(static_cast<size_t>(size), unused);
}

void Vocabulary::set(int32_t id, std::string_view bytes, TokenKind kind) {
  Entry& entry = entries_[static_cast<size_t>(id)];
  entry = {static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(bytes.size()), kind, true};
  arena_ += bytes;
}

bool Vocabulary::index(int32_t id) {
  if (2 * (used_ + 1) > slots_.size()) grow();
  const std::string_view key = bytes(id);
  const uint64_t h = hash(key);
  for (size_t i = h & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    Slot& slot = slots_[i];
    if (slot.id < 0) {
      slot = {static_cast<uint32_t>(h >> 32), id};
      ++used_;
      return true;
    }
    if (slot.tag == static_cast<uint32_t>(h >> 32) && bytes(slot.id) == key) return slot.id == id;
  }
}

std::optional<int32_t> Vocabulary::find(std::string_view key) const {
  const uint64_t h = hash(key);
  for (size_t i = h & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[i];
    if (slot.id < 0) return std::nullopt;
    if (slot.tag == static_cast<uint32_t>(h >> 32) && bytes(slot.id) == key) return slot.id;
  }
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id < 0) continue;
    size_t i = hash(bytes(slot.id)) & (slots_.size() - 1);
    while (slots_[i].id >= 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
}

Bpe::Bpe(const Vocabulary& vocabulary, std::span<const Merge> merges, const std::vector<bool>& barred, Options options)
    : vocabulary_(&vocabulary), options_(options), seed_(random_seed() | 1) {
  for (int byte = 0; byte < 256; ++byte) {
    const char character = static_cast<char>(byte);
    byte_ids_[byte] = vocabulary.find({&character, 1}).value_or(-1);
  }
  const size_t capacity = std::bit_ceil(std::max<size_t>(2 * merges.size(), 16));
  pair_shift_ = 64 - std::countr_zero(capacity);
  pairs_.resize(capacity);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const Merge& merge = merges[rank];
    if (barred[static_cast<size_t>(merge.result)]) continue;
    const uint64_t key = pair_key(merge.left, merge.right);
    // Of a pair named twice the last counts, as in the reference.
    pairs_[pair_slot(key)] = {key, static_cast<uint32_t>(rank), merge.result};
  }

  direct_.resize(static_cast<size_t>(vocabulary.size()));
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    const std::string_view bytes = vocabulary.bytes(id);
    if (bytes.empty() || barred[static_cast<size_t>(id)] || vocabulary.find(bytes) != id) continue;
    if (!options.ignore_merges) {
      ids.clear();
      merge(bytes, ids);
      if (ids.size() != 1 || ids.front() != id) continue;
    }
    direct_[static_cast<size_t>(id)] = true;
  }
}

size_t Bpe::pair_slot(uint64_t key) const {
  size_t i = fold_multiply(key ^ seed_, kMixer + seed_) >> pair_shift_;
  while (pairs_[i].key != key && pairs_[i].key != UINT64_MAX) i = (i + 1) & (pairs_.size() - 1);
  return i;
}

Bpe::Ranked Bpe::ranked(int32_t left, int32_t right) const {
  const PairSlot& slot = pairs_[pair_slot(pair_key(left, right))];
  return {slot.rank, slot.result};
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  for (; piece.size() > kMaxPiece; piece.remove_prefix(kMaxPiece)) merge(piece.substr(0, kMaxPiece), ids);
  if (const auto id = vocabulary_->find(piece); id.has_value() && direct_[static_cast<size_t>(*id)]) {
    ids.push_back(*id);
    return;
  }
  merge(piece, ids);
}

void Bpe::merge(std::string_view piece, std::vector<int32_t>& ids) const {
  if (piece.size() > kHeapPiece) return merge_long<WaitingByRank>(piece, ids);
  if (piece.size() > kShortPiece) return merge_long<WaitingInHeap>(piece, ids);
  int32_t symbols[kShortPiece];
  size_t count = 0;
  for_each_symbol(piece, [&](int32_t symbol) { symbols[count++] = symbol; });
  merge_short({symbols, count}, ids);
}

template <class OnSymbol>
void Bpe::for_each_symbol(std::string_view piece, const OnSymbol& on_symbol) const {
  bool after_unknown = false;
  for (const char c : piece) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id < 0;
    if (unknown && (!options_.unknown.has_value() || (after_unknown && options_.fuse_unknown))) continue;
    after_unknown = unknown;
    on_symbol(unknown ? *options_.unknown : id);
  }
}

void Bpe::merge_short(std::span<int32_t> symbols, std::vector<int32_t>& ids) const {
  size_t count = symbols.size();
  if (count == 0) return;
  uint32_t ranks[kShortPiece];  // of the pair that begins here
  int32_t results[kShortPiece];
  const auto look_up = [&](size_t i) {
    const Ranked pair = ranked(symbols[i], symbols[i + 1]);
    ranks[i] = pair.rank;
    results[i] = pair.result;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) best = ranks[i] < ranks[best] ? i : best;
    if (ranks[best] == UINT32_MAX) break;
    symbols[best] = results[best];
    for (size_t i = best + 1; i + 1 < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];  // the last one moved is stale and outside the new count
      results[i] = results[i + 1];
    }
    --count;
    if (best > 0) look_up(best - 1);
    if (best + 1 < count) look_up(best);
  }
  ids.insert(ids.end(), symbols.begin(), symbols.begin() + static_cast<ptrdiff_t>(count));
}

template <class Waiting>
void Bpe::merge_long(std::string_view piece, std::vector<int32_t>& ids) const {
  // A linked list over the positions. What waits at a position is stale if its rank is no longer that position's.
  struct Node {
    int32_t symbol;
    uint32_t previous, next;
    uint32_t rank = UINT32_MAX;  // of the pair that begins here
  };
  std::vector<Node> nodes;
  nodes.reserve(piece.size());
  for_each_symbol(piece, [&](int32_t symbol) {
    const auto i = static_cast<uint32_t>(nodes.size());
    nodes.push_back({symbol, i - 1, i + 1});  // the first one's previous is kNone
  });
  if (nodes.empty()) return;
  nodes.back().next = kNone;

  Waiting waiting(nodes.size());
  const auto may_merge = [&](uint32_t position) {
    Node& node = nodes[position];
    node.rank = node.next == kNone ? UINT32_MAX : ranked(node.symbol, nodes[node.next].symbol).rank;
    return node.rank != UINT32_MAX;
  };
  for (uint32_t i = 0; i < nodes.size(); ++i) {
    if (may_merge(i)) waiting.add_first(nodes[i].rank, i);
  }
  waiting.order_first();
  const auto push = [&](uint32_t position) {
    if (may_merge(position)) waiting.push(nodes[position].rank, position);
  };
  for (uint32_t rank = 0, position = 0; waiting.pop(rank, position);) {
    Node& node = nodes[position];
    if (node.rank != rank) continue;
    Node& gone = nodes[node.next];
    node.symbol = ranked(node.symbol, gone.symbol).result;
    node.next = gone.next;
    gone.rank = UINT32_MAX;
    if (node.next != kNone) nodes[node.next].previous = position;
    if (node.previous != kNone) push(node.previous);
    push(position);
  }
  for (uint32_t i = 0; i != kNone; i = nodes[i].next) ids.push_back(nodes[i].symbol);
}

}  // namespace redoubt
