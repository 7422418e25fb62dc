// Where the end of a text stood before: the look-up behind drafts from the prompt and the answer so far.
//
// Source: prompt look-up decoding, which is a match search as in LZ77: every place is filed under a hash of the two and
// of the four tokens before it, and the most recent places are compared backwards, longest match first. Bound: a call
// files at most kFiledAtOnce new tokens and compares at most 2 kCandidates places of kMaxMatch tokens, whatever the
// length of the text; when the text has doubled it is filed anew. Memory: 24 bytes a token at most. Thread safety:
// none.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace redoubt {

class NgramIndex {
 public:
  static constexpr int64_t kMaxMatch = 32;

  struct Match {
    int64_t length = 0;  // tokens before `next` that equal the end of the text; 0: none found
    int64_t next = 0;    // what stands there may come again
  };
  // `tokens` begins with what was given before and only ever grows; the index keeps no copy of it.
  Match find(std::span<const int32_t> tokens);

 private:
  static constexpr int64_t kFiledAtOnce = 8192;
  static constexpr int kCandidates = 16;

  // Places p, each filed under a hash of the `width` tokens before it, the most recent first.
  struct Chains {
    int64_t width = 0;
    std::vector<int32_t> newest;   // [a power of two]: the last place of a hash, -1: none
    std::vector<int32_t> earlier;  // [p - width]: the place before it with the same hash
  };
  void file(Chains& chains, std::span<const int32_t> tokens, int64_t begin, int64_t end);
  Match longest(const Chains& chains, std::span<const int32_t> tokens) const;

  int64_t filed_ = 0;  // places up to this one, exclusive
  std::array<Chains, 2> chains_{Chains{4, {}, {}}, Chains{2, {}, {}}};
};

// The tokens that followed the match, `count` of them; a match near the end repeats itself (a text of one period).
void copy_continuation(std::span<const int32_t> tokens, const NgramIndex::Match& match, int64_t count,
                       std::vector<int32_t>& out);

}  // namespace redoubt
