#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <random>

#include "text/tokenizer.h"

namespace redoubt {
namespace {

constexpr size_t kShortPiece = 64;                  // symbols; above this the heap is faster than scanning
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
  int32_t short_symbols[kShortPiece];
  std::vector<int32_t> long_symbols;
  int32_t* symbols = short_symbols;
  if (piece.size() > kShortPiece) {
    long_symbols.resize(piece.size());
    symbols = long_symbols.data();
  }
  size_t count = 0;
  bool after_unknown = false;
  for (const char c : piece) {
    int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id < 0;
    if (unknown && (!options_.unknown.has_value() || (after_unknown && options_.fuse_unknown))) continue;
    if (unknown) id = *options_.unknown;
    after_unknown = unknown;
    symbols[count++] = id;
  }
  if (count <= kShortPiece) {
    merge_short({symbols, count}, ids);
  } else {
    merge_long({symbols, count}, ids);
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

void Bpe::merge_long(std::span<const int32_t> symbols, std::vector<int32_t>& ids) const {
  // A linked list over the positions; the heap's entries are rank << 32 | position, so the top is the lowest rank and
  // the leftmost of equals. An entry whose rank is no longer that of its position is stale and skipped.
  struct Node {
    int32_t symbol, result;
    uint32_t previous, next, rank;
  };
  constexpr uint32_t kNone = UINT32_MAX;
  const auto count = static_cast<uint32_t>(symbols.size());
  std::vector<Node> nodes(count);
  std::vector<uint64_t> heap;
  heap.reserve(count);
  const auto look_up = [&](uint32_t position) {
    Node& node = nodes[position];
    const Ranked pair = node.next == kNone ? Ranked{} : ranked(node.symbol, nodes[node.next].symbol);
    node.rank = pair.rank;
    node.result = pair.result;
    return pair.rank != UINT32_MAX;
  };
  for (uint32_t i = 0; i < count; ++i) nodes[i] = {symbols[i], -1, i - 1, i + 1 < count ? i + 1 : kNone, UINT32_MAX};
  for (uint32_t i = 0; i < count; ++i) {
    if (look_up(i)) heap.push_back((uint64_t{nodes[i].rank} << 32) | i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t position) {
    if (!look_up(position)) return;
    heap.push_back((uint64_t{nodes[position].rank} << 32) | position);
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto position = static_cast<uint32_t>(heap.back());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    Node& node = nodes[position];
    if (node.rank != rank) continue;
    Node& gone = nodes[node.next];
    node.symbol = node.result;
    node.next = gone.next;
    gone.rank = UINT32_MAX;
    if (node.next != kNone) nodes[node.next].previous = position;
    push(position);
    if (node.previous != kNone) push(node.previous);
  }
  for (uint32_t i = 0; i != kNone; i = nodes[i].next) ids.push_back(nodes[i].symbol);
}

}  // namespace redoubt
