// How much a step may compute to last no longer than a given time, from what the recent ones took.
//
// The work of a step is its tokens, and for each row of logits what such a row costs in tokens beside its own: the
// head, and the attention of one more sequence. That is learned from how far off the steps with more rows than usual
// are. A mean is kept for each size seen, in powers of two, and the time of a step lies on the line through them. Above
// the largest it is proportional to work: longer than it is, so that sizes grow into what was not seen. Below the
// smallest it goes on as from one at least twice as large, or in proportion where there is none: never from the slope
// between sizes that are close together, which is chance. A correction rises at once with a step slower than the line
// and fades over the next ones: prompts cost more the deeper they are. (StepCost of speculation.h fits a straight line:
// it has few sizes, close together, and needs their slope.)
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
  double row_tokens() const { return row_tokens_; }  // what a row of logits costs

 private:
  struct Size {  // steps of work 2^i to 2^(i+1): means of the recent ones; work == 0: none yet
    double work = 0, seconds = 0;
  };
  double line(double work) const;  // seconds; 0 before the first observation
  double slope_from(const Size& smallest) const;
  void learn_rows(double rows_per_token, double error);

  static constexpr size_t kSizes = 24;
  std::array<Size, kSizes> sizes_;
  double correction_ = 1;
  double row_tokens_ = 0;
  double usual_rows_ = 0, rows_variance_ = 0;  // per token, of the recent steps
};

}  // namespace redoubt
