#include "engine/step_pace.h"

#include <algorithm>
#include <cmath>

namespace redoubt {

namespace {

constexpr int64_t kUnknownTokens = 32;  // of the first step that others wait behind
constexpr double kNew = 0.2;            // what a new step weighs in the mean of its size
constexpr double kFade = 0.8;           // of a correction, from step to step
constexpr double kMostCorrection = 4, kLeastCorrection = 0.5;
// Rows: of a step's error that its rows explain, this share is learned; so many rows per token are no news.
constexpr double kLearn = 0.05, kUsual = 0.05, kNoNews = 0.1;
constexpr double kMostRowTokens = 4;

}  // namespace

double StepPace::slope_from(const Size& smallest) const {
  const double most = smallest.seconds / smallest.work;
  for (const Size& at : sizes_)
    if (at.work >= 2 * smallest.work)
      return std::clamp((at.seconds - smallest.seconds) / (at.work - smallest.work), 0.0, most);
  return most;
}

// Whatever the means say that were taken at different times: more work takes no less time, and no more for each part.
double StepPace::line(double work) const {
  Size below;
  for (const Size& at : sizes_) {
    if (at.work == 0) continue;
    const double seconds =
        below.work == 0 ? at.seconds : std::clamp(at.seconds, below.seconds, below.seconds * at.work / below.work);
    if (work <= at.work) {
      if (below.work == 0) return seconds - slope_from(at) * (at.work - work);
      return below.seconds + (seconds - below.seconds) * (work - below.work) / (at.work - below.work);
    }
    below = {at.work, seconds};
  }
  return below.work == 0 ? 0 : below.seconds * work / below.work;
}

// Least squares, a step at a time, over what differs from the usual: the line itself has the rest.
void StepPace::learn_rows(double rows_per_token, double error) {
  const double more = rows_per_token - usual_rows_;
  usual_rows_ += kUsual * more;
  rows_variance_ += kUsual * (more * more - rows_variance_);
  row_tokens_ += kLearn * error * more / (rows_variance_ + kNoNews * kNoNews);
  row_tokens_ = std::clamp(row_tokens_, 0.0, kMostRowTokens);
}

void StepPace::observe(int64_t tokens, int64_t rows, double seconds) {
  if (tokens <= 0) return;
  const auto n = static_cast<double>(tokens), r = static_cast<double>(rows);
  const double work = n + row_tokens_ * r;
  if (const double expected = line(work); expected > 0) {
    const double ratio = std::clamp(seconds / expected, kLeastCorrection, kMostCorrection);
    correction_ = std::max(ratio, kFade * correction_ + (1 - kFade) * ratio);
    seconds = ratio * expected;  // one that took much longer was somebody else's
    learn_rows(r / n, ratio - 1);
  }
  Size& size = sizes_[std::min(kSizes - 1, static_cast<size_t>(std::ilogb(work)))];
  const double weight = size.work == 0 ? 1 : kNew;
  size.work += weight * (work - size.work);
  size.seconds += weight * (seconds - size.seconds);
}

int64_t StepPace::tokens_within(double seconds, int64_t most) const {
  if (std::ranges::all_of(sizes_, [](const Size& size) { return size.work == 0; }))
    return std::min(kUnknownTokens, most);
  const double allowed = std::max(seconds / correction_, 2 * line(1));
  int64_t fits = 1;
  for (int64_t too_many = most + 1; too_many - fits > 1;) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (line(static_cast<double>(middle)) <= allowed ? fits : too_many) = middle;
  }
  return fits;
}

}  // namespace redoubt
