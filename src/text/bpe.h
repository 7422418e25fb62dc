// Byte-pair encoding inside one piece of text.
//
// From single bytes, the adjacent pair of lowest rank (leftmost of equals) is merged until no pair has a rank.
// Source: Sennrich et al. 2016 (arXiv:1508.07909); byte-level as in GPT-2.
// Bound: most pieces of prose are one token: one look-up in a hash table. Short pieces merge by scanning, O(n^2) with a
// small n; longer ones with a heap, O(n log n); the longest with a queue for each rank, nearly O(n) for runs of one
// character and with about 25 bytes of memory a byte, so that megabytes without a space are no attack.
// The hash tables are seeded per object: a hostile file cannot aim its entries at one slot.
// Thread safety: const after construction.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace redoubt {

enum class TokenKind : uint8_t;

// Ids to bytes, and back for the tokens that BPE may make.
class Vocabulary {
 public:
  Vocabulary();

  // Reserves ids [0, size); each starts as unused and without bytes.
  void resize(int32_t size);
  int32_t size() const { return static_cast<int32_t>(entries_.size()); }
  void set(int32_t id, std::string_view bytes, TokenKind kind);
  // Makes `id` the answer of find(its bytes). False if another id already is.
  bool index(int32_t id);
  std::optional<int32_t> find(std::string_view bytes) const;

  std::string_view bytes(int32_t id) const {
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return std::string_view(arena_).substr(entry.begin, entry.length);
  }
  TokenKind kind(int32_t id) const { return entries_[static_cast<size_t>(id)].kind; }
  bool is_set(int32_t id) const { return entries_[static_cast<size_t>(id)].set; }
  void set_kind(int32_t id, TokenKind kind) { entries_[static_cast<size_t>(id)].kind = kind; }

 private:
  struct Entry {
    uint32_t begin = 0, length = 0;
    TokenKind kind{};
    bool set = false;
  };
  struct Slot {
    uint32_t tag = 0;  // upper hash bits: spares most comparisons
    int32_t id = -1;
  };
  uint64_t hash(std::string_view bytes) const;
  void grow();

  std::vector<Entry> entries_;
  std::string arena_;
  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t used_ = 0;
  uint64_t seed_;
};

struct Merge {
  int32_t left = 0, right = 0, result = 0;
};

class Bpe {
 public:
  struct Options {
    bool ignore_merges = false;
    std::optional<int32_t> unknown;  // for a byte without a token; nullopt: the byte is dropped
    bool fuse_unknown = false;
  };
  // `vocabulary` must outlive this. `barred[id]`: never made from text (added tokens).
  Bpe(const Vocabulary& vocabulary, std::span<const Merge> merges, const std::vector<bool>& barred, Options options);

  void encode(std::string_view piece, std::vector<int32_t>& ids) const;

 private:
  struct PairSlot {
    uint64_t key = UINT64_MAX;
    uint32_t rank = UINT32_MAX;
    int32_t result = -1;
  };
  struct Ranked {
    uint32_t rank = UINT32_MAX;  // UINT32_MAX: the pair does not merge
    int32_t result = -1;
  };

  size_t pair_slot(uint64_t key) const;
  Ranked ranked(int32_t left, int32_t right) const;
  void merge(std::string_view piece, std::vector<int32_t>& ids) const;
  template <class OnSymbol>
  void for_each_symbol(std::string_view piece, const OnSymbol& on_symbol) const;
  void merge_short(std::span<int32_t> symbols, std::vector<int32_t>& ids) const;
  template <class Waiting>
  void merge_long(std::string_view piece, std::vector<int32_t>& ids) const;

  const Vocabulary* vocabulary_;
  Options options_;
  int32_t byte_ids_[256];
  std::vector<PairSlot> pairs_;  // a power of two, at most half full
  std::vector<bool> direct_;     // a piece with this token's bytes is this token
  int pair_shift_ = 0;
  uint64_t seed_;
};

}  // namespace redoubt
