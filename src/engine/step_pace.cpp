#include "engine/step_pace.h"

#include <algorithm>
#include <cmath>

namespace redoubt {

namespace {

constexpr int64_t kUnknownTokens = 32;  // of the first step that others wait behind
constexpr double kNew = 0.2;            // what a new step weighs in the mean of its size
constexpr double kFade = 0.8;           // of a correction, from step to step
constexpr double kMostCorrection = 4, kLeastCorrection = 0.5;
// Rows: a step tells of them that has so many more or less per token than others of its size; older ones fade.
constexpr double kNews = 0.1, kFadeOfNews = 0.98;
constexpr double kTellsApart = 0.05;  // of tokens and rows, the part of their spread that they do not share
constexpr double kMostRowTokens = 4;

}  // namespace

double StepPace::without_rows(const Size& size) const {
  return std::max(size.seconds / 4, size.seconds - row_seconds_ * size.rows);
}

double StepPace::slope_from(const Size& smallest) const {
  const double from = without_rows(smallest), most = from / smallest.tokens;
  for (const Size& at : sizes_)
    if (at.tokens >= 2 * smallest.tokens)
      return std::clamp((without_rows(at) - from) / (at.tokens - smallest.tokens), 0.0, most);
  return most;
}

// Whatever the means say that were taken at different times: more tokens take no less time, and no more for each.
double StepPace::line(double tokens) const {
  double below = 0, below_seconds = 0;
  for (const Size& at : sizes_) {
    if (!at.is_seen()) continue;
    const double seconds =
        below == 0 ? without_rows(at) : std::clamp(without_rows(at), below_seconds, below_seconds * at.tokens / below);
    if (tokens <= at.tokens) {
      if (below == 0) return seconds - slope_from(at) * (at.tokens - tokens);
      return below_seconds + (seconds - below_seconds) * (tokens - below) / (at.tokens - below);
    }
    below = at.tokens;
    below_seconds = seconds;
  }
  return below == 0 ? 0 : below_seconds * tokens / below;
}

double StepPace::row_tokens(int64_t tokens) const {
  if (row_seconds_ <= 0) return 0;
  const auto n = static_cast<double>(std::max<int64_t>(2, tokens));
  const double per_token = (line(n) - line(n / 2)) / (n / 2);
  return row_seconds_ >= kMostRowTokens * per_token ? kMostRowTokens : row_seconds_ / per_token;
}

// The slope over rows of the plane through steps of one size, each taken as how far it is from the mean of its size.
void StepPace::learn_rows(const Size& size, double tokens, double rows, double seconds) {
  if (std::abs(rows - size.rows) < kNews * size.tokens || size.seconds <= 0) return;
  const double t = (tokens - size.tokens) / size.seconds, r = (rows - size.rows) / size.seconds,
               s = (seconds - size.seconds) / size.seconds;
  const auto add = [](double& sum, double product) { sum = kFadeOfNews * sum + product; };
  add(spread_.tokens_tokens, t * t);
  add(spread_.tokens_rows, t * r);
  add(spread_.rows_rows, r * r);
  add(spread_.tokens_seconds, t * s);
  add(spread_.rows_seconds, r * s);
  const double product = spread_.tokens_tokens * spread_.rows_rows,
               apart = product - spread_.tokens_rows * spread_.tokens_rows;
  if (apart < kTellsApart * product) return;  // more tokens and more rows came together
  const double found =
      product == 0
          ? spread_.rows_seconds / spread_.rows_rows
          : (spread_.rows_seconds * spread_.tokens_tokens - spread_.tokens_seconds * spread_.tokens_rows) / apart;
  row_seconds_ = std::max(0.0, found);
}

void StepPace::observe(int64_t tokens, int64_t rows, double seconds) {
  if (tokens <= 0) return;
  const auto n = static_cast<double>(tokens), r = static_cast<double>(rows);
  Size& size = sizes_[std::min(kSizes - 1, static_cast<size_t>(std::ilogb(n)))];
  const auto is_seen = [](const Size& at) { return at.is_seen(); };
  // Of a size beyond all that were seen nothing is known yet, and nothing can be learned of others.
  const bool is_foreseen = size.is_seen() || (std::any_of(sizes_.data(), &size, is_seen) &&
                                              std::any_of(&size + 1, sizes_.data() + kSizes, is_seen));
  if (const double expected = line(n) + row_seconds_ * r; is_foreseen && expected > 0) {
    const double ratio = std::clamp(seconds / expected, kLeastCorrection, kMostCorrection);
    correction_ = std::max(ratio, kFade * correction_ + (1 - kFade) * ratio);
    seconds = std::min(seconds, ratio * expected);  // one that took much longer was somebody else's
  }
  if (!size.is_seen()) {
    size = {n, r, seconds};
    return;
  }
  learn_rows(size, n, r, seconds);
  size.tokens += kNew * (n - size.tokens);
  size.rows += kNew * (r - size.rows);
  size.seconds += kNew * (seconds - size.seconds);
}

int64_t StepPace::tokens_within(double seconds, int64_t most) const {
  if (std::ranges::none_of(sizes_, &Size::is_seen)) return std::min(kUnknownTokens, most);
  const double allowed = std::max(seconds / correction_, 2 * line(1));
  int64_t fits = 1;
  for (int64_t too_many = most + 1; too_many - fits > 1;) {
    const int64_t middle = fits + (too_many - fits) / 2;
    (line(static_cast<double>(middle)) <= allowed ? fits : too_many) = middle;
  }
  return fits;
}

}  // namespace redoubt
