// How many tokens a step may have to last no longer than a given time, from what the recent ones took.
//
// A line over the recent steps, times a correction that rises at once with a step slower than the line and fades over
// the next ones: prompts cost more the deeper they are. Until steps of several sizes were seen, time is taken to be
// proportional to tokens, which errs towards short steps. (StepCost of speculation.h has the opposite need and prior.)
// Where the weights alone take longer to read than the
// time allowed, a step may last twice as long as with one token: less would only be slower for everybody.
#pragma once

#include <cstdint>

namespace redoubt {

class StepPace {
 public:
  void observe(int64_t tokens, double seconds);
  // 1 to `most`; before the first observation a few.
  int64_t tokens_within(double seconds, int64_t most) const;

 private:
  double seconds(double tokens) const;
  double seconds_per_token() const;

  double weight_ = 0, n_ = 0, nn_ = 0, t_ = 0, nt_ = 0;  // weighted sums over steps: tokens n, seconds t
  double correction_ = 1;
};

}  // namespace redoubt
