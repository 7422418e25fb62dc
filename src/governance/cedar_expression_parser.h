// Reads one expression, from the token it is given to the token after it.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "governance/cedar_builder.h"
#include "governance/cedar_lexer.h"

namespace redoubt::cedar {

// The tokens of a text, and where we are among them.
class TokenStream {
 public:
  TokenStream(std::string_view text, const std::vector<Token>& tokens) : text_(text), tokens_(tokens) {}

  const Token& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  const Token& next() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool take(std::string_view what) {
    if (!peek().is(what)) return false;
    next();
    return true;
  }
  Status expect(std::string_view what);
  Error unexpected(std::string_view wanted) const;  // "line 1, column 4: expected ..., found ..."
  Error at(const Token& token, std::string_view what) const { return error_at(text_, token.position, what); }

 private:
  std::string_view text_;
  const std::vector<Token>& tokens_;
  size_t at_ = 0;
};

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, Builder& builder, int max_depth)
      : tokens_(tokens), builder_(builder), max_depth_(max_depth) {}

  Result<uint32_t> expression();
  Result<std::string_view> type_name();                    // A::B, lies in the arena
  Result<const EntityName*> entity();                      // A::B::"id"
  Result<std::string> string_literal();                    // the next token, unescaped
  Result<std::string_view> name(std::string_view wanted);  // a word that is not reserved

 private:
  Result<uint32_t> conditional();
  Result<uint32_t> disjunction();
  Result<uint32_t> conjunction();
  Result<uint32_t> relation();
  Result<uint32_t> relation_by_word(uint32_t left, const Token& word);
  Result<uint32_t> has_path(uint32_t left, const Token& word);
  Result<uint32_t> addition();
  Result<uint32_t> multiplication();
  Result<uint32_t> unary();
  Result<uint32_t> member();
  Result<uint32_t> access(uint32_t object);
  Result<uint32_t> method(uint32_t object, const Token& name);
  Result<uint32_t> primary();
  Result<uint32_t> word();
  Result<uint32_t> integer(std::string_view digits, bool negative, const Token& at);
  Result<uint32_t> list();
  Result<uint32_t> record();
  // Expressions up to `close`, a comma between; a last comma may stand.
  Result<std::vector<uint32_t>> expressions_until(std::string_view close);

  TokenStream& tokens_;
  Builder& builder_;
  int max_depth_;
  int depth_ = 0;
};

}  // namespace redoubt::cedar
