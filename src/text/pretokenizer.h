// Cuts a text into the pieces that BPE works in: each split of the sequence applies to every piece of the one before.
// Source: the pre_tokenizer of tokenizer.json. A pattern sees each piece alone: its end is the end of the text.
// Thread safety: const after make.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/pretokenizer_known.h"
#include "text/pretokenizer_pattern.h"
#include "text/tokenizer_spec.h"

namespace redoubt {

class Pretokenizer {
 public:
  enum class Speed : uint8_t { fast, reference };  // reference: always the regular expressions
  static Result<Pretokenizer> make(std::vector<SplitRule> splits, Speed speed = Speed::fast);

  struct Pieces {
    std::string rewritten;     // the text with the spaces that a prefix_space rule added; else empty
    std::string_view text;     // what the pieces are of: the argument of split, or `rewritten`
    std::vector<size_t> ends;  // where `begins` is empty, a piece begins where the one before ended
    std::vector<size_t> begins;
  };
  // `text` is valid UTF-8. The pieces cover it, but for what a rule removes.
  void split(std::string_view text, Pieces& pieces) const;
  bool keeps_all() const { return keeps_all_; }  // no rule removes anything

 private:
  struct Step {
    SplitRule rule;
    std::vector<Pattern> pattern;  // one for a regex, else none
  };
  KnownSplitter known_ = nullptr;
  bool keeps_all_ = true;
  std::vector<Step> steps_;
};

}  // namespace redoubt
