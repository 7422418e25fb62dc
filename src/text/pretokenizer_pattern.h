// One regular expression of a pre-tokenizer, as tokenizer.json means it: Oniguruma's dialect over Unicode, run by
// PCRE2.
//
// Where the dialects differ on what such patterns use, the pattern is translated (`\s` is White_Space, `\h` a
// hexadecimal digit, `^` and `$` stand at lines) or refused by name (a class inside a class, `&&`). Time: PCRE2's match
// limit bounds the steps from one position, and the text is shown to it in windows that grow only as far as a match
// asks for more, so that a hostile pattern costs a constant factor a byte and never hangs. A pattern that hits the
// limit finds nothing more in that piece. Thread safety: const after compile.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace redoubt {

class Pattern {
 public:
  static Result<Pattern> compile(std::string_view pattern);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  // Calls on_match(begin, end) for each match in `text` (valid UTF-8) from left to right, without overlap.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& on_match) const;

 private:
  struct State;
  explicit Pattern(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// The pattern in PCRE2's dialect; for tests.
Result<std::string> translate_pattern(std::string_view pattern);

}  // namespace redoubt
