#include "text/jinja_text.h"

#include <fmt/format.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "core/utf8.h"

namespace redoubt::jinja {

OriginText OriginText::data(std::string bytes) {
  OriginText text;
  text.bytes_ = std::move(bytes);
  return text;
}

OriginText OriginText::markup(std::string bytes) {
  OriginText text;
  text.bytes_ = std::move(bytes);
  text.mark(0, text.bytes_.size());
  return text;
}

bool OriginText::is_markup(size_t position) const {
  const auto after = std::upper_bound(markup_.begin(), markup_.end(), position,
                                      [](size_t at, const MarkedText::Range& range) { return at < range.begin; });
  return after != markup_.begin() && position < std::prev(after)->end;
}

void OriginText::mark(size_t begin, size_t end) {
  if (begin == end) return;
  if (!markup_.empty() && markup_.back().end == begin) {
    markup_.back().end = end;
  } else {
    markup_.push_back({begin, end});
  }
}

void OriginText::append(const OriginText& other, size_t begin, size_t end) {
  const size_t base = bytes_.size();
  bytes_.append(other.bytes_, begin, end - begin);
  auto range = std::lower_bound(other.markup_.begin(), other.markup_.end(), begin,
                                [](const MarkedText::Range& r, size_t at) { return r.end <= at; });
  for (; range != other.markup_.end() && range->begin < end; ++range) {
    mark(base + std::max(range->begin, begin) - begin, base + std::min(range->end, end) - begin);
  }
}

void OriginText::append_markup(std::string_view bytes) {
  const size_t base = bytes_.size();
  bytes_.append(bytes);
  mark(base, bytes_.size());
}

void OriginText::append_like(std::string_view replacement, const OriginText& source, size_t position) {
  if (source.is_markup(position)) {
    append_markup(replacement);
  } else {
    append_data(replacement);
  }
}

OriginText OriginText::slice(size_t begin, size_t end) const {
  OriginText part;
  part.append(*this, begin, end);
  return part;
}

namespace {

// Calls map(character, previous character or 0) for each character; its result replaces it.
template <class Map>
OriginText map_characters(const OriginText& text, Map map) {
  OriginText out;
  const std::string& bytes = text.bytes();
  std::string mapped;
  char32_t previous = 0;
  for (size_t i = 0; i < bytes.size();) {
    const CodePoint c = decode_utf8(bytes, i);
    mapped.clear();
    map(c.value, previous, mapped);
    out.append_like(mapped, text, i);
    previous = c.value;
    i += static_cast<size_t>(c.bytes);
  }
  return out;
}

void append_upper(std::string& out, char32_t c) {
  if (c == 0xdf) {  // the one common character whose capital is two letters
    out += "SS";
  } else {
    append_utf8(out, to_upper(c));
  }
}

}  // namespace

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::vector<size_t> character_offsets(std::string_view text) {
  std::vector<size_t> offsets;
  for (size_t i = 0; i < text.size(); i += static_cast<size_t>(decode_utf8(text, i).bytes)) offsets.push_back(i);
  offsets.push_back(text.size());
  return offsets;
}

char32_t to_upper(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return static_cast<char32_t>(u_toupper(static_cast<UChar32>(c)));
}
char32_t to_lower(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
}
bool is_alpha(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return u_isalpha(static_cast<UChar32>(c));
}
bool is_printable(char32_t c) {
  if (c < 0x7f) return c >= 0x20;
  if (c < 0xa1 || c == 0xad || is_space(c)) return false;
  return u_isprint(static_cast<UChar32>(c)) && u_charType(static_cast<UChar32>(c)) != U_FORMAT_CHAR;
}

OriginText upper(const OriginText& text) {
  return map_characters(text, [](char32_t c, char32_t, std::string& out) { append_upper(out, c); });
}
OriginText lower(const OriginText& text) {
  return map_characters(text, [](char32_t c, char32_t, std::string& out) { append_utf8(out, to_lower(c)); });
}
OriginText capitalize(const OriginText& text) {
  bool first = true;
  return map_characters(text, [&](char32_t c, char32_t, std::string& out) {
    append_utf8(out, first ? to_upper(c) : to_lower(c));
    first = false;
  });
}
OriginText title_words(const OriginText& text) {
  return map_characters(text, [](char32_t c, char32_t previous, std::string& out) {
    append_utf8(out, is_alpha(previous) ? to_lower(c) : to_upper(c));
  });
}
OriginText title_filter(const OriginText& text) {
  return map_characters(text, [](char32_t c, char32_t previous, std::string& out) {
    const bool begins = previous == 0 || is_space(previous) || previous == '-' || previous == '(' || previous == '{' ||
                        previous == '[' || previous == '<';
    append_utf8(out, begins ? to_upper(c) : to_lower(c));
  });
}

OriginText strip(const OriginText& text, Side side, const std::string* characters) {
  const std::string& bytes = text.bytes();
  const auto is_stripped = [&](size_t at, size_t length, char32_t c) {
    if (!characters) return is_space(c);
    // A character's bytes never occur across two others in UTF-8.
    return characters->find(bytes.data() + at, 0, length) != std::string::npos;
  };
  size_t begin = 0, end = bytes.size();
  while (side != Side::right && begin < end) {
    const CodePoint c = decode_utf8(bytes, begin);
    if (!is_stripped(begin, static_cast<size_t>(c.bytes), c.value)) break;
    begin += static_cast<size_t>(c.bytes);
  }
  while (side != Side::left && begin < end) {
    size_t last = end - 1;
    while (last > begin && (static_cast<unsigned char>(bytes[last]) & 0xc0) == 0x80) --last;
    if (!is_stripped(last, end - last, decode_utf8(bytes, last).value)) break;
    end = last;
  }
  return text.slice(begin, end);
}

OriginText replace(const OriginText& text, std::string_view old_part, const OriginText& new_part, int64_t count) {
  OriginText out;
  const std::string& bytes = text.bytes();
  size_t done = 0;
  if (old_part.empty()) {  // before each character and at the end
    for (size_t i = 0; count != 0; --count) {
      out.append(new_part);
      if (i == bytes.size()) return out;
      const size_t next = i + static_cast<size_t>(decode_utf8(bytes, i).bytes);
      out.append(text, i, next);
      done = i = next;
    }
  } else {
    for (; count != 0; --count) {
      const size_t found = bytes.find(old_part, done);
      if (found == std::string::npos) break;
      out.append(text, done, found);
      out.append(new_part);
      done = found + old_part.size();
    }
  }
  out.append(text, done, bytes.size());
  return out;
}

std::string python_repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos,
             has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode_utf8(text, i);
    if (c.value == static_cast<char32_t>(quote) || c.value == '\\') {
      out += '\\';
      out += static_cast<char>(c.value);
    } else if (c.value == '\n') {
      out += "\\n";
    } else if (c.value == '\r') {
      out += "\\r";
    } else if (c.value == '\t') {
      out += "\\t";
    } else if (is_printable(c.value)) {
      out.append(text.substr(i, static_cast<size_t>(c.bytes)));
    } else if (c.value < 0x100) {
      out += fmt::format("\\x{:02x}", static_cast<uint32_t>(c.value));
    } else if (c.value < 0x10000) {
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c.value));
    } else {
      out += fmt::format("\\U{:08x}", static_cast<uint32_t>(c.value));
    }
    i += static_cast<size_t>(c.bytes);
  }
  out += quote;
  return out;
}

// The shortest digits that give the number back; an exponent below 1e-4 and from 1e16 (Python's float.__repr__).
std::string python_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char digits[64];
  const double size = std::fabs(value);
  if (size != 0 && (size < 1e-4 || size >= 1e16)) {
    const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::scientific);
    return std::string(digits, end.ptr);  // to_chars writes at least two digits of exponent, as Python does
  }
  const auto end = std::to_chars(digits, digits + sizeof digits, value, std::chars_format::fixed);
  std::string text(digits, end.ptr);
  if (text.find('.') == std::string::npos) text += ".0";
  return text;
}

}  // namespace redoubt::jinja
