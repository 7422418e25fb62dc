// A policy text, cut into tokens. Comments run from // to the end of the line.
// Errors: invalid_argument, "line 3, column 9: ...".
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace redoubt::cedar {

struct Token {
  enum class Kind : uint8_t { name, integer, string, symbol, end };
  Kind kind = Kind::end;
  uint32_t position = 0;  // bytes from the start of the text
  std::string_view text;  // of a string: between the quotes, escapes as written

  bool is(std::string_view symbol_or_name) const {
    return (kind == Kind::symbol || kind == Kind::name) && text == symbol_or_name;
  }
};

// Ends with a token of kind end. The tokens borrow the text.
Result<std::vector<Token>> tokenize(std::string_view text);

struct Place {
  int line = 1, column = 1;  // the column counts characters, not bytes
};
Place place_of(std::string_view text, size_t position);
Error error_at(std::string_view text, size_t position, std::string_view what);

// The characters a literal stands for. In a pattern (`like`), a star that was not written as \* becomes kWildcard.
// Errors: an escape that the language does not have, as the sentence's end.
inline constexpr char kWildcard = '\xFF';  // never part of UTF-8
enum class Literal : uint8_t { string, pattern };
Result<std::string> unescape(std::string_view raw, Literal literal);

// Words that are no names: true false if then else in is like has __cedar.
bool is_reserved(std::string_view name);

}  // namespace redoubt::cedar
