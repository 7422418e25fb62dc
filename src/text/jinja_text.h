// A string of a template that knows which of its bytes the template itself wrote.
//
// `markup` lists those bytes as sorted, disjoint, non-adjacent ranges; everything else came with the request ("data").
// Most strings are wholly one or the other: no range, or one. Every operation keeps the origin of each character;
// characters that an operation makes (digits of a number, JSON punctuation) are data, the side that can forge nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace redoubt::jinja {

class OriginText {
 public:
  OriginText() = default;
  static OriginText data(std::string bytes);
  static OriginText markup(std::string bytes);

  const std::string& bytes() const { return bytes_; }
  const std::vector<MarkedText::Range>& ranges() const { return markup_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool is_markup(size_t position) const;

  void append(const OriginText& other) { append(other, 0, other.size()); }
  void append(const OriginText& other, size_t begin, size_t end);  // other must not be *this
  void append_data(std::string_view bytes) { bytes_.append(bytes); }
  void append_markup(std::string_view bytes);
  // Appends `replacement` with the origin that source has at `position`.
  void append_like(std::string_view replacement, const OriginText& source, size_t position);
  OriginText slice(size_t begin, size_t end) const;

  MarkedText release() && { return {std::move(bytes_), std::move(markup_)}; }

 private:
  void mark(size_t begin, size_t end);  // at or after the last range

  std::string bytes_;
  std::vector<MarkedText::Range> markup_;
};

bool is_space(char32_t c);  // Python's str.isspace
bool is_ascii(std::string_view text);
size_t count_characters(std::string_view text);
// Byte offsets of each character, and the size at the end.
std::vector<size_t> character_offsets(std::string_view text);

char32_t to_upper(char32_t c);
char32_t to_lower(char32_t c);
bool is_alpha(char32_t c);
bool is_printable(char32_t c);

OriginText upper(const OriginText& text);
OriginText lower(const OriginText& text);
OriginText capitalize(const OriginText& text);
OriginText title_words(const OriginText& text);   // Python's str.title: a capital after each non-letter
OriginText title_filter(const OriginText& text);  // Jinja's filter: after white space and ( [ { < -

enum class Side { left, right, both };
// Without `characters`: white space.
OriginText strip(const OriginText& text, Side side, const std::string* characters = nullptr);
// count < 0: all.
OriginText replace(const OriginText& text, std::string_view old_part, const OriginText& new_part, int64_t count);

std::string python_repr(std::string_view text);
std::string python_repr(double value);

}  // namespace redoubt::jinja
