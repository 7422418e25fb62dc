#include "text/written_numbers.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>

namespace redoubt {
namespace {

// 0.d1d2d3... x 10^exponent without zeros at the ends; the sign is left out.
struct Digits {
  std::string digits;
  int64_t exponent = 0;
  bool operator==(const Digits&) const = default;
};

Digits digits_of(std::string_view number) {
  Digits out;
  bool after_point = false;
  for (size_t i = 0; i < number.size(); ++i) {
    const char c = number[i];
    if (c == '.') {
      after_point = true;
    } else if (c == 'e' || c == 'E') {
      const size_t from = i + 1 + (i + 1 < number.size() && number[i + 1] == '+' ? 1 : 0);
      int64_t exponent = 0;
      std::from_chars(number.data() + from, number.data() + number.size(), exponent);
      out.exponent += exponent;
      break;
    } else if (c >= '0' && c <= '9') {
      if (!after_point && (c != '0' || !out.digits.empty())) ++out.exponent;
      if (c == '0' && out.digits.empty()) {
        if (after_point) --out.exponent;
      } else {
        out.digits += c;
      }
    }
  }
  while (!out.digits.empty() && out.digits.back() == '0') out.digits.pop_back();
  if (out.digits.empty()) out.exponent = 0;
  return out;
}

bool is_as_written(std::string_view number) {
  const char* const end = number.data() + number.size();
  int64_t integer = 0;
  uint64_t positive = 0;
  if (std::from_chars(number.data(), end, integer).ptr == end) {
    if (std::from_chars(number.data(), end, integer).ec == std::errc()) return true;
    if (number[0] != '-' && std::from_chars(number.data(), end, positive).ec == std::errc()) return true;
  }
  double value = 0;
  if (std::from_chars(number.data(), end, value).ec != std::errc()) return false;
  char shortest[64];
  const char* const last =
      std::to_chars(shortest, shortest + sizeof shortest, value, std::chars_format::scientific).ptr;
  return digits_of(number) == digits_of({shortest, static_cast<size_t>(last - shortest)});
}

}  // namespace

bool numbers_are_as_written(std::string_view json) {
  for (size_t i = 0; i < json.size();) {
    const char c = json[i];
    if (c == '"') {
      for (++i; i < json.size() && json[i] != '"'; ++i) i += json[i] == '\\' ? 1 : 0;
      ++i;
    } else if (c == '-' || (c >= '0' && c <= '9')) {
      const size_t end = std::min(json.find_first_not_of("0123456789+-.eE", i), json.size());
      if (!is_as_written(json.substr(i, end - i))) return false;
      i = end;
    } else {
      ++i;
    }
  }
  return true;
}

}  // namespace redoubt
