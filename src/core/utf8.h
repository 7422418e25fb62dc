// UTF-8: validation, decoding one code point, and finding where an incomplete character begins (streams).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace redoubt {

struct CodePoint {
  char32_t value = 0xfffd;  // U+FFFD where the bytes are not UTF-8
  int bytes = 1;            // consumed; at least 1
  bool valid = false;
};

// Decodes at `position` (< text.size()). Overlong forms, surrogates and values over U+10FFFF are invalid.
CodePoint decode_utf8(std::string_view text, size_t position);
void append_utf8(std::string& out, char32_t code_point);
bool is_valid_utf8(std::string_view text);

// Length of the longest prefix of `text` that does not end inside a character that more bytes could complete.
size_t complete_utf8_prefix(std::string_view text);
// At most so many bytes of its beginning, and no part of a character at the end.
std::string_view utf8_head(std::string_view text, size_t max_bytes);

// Replaces each maximal invalid part by U+FFFD, as Python's errors="replace" does.
std::string repair_utf8(std::string_view text);

}  // namespace redoubt
