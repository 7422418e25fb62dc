#include "governance/cedar_expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <unordered_set>

namespace redoubt::cedar {
namespace {

constexpr int kMaxSigns = 4;  // the language takes no more ! or - in a row

struct Named {
  std::string_view name;
  Op op;
  size_t arguments;  // without the object of a method
};

constexpr std::array<Named, 4> kFunctions{{
    {"ip", Op::make_ip, 1},
    {"decimal", Op::make_decimal, 1},
    {"datetime", Op::make_datetime, 1},
    {"duration", Op::make_duration, 1},
}};

constexpr std::array<Named, 24> kMethods{{
    {"contains", Op::contains, 1},
    {"containsAll", Op::contains_all, 1},
    {"containsAny", Op::contains_any, 1},
    {"isEmpty", Op::is_empty, 0},
    {"hasTag", Op::has_tag, 1},
    {"getTag", Op::get_tag, 1},
    {"isIpv4", Op::is_ipv4, 0},
    {"isIpv6", Op::is_ipv6, 0},
    {"isLoopback", Op::is_loopback, 0},
    {"isMulticast", Op::is_multicast, 0},
    {"isInRange", Op::is_in_range, 1},
    {"lessThan", Op::decimal_less, 1},
    {"lessThanOrEqual", Op::decimal_less_equal, 1},
    {"greaterThan", Op::decimal_greater, 1},
    {"greaterThanOrEqual", Op::decimal_greater_equal, 1},
    {"offset", Op::offset, 1},
    {"durationSince", Op::duration_since, 1},
    {"toDate", Op::to_date, 0},
    {"toTime", Op::to_time, 0},
    {"toMilliseconds", Op::to_milliseconds, 0},
    {"toSeconds", Op::to_seconds, 0},
    {"toMinutes", Op::to_minutes, 0},
    {"toHours", Op::to_hours, 0},
    {"toDays", Op::to_days, 0},
}};

template <size_t N>
const Named* find(const std::array<Named, N>& table, std::string_view name) {
  const auto at = std::find_if(table.begin(), table.end(), [&](const Named& entry) { return entry.name == name; });
  return at == table.end() ? nullptr : &*at;
}

std::optional<Op> relation_op(const Token& token) {
  if (token.kind == Token::Kind::name) return token.text == "in" ? std::optional(Op::in) : std::nullopt;
  if (token.kind != Token::Kind::symbol) return std::nullopt;
  if (token.text == "==") return Op::equal;
  if (token.text == "!=") return Op::not_equal;
  if (token.text == "<") return Op::less;
  if (token.text == "<=") return Op::less_equal;
  if (token.text == ">") return Op::greater;
  if (token.text == ">=") return Op::greater_equal;
  return std::nullopt;
}

// Counts what is open around the current token.
class Nested {
 public:
  explicit Nested(int& depth) : depth_(depth) { ++depth_; }
  ~Nested() { --depth_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  int& depth_;
};

}  // namespace

Error TokenStream::unexpected(std::string_view wanted) const {
  const Token& token = peek();
  std::string found;
  switch (token.kind) {
    case Token::Kind::end:
      found = "the end of the text";
      break;
    case Token::Kind::string:
      found = "a string";
      break;
    default:
      found = fmt::format("'{}'", token.text.substr(0, 40));
  }
  return at(token, fmt::format("expected {}, found {}", wanted, found));
}

Status TokenStream::expect(std::string_view what) {
  if (!take(what)) return unexpected(fmt::format("'{}'", what));
  return ok();
}

Result<std::string_view> ExpressionParser::name(std::string_view wanted) {
  const Token& token = tokens_.peek();
  if (token.kind != Token::Kind::name) return tokens_.unexpected(wanted);
  if (is_reserved(token.text)) {
    return tokens_.at(token, fmt::format("'{}' is a word of the language and can be no name", token.text));
  }
  return tokens_.next().text;
}

Result<std::string> ExpressionParser::string_literal() {
  const Token& token = tokens_.peek();
  if (token.kind != Token::Kind::string) return tokens_.unexpected("a string");
  auto text = unescape(tokens_.next().text, Literal::string);
  if (!text) return tokens_.at(token, text.error().message);
  return text;
}

Result<std::string_view> ExpressionParser::type_name() {
  REDOUBT_TRY(const std::string_view first, name("an entity type"));
  std::string type(first);
  while (tokens_.peek().is("::") && tokens_.peek(1).kind == Token::Kind::name) {
    tokens_.next();
    REDOUBT_TRY(const std::string_view part, name("an entity type"));
    type.append("::").append(part);
  }
  return builder_.arena().copy(type);
}

Result<const EntityName*> ExpressionParser::entity() {
  REDOUBT_TRY(const std::string_view type, type_name());
  REDOUBT_CHECK(tokens_.expect("::"));
  REDOUBT_TRY(const std::string id, string_literal());
  Arena& arena = builder_.arena();
  return arena.put(entity_name(type, arena.copy(id)));
}

Result<uint32_t> ExpressionParser::expression() {
  const Nested nested(depth_);
  if (depth_ > max_depth_) {
    return tokens_.at(tokens_.peek(), fmt::format("expressions are nested deeper than {}", max_depth_));
  }
  return tokens_.peek().is("if") ? conditional() : disjunction();
}

Result<uint32_t> ExpressionParser::conditional() {
  const Token& begin = tokens_.next();
  std::array<uint32_t, 3> parts{};
  REDOUBT_TRY(parts[0], expression());
  REDOUBT_CHECK(tokens_.expect("then"));
  REDOUBT_TRY(parts[1], expression());
  REDOUBT_CHECK(tokens_.expect("else"));
  REDOUBT_TRY(parts[2], expression());
  return builder_.node(Op::condition, parts, begin.position);
}

Result<uint32_t> ExpressionParser::disjunction() {
  std::vector<uint32_t> parts(1);
  const Token& begin = tokens_.peek();
  REDOUBT_TRY(parts[0], conjunction());
  while (tokens_.take("||")) {
    REDOUBT_TRY(const uint32_t part, conjunction());
    parts.push_back(part);
  }
  return parts.size() == 1 ? Result<uint32_t>(parts[0]) : builder_.node(Op::logical_or, parts, begin.position);
}

Result<uint32_t> ExpressionParser::conjunction() {
  std::vector<uint32_t> parts(1);
  const Token& begin = tokens_.peek();
  REDOUBT_TRY(parts[0], relation());
  while (tokens_.take("&&")) {
    REDOUBT_TRY(const uint32_t part, relation());
    parts.push_back(part);
  }
  return parts.size() == 1 ? Result<uint32_t>(parts[0]) : builder_.node(Op::logical_and, parts, begin.position);
}

Result<uint32_t> ExpressionParser::relation() {
  REDOUBT_TRY(const uint32_t left, addition());
  const Token& token = tokens_.peek();
  if (token.is("has") || token.is("like") || token.is("is")) {
    tokens_.next();
    return relation_by_word(left, token);
  }
  const auto op = relation_op(token);
  if (!op) return left;
  tokens_.next();
  REDOUBT_TRY(const uint32_t right, addition());
  if (relation_op(tokens_.peek())) {
    return tokens_.at(tokens_.peek(), "a second comparison in a row needs parentheses around the first");
  }
  return builder_.node(*op, std::array{left, right}, token.position);
}

Result<uint32_t> ExpressionParser::relation_by_word(uint32_t left, const Token& word) {
  Arena& arena = builder_.arena();
  if (word.text == "has") return has_path(left, word);
  if (word.text == "like") {
    const Token& token = tokens_.peek();
    if (token.kind != Token::Kind::string) return tokens_.unexpected("a pattern in quotes");
    const auto pattern = unescape(tokens_.next().text, Literal::pattern);
    if (!pattern) return tokens_.at(token, pattern.error().message);
    return builder_.node(Op::like, std::array{left}, word.position, arena.string(*pattern));
  }
  REDOUBT_TRY(const std::string_view type, type_name());
  if (!tokens_.take("in")) return builder_.node(Op::is, std::array{left}, word.position, Value::of(type));
  REDOUBT_TRY(const uint32_t right, addition());
  return builder_.node(Op::is_in, std::array{left, right}, word.position, Value::of(type));
}

Result<uint32_t> ExpressionParser::has_path(uint32_t left, const Token& word) {
  Arena& arena = builder_.arena();
  if (tokens_.peek().kind == Token::Kind::string) {
    REDOUBT_TRY(const std::string key, string_literal());
    return builder_.node(Op::has, std::array{left}, word.position, arena.string(key));
  }
  REDOUBT_TRY(const std::string_view first, name("an attribute"));
  std::string path(first);
  while (tokens_.take(".")) {
    REDOUBT_TRY(const std::string_view key, name("an attribute"));
    path.append(".").append(key);
  }
  const Op op = path.size() == first.size() ? Op::has : Op::has_path;
  return builder_.node(op, std::array{left}, word.position, arena.string(path));
}

Result<uint32_t> ExpressionParser::addition() {
  std::vector<uint32_t> terms(1);
  const Token& begin = tokens_.peek();
  REDOUBT_TRY(terms[0], multiplication());
  while (tokens_.peek().is("+") || tokens_.peek().is("-")) {
    const bool subtract = tokens_.next().text == "-";
    REDOUBT_TRY(const uint32_t term, multiplication());
    terms.push_back(term | (subtract ? kSubtract : 0));
  }
  return terms.size() == 1 ? Result<uint32_t>(terms[0]) : builder_.node(Op::sum, terms, begin.position);
}

Result<uint32_t> ExpressionParser::multiplication() {
  std::vector<uint32_t> factors(1);
  const Token& begin = tokens_.peek();
  REDOUBT_TRY(factors[0], unary());
  while (true) {
    if (tokens_.peek().is("/") || tokens_.peek().is("%")) {
      return tokens_.at(tokens_.peek(), "the language has no division");
    }
    if (!tokens_.take("*")) break;
    REDOUBT_TRY(const uint32_t factor, unary());
    factors.push_back(factor);
  }
  return factors.size() == 1 ? Result<uint32_t>(factors[0]) : builder_.node(Op::product, factors, begin.position);
}

Result<uint32_t> ExpressionParser::unary() {
  const Token& begin = tokens_.peek();
  const std::string_view sign = begin.is("!") || begin.is("-") ? begin.text : std::string_view{};
  int count = 0;
  while (!sign.empty() && tokens_.take(sign)) ++count;
  if (count > kMaxSigns) return tokens_.at(begin, fmt::format("more than {} '{}' in a row", kMaxSigns, sign));

  uint32_t operand = 0;
  const Token& token = tokens_.peek();
  const Token& after = tokens_.peek(1);
  if (sign == "-" && token.kind == Token::Kind::integer && !after.is(".") && !after.is("[")) {
    --count;  // the sign belongs to the number: -9223372036854775808 has no positive twin
    tokens_.next();
    REDOUBT_TRY(operand, integer(token.text, /*negative=*/true, token));
  } else {
    REDOUBT_TRY(operand, member());
  }
  for (; count > 0; --count) {
    REDOUBT_TRY(operand,
                builder_.node(sign == "!" ? Op::logical_not : Op::negate, std::array{operand}, begin.position));
  }
  return operand;
}

Result<uint32_t> ExpressionParser::member() {
  REDOUBT_TRY(uint32_t object, primary());
  while (tokens_.peek().is(".") || tokens_.peek().is("[")) {
    REDOUBT_TRY(object, access(object));
  }
  return object;
}

Result<uint32_t> ExpressionParser::access(uint32_t object) {
  const Token& begin = tokens_.next();
  if (begin.text == "[") {
    REDOUBT_TRY(const std::string key, string_literal());
    REDOUBT_CHECK(tokens_.expect("]"));
    return builder_.node(Op::attribute, std::array{object}, begin.position, builder_.arena().string(key));
  }
  const Token& token = tokens_.peek();
  REDOUBT_TRY(const std::string_view key, name("an attribute or method"));
  if (tokens_.peek().is("(")) return method(object, token);
  return builder_.node(Op::attribute, std::array{object}, token.position, Value::of(key));
}

Result<uint32_t> ExpressionParser::method(uint32_t object, const Token& name) {
  const Named* known = find(kMethods, name.text);
  if (known == nullptr) return tokens_.at(name, fmt::format("'{}' is no method of the language", name.text));
  tokens_.next();
  REDOUBT_TRY(std::vector<uint32_t> arguments, expressions_until(")"));
  if (arguments.size() != known->arguments) {
    return tokens_.at(name,
                      fmt::format("{} takes {} arguments, found {}", name.text, known->arguments, arguments.size()));
  }
  arguments.insert(arguments.begin(), object);
  return builder_.node(known->op, arguments, name.position);
}

Result<uint32_t> ExpressionParser::primary() {
  const Token& token = tokens_.peek();
  switch (token.kind) {
    case Token::Kind::integer:
      tokens_.next();
      return integer(token.text, /*negative=*/false, token);
    case Token::Kind::string: {
      REDOUBT_TRY(const std::string text, string_literal());
      return builder_.constant(builder_.arena().string(text), token.position);
    }
    case Token::Kind::name:
      return word();
    default:
      break;
  }
  if (tokens_.take("(")) {
    REDOUBT_TRY(const uint32_t inner, expression());
    REDOUBT_CHECK(tokens_.expect(")"));
    return inner;
  }
  if (token.is("[")) return list();
  if (token.is("{")) return record();
  if (token.is("?")) return tokens_.at(token, "templates (?principal, ?resource) are not supported");
  return tokens_.unexpected("an expression");
}

// A variable, true or false, a function's call, or an entity.
Result<uint32_t> ExpressionParser::word() {
  const Token& token = tokens_.peek();
  const Token& after = tokens_.peek(1);
  if (after.is("::")) {
    REDOUBT_TRY(const EntityName* name, entity());
    return builder_.constant(Value::of(name), token.position);
  }
  if (after.is("(")) {
    const Named* known = find(kFunctions, token.text);
    if (known == nullptr) return tokens_.at(token, fmt::format("'{}' is no function of the language", token.text));
    tokens_.next();
    tokens_.next();
    REDOUBT_TRY(const std::vector<uint32_t> arguments, expressions_until(")"));
    if (arguments.size() != known->arguments) {
      return tokens_.at(token,
                        fmt::format("{} takes {} argument, found {}", token.text, known->arguments, arguments.size()));
    }
    return builder_.node(known->op, arguments, token.position);
  }
  if (token.text == "true" || token.text == "false") {
    tokens_.next();
    return builder_.constant(Value::of(token.text == "true"), token.position);
  }
  constexpr std::array<std::pair<std::string_view, Op>, 4> kVariables{
      {{"principal", Op::principal}, {"action", Op::action}, {"resource", Op::resource}, {"context", Op::context}}};
  for (const auto& [variable, op] : kVariables) {
    if (token.text == variable) {
      tokens_.next();
      return builder_.node(op, {}, token.position);
    }
  }
  return tokens_.at(token,
                    fmt::format("'{}' is none of principal, action, resource, context", token.text.substr(0, 40)));
}

Result<uint32_t> ExpressionParser::integer(std::string_view digits, bool negative, const Token& at) {
  std::string text = negative ? "-" : "";
  text += digits;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return tokens_.at(at, "a whole number beyond 64 bits");
  return builder_.constant(Value::of(value), at.position);
}

Result<std::vector<uint32_t>> ExpressionParser::expressions_until(std::string_view close) {
  std::vector<uint32_t> out;
  while (!tokens_.take(close)) {
    REDOUBT_TRY(const uint32_t item, expression());
    out.push_back(item);
    if (!tokens_.peek().is(close)) REDOUBT_CHECK(tokens_.expect(","));
  }
  return out;
}

Result<uint32_t> ExpressionParser::list() {
  const Token& begin = tokens_.next();
  REDOUBT_TRY(const std::vector<uint32_t> items, expressions_until("]"));
  return builder_.node(Op::set, items, begin.position);
}

Result<uint32_t> ExpressionParser::record() {
  const Token& begin = tokens_.next();
  std::vector<uint32_t> values;
  std::vector<std::string_view> keys;
  std::unordered_set<std::string_view> seen;
  while (!tokens_.take("}")) {
    const Token& token = tokens_.peek();
    std::string_view key;
    if (token.kind == Token::Kind::string) {
      REDOUBT_TRY(const std::string text, string_literal());
      key = builder_.arena().copy(text);
    } else {
      REDOUBT_TRY(key, name("a key"));
    }
    if (!seen.insert(key).second) return tokens_.at(token, "a key that the record has already");
    REDOUBT_CHECK(tokens_.expect(":"));
    REDOUBT_TRY(const uint32_t value, expression());
    keys.push_back(key);
    values.push_back(value);
    if (!tokens_.peek().is("}")) REDOUBT_CHECK(tokens_.expect(","));
  }
  return builder_.record(values, keys, begin.position);
}

}  // namespace redoubt::cedar
