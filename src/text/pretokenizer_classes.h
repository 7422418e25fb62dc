// What the published patterns ask of a character, one byte of flags per code point.
// Source: Unicode character database by ICU. White space is the property White_Space (what `\s` means to Oniguruma),
// which is neither C's isspace nor PCRE2's `\s`.
#pragma once

#include <cstdint>

namespace redoubt {

enum CharacterClass : uint8_t {
  kLetter = 1,        // \p{L}
  kMark = 2,          // \p{M}
  kNumber = 4,        // \p{N}
  kPunctuation = 8,   // \p{P}
  kSymbol = 16,       // \p{S}
  kWhiteSpace = 32,   // \s
  kNewline = 64,      // CR, LF
  kDeepSeekCjk = 128  // [\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF], DeepSeek-V3's second pattern
};

inline constexpr char32_t kCodePoints = 0x110000;

const uint8_t* character_classes();  // [kCodePoints]; made at the first call

bool is_white_space(char32_t c);
bool is_word_character(char32_t c);  // \w: letters, marks, decimal digits, connector punctuation

}  // namespace redoubt
