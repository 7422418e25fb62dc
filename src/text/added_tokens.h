// Finds added tokens in a text: the longest at the leftmost position, wholly inside one markup range.
//
// Source: the added_tokens of tokenizer.json and their flags. Differs: lstrip and rstrip take only white space of the
// same markup range along, so that no byte of a user's text is lost.
// Bound: one table look-up a byte; a walk of at most kMaxAddedTokenBytes where a token could begin.
// Thread safety: const after construction.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "text/tokenizer_spec.h"

namespace redoubt {

struct AddedMatch {
  size_t begin = 0, end = 0;  // bytes of the text
  int32_t id = 0;
};

class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }
  // The matches inside text[begin, end), in order. `markup` is sorted, without overlap, and inside the text. What lies
  // outside [begin, end) does not exist for single_word.
  std::vector<AddedMatch> find(std::string_view text, size_t begin, size_t end,
                               std::span<const MarkedText::Range> markup) const;

 private:
  const AddedToken* longest_at(std::string_view rest) const;

  std::vector<AddedToken> tokens_;     // sorted by content
  std::array<bool, 256> may_begin_{};  // by first byte
};

}  // namespace redoubt
