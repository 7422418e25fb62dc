// GBNF: rules `name ::= ...` over literals, character classes, groups, alternatives and counts.
//
// Comments begin with #; a rule goes on over line ends inside parentheses, after `|` or `::=`, and wherever the next
// line does not begin a rule. Errors: invalid_argument with the line.

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "core/utf8.h"
#include "text/grammar_program.h"

namespace redoubt {
namespace grammar {
namespace {

constexpr size_t kMaxBytes = 256 << 10;
constexpr int kMaxNesting = 100;
constexpr int32_t kMaxCount = 10'000;
constexpr size_t kMaxExpressions = 200'000;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(text) {}

  ExprPool pool;
  std::vector<Rule> rules;

  Result<uint32_t> run() {
    if (text_.size() > kMaxBytes) return invalid("grammar: longer than 256 KiB");
    if (!is_valid_utf8(text_)) return invalid("grammar: expected UTF-8");
    skip();
    while (more()) REDOUBT_CHECK(rule());
    for (size_t i = 0; i < rules.size(); ++i)
      if (!defined_[i]) return invalid("grammar: rule '" + rules[i].name + "' is used and never defined");
    const auto root = places_.find("root");
    if (root == places_.end()) return invalid("grammar: expected a rule named 'root', found none");
    return root->second;
  }

 private:
  bool more() const { return position_ < text_.size(); }
  char peek() const { return more() ? text_[position_] : '\0'; }
  bool ahead(std::string_view what) const { return text_.substr(position_).starts_with(what); }
  bool take(char c) {
    if (peek() != c || !more()) return false;
    ++position_;
    return true;
  }
  Error fail(std::string_view what) const {
    size_t line = 1;
    for (size_t i = 0; i < position_ && i < text_.size(); ++i) line += text_[i] == '\n';
    return invalid("grammar: line " + std::to_string(line) + ": " + std::string(what));
  }

  void skip() {
    while (more()) {
      const char c = peek();
      if (c == '#') {
        while (more() && peek() != '\n') ++position_;
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++position_;
      } else {
        return;
      }
    }
  }

  std::string_view name() {
    const size_t start = position_;
    while (more() && is_name(peek())) ++position_;
    return text_.substr(start, position_ - start);
  }

  // Whether a rule begins here: a name and then ::=.
  bool at_rule() {
    const size_t start = position_;
    const bool named = !name().empty();
    skip();
    const bool found = named && ahead("::=");
    position_ = start;
    return found;
  }

  uint32_t place(std::string_view name) {
    const auto [it, inserted] = places_.try_emplace(std::string(name), static_cast<uint32_t>(rules.size()));
    if (inserted) {
      rules.push_back({it->first, 0});
      defined_.push_back(false);
    }
    return it->second;
  }

  Status rule() {
    if (!at_rule()) return fail("expected `name ::=`");
    const uint32_t index = place(name());
    if (defined_[index]) return fail("rule '" + rules[index].name + "' is defined twice");
    defined_[index] = true;
    skip();
    position_ += 3;
    skip();
    REDOUBT_TRY(rules[index].body, alternatives(0));
    if (more() && !at_rule()) return fail("expected the next rule");
    return ok();
  }

  Result<ExprId> alternatives(int depth) {
    if (depth > kMaxNesting) return fail("groups nested too deep");
    std::vector<ExprId> parts;
    do {
      skip();
      REDOUBT_TRY(const ExprId part, sequence(depth));
      parts.push_back(part);
    } while (take('|'));
    return pool.choice(std::move(parts));
  }

  Result<ExprId> sequence(int depth) {
    std::vector<ExprId> parts;
    while (more() && peek() != '|' && peek() != ')') {
      if (is_name(peek()) && at_rule()) break;
      if (pool.size() > kMaxExpressions) return fail("the grammar is too large");
      REDOUBT_TRY(const ExprId item, element(depth));
      skip();
      REDOUBT_TRY(const ExprId repeated, quantified(item));
      parts.push_back(repeated);
      skip();
    }
    return pool.sequence(std::move(parts));
  }

