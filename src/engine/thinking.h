// Whether an answer is inside its think block, and the tokens that close the block when its budget is spent.
//
// The block is open from the start if the prompt ended inside <think>, or if the first generated token is <think>; the
// token </think> closes it. With a budget of B tokens the engine forces a line break as the B-th token (for B = 0 there
// is none) and then </think>: never more than B tokens are spent on reasoning. The marks themselves are not counted.
//
// An answer has one block. Where thinking is limited, <think> is forbidden outside of it from the second token on: the
// model would go on thinking behind the limit's back. To count it as a second block would be wrong, since by then it is
// as a rule a mention of the tag, and the rest of the answer would count, and be cut, as thinking; a mention can still
// be spelled in ordinary tokens. Where nothing is limited the token is text, as it is for the parser of answers.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/engine.h"
#include "text/tokenizer.h"

namespace redoubt {

struct ThinkMarks {
  std::optional<int32_t> open, close;  // <think>, </think>, where the vocabulary has them as one token
  std::vector<int32_t> line_break;     // the tokens of "\n"

  static ThinkMarks of(const Tokenizer& tokenizer);
};

class Thinking {
 public:
  enum class Bound : uint8_t {
    none,
    limited
  };  // limited: by the budget, or by a grant that tokens are counted against
  Thinking(const ThinkingParams& params, Bound bound, const ThinkMarks& marks)
      : params_(params), bound_(bound), marks_(&marks) {
    inside_ = params.starts_in_reasoning;
  }

  bool inside() const { return inside_; }
  // The next token may be <think>: nothing has been generated, and the budget is not 0.
  bool may_open() const;
  std::optional<int32_t> forced() const;     // the token that must come next
  std::optional<int32_t> forbidden() const;  // the token that must not
  // True: the token counts as reasoning (it is inside the block and no mark).
  bool accept(int32_t token);

 private:
  ThinkingParams params_;
  Bound bound_;
  const ThinkMarks* marks_;
  bool inside_ = false;
  int64_t accepted_ = 0;
  int64_t spent_ = 0;  // reasoning tokens so far
};

}  // namespace redoubt
