#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "text/jinja_parser.h"

namespace redoubt::jinja {
namespace {

struct Spelling {
  std::string_view text;
  Op op;
};
constexpr std::array<Spelling, 6> kComparisons{
    {{"==", Op::eq}, {"!=", Op::ne}, {"<", Op::lt}, {"<=", Op::le}, {">", Op::gt}, {">=", Op::ge}}};
constexpr std::array<Spelling, 4> kProducts{{{"*", Op::mul}, {"/", Op::div}, {"//", Op::floordiv}, {"%", Op::mod}}};

template <size_t n>
const Spelling* find_op(const std::array<Spelling, n>& spellings, const Token& token) {
  if (token.kind != Token::Kind::op) return nullptr;
  const auto found =
      std::find_if(spellings.begin(), spellings.end(), [&](const Spelling& s) { return s.text == token.text; });
  return found == spellings.end() ? nullptr : &*found;
}

class Deeper {
 public:
  Deeper(int& depth, TokenStream& tokens) : depth_(depth) {
    if (++depth_ > kMaxHeight) tokens.fail("expressions are nested too deep");
  }
  ~Deeper() { --depth_; }

 private:
  int& depth_;
};

}  // namespace

void TokenStream::expect_op(std::string_view op) {
  if (!skip_op(op)) fail(fmt::format("expected '{}'", op));
}
void TokenStream::expect(Token::Kind kind, std::string_view what) {
  if (current().kind != kind) return fail(fmt::format("expected {}", what));
  take();
}
std::string TokenStream::expect_name() {
  if (current().kind == Token::Kind::name) return take().text;
  fail("expected a name");
  return {};
}
void TokenStream::fail(std::string_view what) {
  if (failed_) return;
  error_ = corrupt(fmt::format("chat template, line {}: {}", current().line, what));
  failed_ = true;
}
int TokenStream::intern(std::string_view name) {
  const auto [entry, is_new] = name_ids_.try_emplace(std::string(name), static_cast<int>(names_.size()));
  if (is_new) names_.emplace_back(name);
  return entry->second;
}

ExprPtr ExpressionParser::make(Expr::Kind kind) {
  auto expr = std::make_unique<Expr>();
  expr->kind = kind;
  expr->line = tokens_.current().line;
  return expr;
}

ExprPtr ExpressionParser::finish(ExprPtr expr) {
  const auto raise = [&](const ExprPtr& child) {
    if (child) expr->height = std::max(expr->height, child->height + 1);
  };
  for (const ExprPtr& child : expr->children) raise(child);
  for (const auto& keyword : expr->keywords) raise(keyword.second);
  raise(expr->star_arguments);
  raise(expr->star_keywords);
  if (expr->height > kMaxHeight) tokens_.fail("expressions are nested too deep");
  return expr;
}

ExprPtr ExpressionParser::with_child(Expr::Kind kind, ExprPtr child) {
  ExprPtr expr = make(kind);
  expr->children.push_back(std::move(child));
  return finish(std::move(expr));
}

ExprPtr ExpressionParser::expression() {
  const Deeper deeper(depth_, tokens_);
  ExprPtr value = logical_or();
  while (!tokens_.failed() && tokens_.skip_name("if")) {
    ExprPtr condition = make(Expr::Kind::conditional);
    condition->children.push_back(logical_or());
    condition->children.push_back(std::move(value));
    condition->children.push_back(tokens_.skip_name("else") ? expression() : nullptr);
    value = finish(std::move(condition));
  }
  return value;
}

bool ExpressionParser::at_tuple_end() const {
  const Token& token = tokens_.current();
  return token.kind == Token::Kind::variable_end || token.kind == Token::Kind::block_end || token.is_op(")") ||
         token.kind == Token::Kind::end || token.is_name("recursive");
}

ExprPtr ExpressionParser::tuple(bool with_conditional) {
  const auto element = [&] { return with_conditional ? expression() : logical_or(); };
  ExprPtr first = element();
  if (!tokens_.current().is_op(",")) return first;
  ExprPtr all = make(Expr::Kind::tuple);
  all->children.push_back(std::move(first));
  while (tokens_.skip_op(",") && !at_tuple_end()) all->children.push_back(element());
  return finish(std::move(all));
}

ExprPtr ExpressionParser::logical_or() {
  ExprPtr left = logical_and();
  if (!tokens_.current().is_name("or")) return left;
  ExprPtr all = with_child(Expr::Kind::logical_or, std::move(left));
  while (tokens_.skip_name("or")) all->children.push_back(logical_and());
  return finish(std::move(all));
}

ExprPtr ExpressionParser::logical_and() {
  ExprPtr left = logical_not();
  if (!tokens_.current().is_name("and")) return left;
  ExprPtr all = with_child(Expr::Kind::logical_and, std::move(left));
  while (tokens_.skip_name("and")) all->children.push_back(logical_not());
  return finish(std::move(all));
}

ExprPtr ExpressionParser::logical_not() {
  const Deeper deeper(depth_, tokens_);
  if (tokens_.skip_name("not")) return with_child(Expr::Kind::logical_not, logical_not());
  return comparison();
}

ExprPtr ExpressionParser::comparison() {
  ExprPtr left = sum();
  ExprPtr chain;
  while (!tokens_.failed()) {
    Op op = Op::in;
    if (const Spelling* spelling = find_op(kComparisons, tokens_.current())) {
      op = spelling->op;
    } else if (tokens_.current().is_name("not") && tokens_.ahead().is_name("in")) {
      tokens_.take();
      op = Op::not_in;
    } else if (!tokens_.current().is_name("in")) {
      break;
    }
    tokens_.take();
    if (!chain) chain = with_child(Expr::Kind::compare, std::move(left));
    chain->ops.push_back(op);
    chain->children.push_back(sum());
  }
  return chain ? finish(std::move(chain)) : std::move(left);
}

ExprPtr ExpressionParser::sum() {
  ExprPtr left = concat();
  ExprPtr chain;
  while (tokens_.current().is_op("+") || tokens_.current().is_op("-")) {
    if (!chain) chain = with_child(Expr::Kind::arithmetic, std::move(left));
    chain->ops.push_back(tokens_.take().text == "+" ? Op::add : Op::sub);
    chain->children.push_back(concat());
  }
  return chain ? finish(std::move(chain)) : std::move(left);
}

ExprPtr ExpressionParser::concat() {
  ExprPtr left = product();
  if (!tokens_.current().is_op("~")) return left;
  ExprPtr all = with_child(Expr::Kind::concat, std::move(left));
  while (tokens_.skip_op("~")) all->children.push_back(product());
  return finish(std::move(all));
}

ExprPtr ExpressionParser::product() {
  ExprPtr left = power();
  ExprPtr chain;
  while (const Spelling* spelling = find_op(kProducts, tokens_.current())) {
    tokens_.take();
    if (!chain) chain = with_child(Expr::Kind::arithmetic, std::move(left));
    chain->ops.push_back(spelling->op);
    chain->children.push_back(power());
  }
  return chain ? finish(std::move(chain)) : std::move(left);
}

ExprPtr ExpressionParser::power() {
  ExprPtr left = unary(true);
  ExprPtr chain;
  while (tokens_.skip_op("**")) {
    if (!chain) chain = with_child(Expr::Kind::arithmetic, std::move(left));
    chain->ops.push_back(Op::pow);
    chain->children.push_back(unary(true));
  }
  return chain ? finish(std::move(chain)) : std::move(left);
}

ExprPtr ExpressionParser::unary(bool with_filters) {
  const Deeper deeper(depth_, tokens_);
  ExprPtr node;
  if (tokens_.skip_op("-")) {
    node = with_child(Expr::Kind::negative, unary(false));
  } else if (tokens_.skip_op("+")) {
    node = with_child(Expr::Kind::positive, unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr ExpressionParser::unary_with_postfix() { return unary(true); }

ExprPtr ExpressionParser::primary() {
  ExprPtr expr = make(Expr::Kind::constant);
  const Token& token = tokens_.current();
  if (token.is_op("(")) return parenthesised();
  if (token.is_op("[")) return list_literal();
  if (token.is_op("{")) return dict_literal();
  if (token.kind == Token::Kind::name) {
    const std::string name = tokens_.take().text;
    if (name == "true" || name == "True" || name == "false" || name == "False") {
      expr->value = Value(name == "true" || name == "True");
    } else if (name == "none" || name == "None") {
      expr->value = Value(None{});
    } else {
      expr->kind = Expr::Kind::name;
      expr->name = tokens_.intern(name);
      expr->text = name;
    }
  } else if (token.kind == Token::Kind::string) {
    auto text = std::make_shared<Text>();
    std::string all;
    while (tokens_.current().kind == Token::Kind::string) all += tokens_.take().text;
    text->text = OriginText::markup(std::move(all));
    expr->value = Value(Value::TextPtr(std::move(text)));
  } else if (token.kind == Token::Kind::integer) {
    expr->value = Value(tokens_.take().integer);
  } else if (token.kind == Token::Kind::floating) {
    expr->value = Value(tokens_.take().floating);
  } else {
    tokens_.fail(token.kind == Token::Kind::end ? "unexpected end of template" : "expected an expression");
  }
  return expr;
}

ExprPtr ExpressionParser::parenthesised() {
  tokens_.expect_op("(");
  ExprPtr inside;
  if (tokens_.current().is_op(")")) {
    inside = make(Expr::Kind::tuple);
  } else {
    inside = tuple();
  }
  tokens_.expect_op(")");
  return inside;
}

ExprPtr ExpressionParser::list_literal() {
  ExprPtr list = make(Expr::Kind::list);
  tokens_.expect_op("[");
  while (!tokens_.failed() && !tokens_.current().is_op("]")) {
    if (!list->children.empty()) tokens_.expect_op(",");
    if (tokens_.current().is_op("]")) break;
    list->children.push_back(expression());
  }
  tokens_.expect_op("]");
  return finish(std::move(list));
}

ExprPtr ExpressionParser::dict_literal() {
  ExprPtr dict = make(Expr::Kind::dict);
  tokens_.expect_op("{");
  while (!tokens_.failed() && !tokens_.current().is_op("}")) {
    if (!dict->children.empty()) tokens_.expect_op(",");
    if (tokens_.current().is_op("}")) break;
    dict->children.push_back(expression());
    tokens_.expect_op(":");
    dict->children.push_back(expression());
  }
  tokens_.expect_op("}");
  return finish(std::move(dict));
}

ExprPtr ExpressionParser::postfix(ExprPtr base) {
  while (!tokens_.failed()) {
    if (tokens_.current().is_op(".") || tokens_.current().is_op("[")) {
      base = subscript(std::move(base));
    } else if (tokens_.current().is_op("(")) {
      base = with_child(Expr::Kind::call, std::move(base));
      arguments(*base);
      base = finish(std::move(base));
    } else {
      break;
    }
  }
  return base;
}

ExprPtr ExpressionParser::filters_and_tests(ExprPtr base) {
  while (!tokens_.failed()) {
    if (tokens_.current().is_op("|")) {
      base = filters(std::move(base), false);
    } else if (tokens_.current().is_name("is")) {
      base = test(std::move(base));
    } else if (tokens_.current().is_op("(")) {
      base = with_child(Expr::Kind::call, std::move(base));
      arguments(*base);
      base = finish(std::move(base));
    } else {
      break;
    }
  }
  return base;
}

ExprPtr ExpressionParser::subscript(ExprPtr base) {
  if (tokens_.skip_op(".")) {
    if (tokens_.current().kind == Token::Kind::integer) {
      ExprPtr item = with_child(Expr::Kind::item, std::move(base));
      ExprPtr index = make(Expr::Kind::constant);
      index->value = Value(tokens_.take().integer);
      item->children.push_back(std::move(index));
      return item;
    }
    ExprPtr attribute = with_child(Expr::Kind::attribute, std::move(base));
    attribute->text = tokens_.expect_name();
    return attribute;
  }
  tokens_.expect_op("[");
  const auto bound = [&]() -> ExprPtr {
    return tokens_.current().is_op(":") || tokens_.current().is_op("]") ? nullptr : expression();
  };
  ExprPtr first = bound();
  if (!tokens_.current().is_op(":")) {
    if (!first) tokens_.fail("expected a subscript");
    ExprPtr item = with_child(Expr::Kind::item, std::move(base));
    item->children.push_back(std::move(first));
    tokens_.expect_op("]");
    return finish(std::move(item));
  }
  ExprPtr slice = with_child(Expr::Kind::slice, std::move(base));
  slice->children.push_back(std::move(first));
  for (int i = 0; i < 2; ++i) slice->children.push_back(tokens_.skip_op(":") ? bound() : nullptr);
  tokens_.expect_op("]");
  return finish(std::move(slice));
}

std::string ExpressionParser::dotted_name() {
  std::string name = tokens_.expect_name();
  while (tokens_.skip_op(".")) name += "." + tokens_.expect_name();
  return name;
}

ExprPtr ExpressionParser::filters(ExprPtr base, bool inline_start) {
  while (!tokens_.failed() && (inline_start || tokens_.skip_op("|"))) {
    inline_start = false;
    ExprPtr filter = with_child(Expr::Kind::filter, std::move(base));
    filter->text = dotted_name();
    if (tokens_.current().is_op("(")) arguments(*filter);
    base = finish(std::move(filter));
  }
  return base;
}

ExprPtr ExpressionParser::test(ExprPtr base) {
  tokens_.take();
  const bool negated = tokens_.skip_name("not");
  ExprPtr expr = with_child(Expr::Kind::test, std::move(base));
  expr->text = dotted_name();
  const Token& next = tokens_.current();
  const bool has_argument = next.kind == Token::Kind::name || next.kind == Token::Kind::string ||
                            next.kind == Token::Kind::integer || next.kind == Token::Kind::floating ||
                            next.is_op("[") || next.is_op("{");
  const bool is_word = next.is_name("else") || next.is_name("or") || next.is_name("and");
  if (next.is_op("(")) {
    arguments(*expr);
  } else if (next.is_name("is")) {
    tokens_.fail("You cannot chain multiple tests with is");
  } else if (has_argument && !is_word) {
    expr->children.push_back(postfix(primary()));
  }
  expr = finish(std::move(expr));
  return negated ? with_child(Expr::Kind::logical_not, std::move(expr)) : std::move(expr);
}

void ExpressionParser::arguments(Expr& call) {
  tokens_.expect_op("(");
  bool first = true;
  while (!tokens_.failed() && !tokens_.current().is_op(")")) {
    if (!first) tokens_.expect_op(",");
    if (tokens_.current().is_op(")")) break;
    first = false;
    if (tokens_.skip_op("*")) {
      if (call.star_arguments || call.star_keywords) tokens_.fail("invalid syntax for function call expression");
      call.star_arguments = expression();
    } else if (tokens_.skip_op("**")) {
      if (call.star_keywords) tokens_.fail("invalid syntax for function call expression");
      call.star_keywords = expression();
    } else if (tokens_.current().kind == Token::Kind::name && tokens_.ahead().is_op("=")) {
      std::string name = tokens_.take().text;
      tokens_.take();
      call.keywords.emplace_back(std::move(name), expression());
    } else {
      if (!call.keywords.empty() || call.star_arguments || call.star_keywords) {
        tokens_.fail("invalid syntax for function call expression");
      }
      call.children.push_back(expression());
    }
  }
  tokens_.expect_op(")");
}

}  // namespace redoubt::jinja
