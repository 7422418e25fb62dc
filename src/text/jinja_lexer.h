// A template's text, cut into tokens: runs of output, and the words inside {{ }} and {% %}.
//
// White space control is settled here, as transformers configures Jinja: trim_blocks (the newline after a block tag or
// comment goes) and lstrip_blocks (blanks before a block tag or comment at the start of a line go), with the modifiers
// - and + of each tag. One newline at the end of the template goes too. Comments and raw blocks are resolved here.
// Errors: corrupt_data with the line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/jinja_value.h"

namespace redoubt::jinja {

struct Token {
  enum class Kind : uint8_t {
    output,          // text: characters of the template itself
    variable_begin,  // {{
    variable_end,
    block_begin,  // {%
    block_end,
    name,
    string,   // text: unescaped
    integer,  // integer
    floating,
    op,  // text: the operator
    end,
  };
  Kind kind = Kind::end;
  std::string text;
  Integer integer = 0;
  double floating = 0;
  int line = 1;

  bool is_op(std::string_view what) const { return kind == Kind::op && text == what; }
  bool is_name(std::string_view what) const { return kind == Kind::name && text == what; }
};

Result<std::vector<Token>> tokenize_template(std::string_view source);

}  // namespace redoubt::jinja
