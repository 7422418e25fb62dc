// How much a step may compute to last no longer than a given time, from what the recent ones took.
//
// The time of a step is a line over its tokens and so much for each row of logits: the head, and the attention of one
// more sequence. A mean is kept for each size seen, in powers of two; the line goes through their times without their
// rows. What a row costs is learned by least squares among steps of one size, of which some have more rows than others.
// Above the largest size the line is proportional to tokens: longer than it is, so that sizes grow into what was not
// seen. Below the smallest it goes on as from one at least twice as large, or in proportion where there is none: never
// from the slope between sizes that are close together, which is chance. A correction rises at once with a step slower
// than the line and fades over the next ones: prompts cost more the deeper they are. (StepCost of speculation.h fits a
// straight line: it has few sizes, close together, and needs their slope.)
//
// Where one token alone takes longer than the time allowed, because all weights are read for it, a step may last twice
// as long as that: less would only be slower for everybody.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace redoubt {

class StepPace {
 public:
  void observe(int64_t tokens, int64_t rows, double seconds);
  // Tokens without rows: 1 to `most`; before the first observation a few.
  int64_t tokens_within(double seconds, int64_t most) const;
  // What a row of logits costs beside its token, in tokens of a step of so many.
  double row_tokens(int64_t tokens) const;

 private:
  struct Size {  // steps of 2^i to 2^(i+1) tokens: means of the recent ones
    double tokens = 0, rows = 0, seconds = 0;
    bool is_seen() const { return tokens > 0; }
  };
  double line(double tokens) const;  // seconds; 0 before the first observation
  double without_rows(const Size& size) const;
  double slope_from(const Size& smallest) const;
  void learn_rows(const Size& size, double tokens, double rows, double seconds);

  static constexpr size_t kSizes = 24;
  std::array<Size, kSizes> sizes_;
  double correction_ = 1;
  double row_seconds_ = 0;
  struct {  // sums over steps of how far they are from the means of their size, over its seconds
    double tokens_tokens = 0, tokens_rows = 0, rows_rows = 0, tokens_seconds = 0, rows_seconds = 0;
  } spread_;
};

}  // namespace redoubt
