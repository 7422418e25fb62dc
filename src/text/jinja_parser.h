// Tokens of a template to its tree. Expressions in jinja_expression_parser, statements here.
// Errors: corrupt_data with the line; nesting deeper than kMaxHeight is one.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "text/jinja_ast.h"
#include "text/jinja_lexer.h"

namespace redoubt::jinja {

constexpr int kMaxHeight = 150;  // of the tree, and of the parser's own recursion

// Where the parser stands in the tokens, shared by the two parsers. The first error sticks; after it every token reads
// as the end, so that each loop ends by itself.
class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return failed_ ? tokens_.back() : tokens_[at_]; }
  const Token& ahead() const { return tokens_[failed_ || at_ + 1 >= tokens_.size() ? tokens_.size() - 1 : at_ + 1]; }
  Token take() {
    Token token = current();
    if (!failed_ && at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool skip_op(std::string_view op) { return current().is_op(op) ? (take(), true) : false; }
  bool skip_name(std::string_view name) { return current().is_name(name) ? (take(), true) : false; }
  void expect_op(std::string_view op);
  void expect(Token::Kind kind, std::string_view what);
  std::string expect_name();

  void fail(std::string_view what);
  bool failed() const { return failed_; }
  const Error& error() const { return error_; }

  int intern(std::string_view name);
  std::vector<std::string> release_names() { return std::move(names_); }

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
  bool failed_ = false;
  Error error_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, int> name_ids_;
};

class ExpressionParser {
 public:
  explicit ExpressionParser(TokenStream& tokens) : tokens_(tokens) {}

  ExprPtr expression();                         // with inline if
  ExprPtr tuple(bool with_conditional = true);  // a, b, c without parentheses, or one expression
  ExprPtr expression_without_conditional() { return logical_or(); }
  ExprPtr filters(ExprPtr base, bool inline_start);  // inline_start: the first filter comes without its |
  ExprPtr unary_with_postfix();                      // for call blocks

 private:
  ExprPtr logical_or();
  ExprPtr logical_and();
  ExprPtr logical_not();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concat();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr list_literal();
  ExprPtr dict_literal();
  ExprPtr parenthesised();
  ExprPtr postfix(ExprPtr base);
  ExprPtr filters_and_tests(ExprPtr base);
  ExprPtr subscript(ExprPtr base);
  ExprPtr test(ExprPtr base);
  void arguments(Expr& call);
  std::string dotted_name();
  bool at_tuple_end() const;

  ExprPtr make(Expr::Kind kind);
  ExprPtr finish(ExprPtr expr);  // sets the height; too high is an error
  ExprPtr with_child(Expr::Kind kind, ExprPtr child);

  TokenStream& tokens_;
  int depth_ = 0;
};

Result<Template> parse_template(std::string_view source);

}  // namespace redoubt::jinja