  Result<ExprId> element(int depth) {
    if (take('"')) return literal();
    if (take('[')) return char_class();
    if (take('.')) return pool.code_points({{0, 0x10ffff}});
    if (take('(')) {
      REDOUBT_TRY(const ExprId body, alternatives(depth + 1));
      if (!take(')')) return fail("expected )");
      return body;
    }
    if (is_name(peek())) return pool.call(place(name()));
    return fail("expected a literal, a class, a group or a rule's name");
  }

  Result<ExprId> quantified(ExprId item) {
    for (int count = 0; more(); ++count) {
      if (count > 4) return fail("too many quantifiers in a row");
      if (take('*')) {
        item = pool.repeat(item, 0, -1);
      } else if (take('+')) {
        item = pool.repeat(item, 1, -1);
      } else if (take('?')) {
        item = pool.optional(item);
      } else if (take('{')) {
        skip();
        const std::optional<int32_t> low = number();
        skip();
        std::optional<int32_t> high = low;
        if (take(',')) {
          skip();
          high = peek() == '}' ? std::optional<int32_t>(-1) : number();
          skip();
        }
        if (!low || !high || !take('}')) return fail("expected {m}, {m,} or {m,n}");
        if (*low > kMaxCount || *high > kMaxCount) return fail("a count over 10,000");
        if (*high >= 0 && *high < *low) return fail("a count whose end is below its beginning");
        item = pool.repeat(item, *low, *high);
      } else {
        break;
      }
      skip();
    }
    return item;
  }

  std::optional<int32_t> number() {
    const size_t start = position_;
    int32_t value = 0;
    while (more() && peek() >= '0' && peek() <= '9') value = std::min(value * 10 + (text_[position_++] - '0'), 100'000);
    if (start == position_) return std::nullopt;
    return value;
  }

  Result<ExprId> literal() {
    std::string bytes;
    while (true) {
      if (!more() || peek() == '\n') return fail("a literal without its end");
      if (take('"')) return pool.literal(bytes);
      REDOUBT_TRY(const char32_t c, character());
      append_utf8(bytes, c);
    }
  }

  Result<ExprId> char_class() {
    const bool negated = take('^');
    std::vector<CodeRange> set;
    while (!take(']')) {
      if (!more() || peek() == '\n') return fail("a class without its end");
      REDOUBT_TRY(const char32_t first, character());
      char32_t last = first;
      if (peek() == '-' && !ahead("-]")) {
        ++position_;
        if (!more()) return fail("a class without its end");
        REDOUBT_TRY(last, character());
        if (last < first) return fail("a range whose end is below its beginning");
      }
      set.push_back({first, last});
    }
    set = normalise(std::move(set));
    return pool.code_points(negated ? complement(set) : set);
  }

  Result<char32_t> character() {
    if (!take('\\')) {
      const CodePoint c = decode_utf8(text_, position_);
      position_ += static_cast<size_t>(c.bytes);
      return c.value;
    }
    if (!more()) return fail("a backslash at the end");
    const char c = text_[position_++];
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case 'x':
        return hex(2);
      case 'u':
        return hex(4);
      case 'U':
        return hex(8);
      case '"':
      case '\\':
      case '[':
      case ']':
      case '-':
      case '^':
      case '/':
      case '\'':
        return static_cast<char32_t>(c);
      default:
        return fail("an unknown escape");
    }
  }

  Result<char32_t> hex(int length) {
    uint64_t value = 0;
    for (int i = 0; i < length; ++i) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return fail("an escape with too few hexadecimal digits");
      value = value * 16 + static_cast<uint64_t>(digit);
      ++position_;
    }
    if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return fail("an escape that is no character");
    return static_cast<char32_t>(value);
  }

  std::string_view text_;
  size_t position_ = 0;
  std::map<std::string, uint32_t> places_;
  std::vector<bool> defined_;
};

}  // namespace
}  // namespace grammar

Result<GrammarPtr> grammar_from_gbnf(std::string_view text) {
  grammar::GbnfParser parser(text);
  REDOUBT_TRY(const uint32_t root, parser.run());
  grammar::GrammarLimits limits;
  grammar::AutomatonBudget budget{limits.automaton};
  REDOUBT_TRY(auto program, link_program(parser.pool, parser.rules, root, limits, budget));
  return GrammarPtr(std::move(program));
}

}  // namespace redoubt
