// A vocabulary cut by what its tokens are made of, so that a state which reads any text need not be asked token by
// token.
//
// A slice is a set of characters C and the tokens that consist of those alone. Where a grammar's state survives every
// string over C of up to n characters (found on the automaton, without a token), all the slice's tokens of that length
// are allowed at once; only the few tokens of no slice (with quotes, backslashes, control characters, parts of
// characters) are walked. The walk over the whole trie is the slow twin (grammar_test).
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/token_trie.h"

namespace redoubt::grammar {

// Characters without '"', '\\' and controls. Ordered so that a slice comes after every slice whose set it contains.
enum class SliceSet : uint8_t { lower, letters, names, words, ascii, text };
constexpr size_t kSlices = 6;

// A byte's place within a character: which bytes may come next when only characters of a slice's set may be written.
// State 0 is between characters; 1 to 3: that many continuation bytes 80..BF are due; 4 to 7: the first of them is
// narrower (E0: A0..BF, ED: 80..9F, F0: 90..BF, F4: 80..8F).
constexpr size_t kUtf8States = 8;
struct Utf8Step {
  uint8_t first, last, target;
};
std::span<const Utf8Step> utf8_steps(SliceSet set, uint8_t state);

// Tokens by their length in characters.
class TokensByLength {
 public:
  TokensByLength() = default;
  TokensByLength(std::vector<std::pair<uint32_t, int32_t>> tokens, size_t mask_words);  // length, id
  uint32_t longest() const { return longest_; }
  size_t size() const { return size_; }
  void add_up_to(uint32_t length, std::span<uint32_t> mask) const;

 private:
  static constexpr uint32_t kMasks = 16;              // lengths with a mask of their own; longer tokens are few
  std::vector<std::vector<uint32_t>> up_to_;          // [n]: a bit for each token of 1 to n+1 characters
  std::vector<std::pair<uint32_t, int32_t>> longer_;  // by length
  uint32_t longest_ = 0;
  size_t size_ = 0;
};

class TokenSlices {
 public:
  struct Slice {
    TokensByLength tokens;  // those of no earlier slice whose set this one contains
    TokenTrie trie;         // the same; nodes name their origin in the whole trie
  };
  // Of all tokens with a text, and the trie of all of them.
  TokenSlices(const std::vector<TokenTrie::Entry>& entries, const TokenTrie& whole, size_t vocab_size);

  const Slice& operator[](SliceSet set) const { return slices_[static_cast<size_t>(set)]; }
  const TokensByLength& all_text() const {
    return all_text_;
  }  // of all slices together: the tokens over SliceSet::text
  // Of those the ones of up to `length` characters, without these characters.
  void add_text(uint32_t length, const std::bitset<128>& without, std::span<uint32_t> mask) const;
  const TokenTrie& rest() const { return rest_; }  // tokens of no slice, or very long

 private:
  std::array<Slice, kSlices> slices_;
  TokensByLength all_text_;
  std::array<std::vector<uint32_t>, 128>
      with_;  // a bit for each token of all_text_ with this character; some are empty
  TokenTrie rest_;
};

}  // namespace redoubt::grammar
