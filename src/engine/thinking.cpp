#include "engine/thinking.h"

namespace redoubt {

ThinkMarks ThinkMarks::of(const Tokenizer& tokenizer) {
  ThinkMarks marks;
  marks.open = tokenizer.find("<think>");
  marks.close = tokenizer.find("</think>");
  marks.line_break = tokenizer.encode(MarkedText::plain("\n"));
  return marks;
}

bool Thinking::may_open() const {
  return accepted_ == 0 && !inside_ && marks_->open.has_value() && params_.budget_tokens.value_or(1) > 0;
}

std::optional<int32_t> Thinking::forced() const {
  if (!inside_ || !params_.budget_tokens.has_value() || !marks_->close.has_value()) return std::nullopt;
  const int64_t left = *params_.budget_tokens - spent_;
  if (left <= 0) return marks_->close;
  const auto breaks = static_cast<int64_t>(marks_->line_break.size());
  if (left > breaks) return std::nullopt;
  return marks_->line_break[static_cast<size_t>(breaks - left)];
}

std::optional<int32_t> Thinking::forbidden() const {
  if (bound_ == Bound::none || inside_ || accepted_ == 0) return std::nullopt;
  return marks_->open;
}

bool Thinking::accept(int32_t token) {
  const bool is_first = accepted_++ == 0;
  if (inside_ && token == marks_->close) return inside_ = false;
  if (is_first && !inside_ && token == marks_->open) {
    inside_ = true;
    return false;
  }
  if (inside_) ++spent_;
  return inside_;
}

}  // namespace redoubt
