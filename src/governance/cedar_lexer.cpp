#include "governance/cedar_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "core/utf8.h"

namespace redoubt::cedar {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool begins_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool continues_name(char c) { return begins_name(c) || is_digit(c); }

// Bytes of the symbol at the front of `rest`; 0 if there is none.
size_t symbol_size(std::string_view rest) {
  constexpr std::array<std::string_view, 7> kPairs{"==", "!=", "<=", ">=", "&&", "||", "::"};
  constexpr std::string_view kSingles = "@(){}[],;.:<>!+-*/%?=";
  for (const std::string_view pair : kPairs) {
    if (rest.starts_with(pair)) return 2;
  }
  return kSingles.find(rest.front()) != std::string_view::npos ? 1 : 0;
}

// Bytes up to and with the closing quote, from the opening one; 0 if it never comes.
size_t string_size(std::string_view rest) {
  for (size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == '\\') {
      ++i;
    } else if (rest[i] == '"') {
      return i + 1;
    }
  }
  return 0;
}

std::optional<uint32_t> hex(std::string_view digits) {
  if (digits.empty()) return std::nullopt;
  uint32_t value = 0;
  for (const char c : digits) {
    const char lower = static_cast<char>(c | 0x20);
    if (is_digit(c)) {
      value = value * 16 + static_cast<uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      return std::nullopt;
    }
  }
  return value;
}

// The character of an escape whose first letter is at raw[at]; moves `at` past it.
std::optional<uint32_t> escaped(std::string_view raw, size_t& at) {
  const char letter = raw[at++];
  switch (letter) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case '0':
      return 0;
    case '\\':
      return '\\';
    case '\'':
      return '\'';
    case '"':
      return '"';
    case 'x': {  // two hex digits, ASCII
      const auto value = hex(raw.substr(at, 2));
      if (raw.size() < at + 2 || !value || *value > 0x7F) return std::nullopt;
      at += 2;
      return value;
    }
    case 'u': {  // {one to six hex digits}, among which _ may stand
      const size_t close = raw.find('}', at);
      if (at >= raw.size() || raw[at] != '{' || close == std::string_view::npos) return std::nullopt;
      std::string digits(raw.substr(at + 1, close - at - 1));
      if (digits.starts_with('_')) return std::nullopt;
      std::erase(digits, '_');
      const auto value = digits.size() > 6 ? std::nullopt : hex(digits);
      if (!value || *value > 0x10FFFF || (*value >= 0xD800 && *value <= 0xDFFF)) return std::nullopt;
      at = close + 1;
      return value;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

Place place_of(std::string_view text, size_t position) {
  Place place;
  for (const char c : text.substr(0, position)) {
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xC0) != 0x80) {
      ++place.column;
    }
  }
  return place;
}

Error error_at(std::string_view text, size_t position, std::string_view what) {
  const Place place = place_of(text, position);
  return invalid(fmt::format("line {}, column {}: {}", place.line, place.column, what));
}

bool is_reserved(std::string_view name) {
  constexpr std::array<std::string_view, 10> kReserved{"true", "false", "if",   "then", "else",
                                                       "in",   "is",    "like", "has",  "__cedar"};
  return std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end();
}

Result<std::string> unescape(std::string_view raw, Literal literal) {
  std::string out;
  out.reserve(raw.size());
  for (size_t at = 0; at < raw.size();) {
    const char c = raw[at++];
    if (c != '\\') {
      out += c == '*' && literal == Literal::pattern ? kWildcard : c;
      continue;
    }
    if (at == raw.size()) return invalid("an escape is cut off");
    if (raw[at] == '*' && literal == Literal::pattern) {
      out += '*';
      ++at;
      continue;
    }
    const size_t begin = at;
    const auto character = escaped(raw, at);
    if (!character) return invalid(fmt::format("\\{} is no escape of the language", raw[begin]));
    // A star written by its number is a wildcard too: escapes are resolved before the pattern is read.
    if (*character == '*' && literal == Literal::pattern) {
      out += kWildcard;
    } else {
      append_utf8(out, *character);
    }
  }
  return out;
}

Result<std::vector<Token>> tokenize(std::string_view text) {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 5 + 1);
  size_t at = 0;
  const auto take = [&](Token::Kind kind, size_t size) {
    tokens.push_back({kind, static_cast<uint32_t>(at), text.substr(at, size)});
    at += size;
  };
  while (at < text.size()) {
    const char c = text[at];
    const std::string_view rest = text.substr(at);
    if (is_space(c)) {
      ++at;
    } else if (rest.starts_with("//")) {
      at = std::min(text.find('\n', at), text.size());
    } else if (begins_name(c)) {
      take(Token::Kind::name,
           static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), continues_name) - rest.begin()));
    } else if (is_digit(c)) {
      take(Token::Kind::integer,
           static_cast<size_t>(std::find_if_not(rest.begin(), rest.end(), is_digit) - rest.begin()));
    } else if (c == '"') {
      const size_t size = string_size(rest);
      if (size == 0) return error_at(text, at, "a string has no closing quote");
      tokens.push_back({Token::Kind::string, static_cast<uint32_t>(at), rest.substr(1, size - 2)});
      at += size;
    } else if (const size_t size = symbol_size(rest); size > 0) {
      take(Token::Kind::symbol, size);
    } else {
      return error_at(text, at, "a character that begins no word, number, string or sign of the language");
    }
  }
  tokens.push_back({Token::Kind::end, static_cast<uint32_t>(text.size()), {}});
  return tokens;
}

}  // namespace redoubt::cedar
