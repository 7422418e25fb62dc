#include "text/regex_grammar.h"

#include <algorithm>
#include <optional>

#include "core/utf8.h"
#include "text/grammar_program.h"

namespace redoubt {
namespace grammar {
namespace {

constexpr int kMaxNesting = 100;
constexpr int32_t kMaxCount = 10'000;
constexpr size_t kMaxPatternBytes = 64 << 10;
constexpr char32_t kLastCodePoint = 0x10ffff;

using Ranges = std::vector<CodeRange>;

Ranges digits() { return {{'0', '9'}}; }
Ranges word() { return {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}; }
Ranges space() { return {{'\t', '\r'}, {' ', ' '}}; }

class RegexParser {
 public:
  RegexParser(std::string_view pattern, RegexText text, RegexMatch match, ExprPool& pool)
      : pattern_(pattern), text_(text), match_(match), pool_(pool) {}

  Result<ExprId> run() {
    if (pattern_.size() > kMaxPatternBytes) return fail("longer than 64 KiB");
    if (!is_valid_utf8(pattern_)) return fail("not UTF-8");
    REDOUBT_TRY(const ExprId all, alternatives(0));
    if (position_ < pattern_.size()) return fail("unmatched )");
    return all;
  }

 private:
  Error fail(std::string_view what) const {
    return invalid("regex: " + std::string(what) + " at byte " + std::to_string(position_));
  }
  Error refuse(std::string_view what) const {
    return unsupported("regex: " + std::string(what) + " at byte " + std::to_string(position_) + " is not supported");
  }
  bool more() const { return position_ < pattern_.size(); }
  char peek() const { return pattern_[position_]; }
  bool take(char c) {
    if (!more() || peek() != c) return false;
    ++position_;
    return true;
  }
  bool ahead(std::string_view text) const { return pattern_.substr(position_).starts_with(text); }

  Result<ExprId> alternatives(int depth) {
    if (depth > kMaxNesting) return fail("groups nested too deep");
    std::vector<ExprId> parts;
    do {
      REDOUBT_TRY(const ExprId part, alternative(depth));
      parts.push_back(part);
    } while (take('|'));
    return pool_.choice(std::move(parts));
  }

  Result<ExprId> alternative(int depth) {
    std::vector<ExprId> parts;
    bool from_start = false, to_end = false;
    while (more() && peek() != '|' && peek() != ')') {
      if (pool_.size() > 200'000) return fail("too large");
      if (peek() == '^') {
        if (depth > 0 || !parts.empty() || from_start) return refuse("an anchor that is not at the end of the whole");
        ++position_;
        from_start = true;
        continue;
      }
      if (peek() == '$') {
        ++position_;
        if (depth > 0 || (more() && peek() != '|')) return refuse("an anchor that is not at the end of the whole");
        to_end = true;
        break;
      }
      REDOUBT_TRY(const ExprId item, atom(depth));
      REDOUBT_TRY(const ExprId repeated, quantified(item));
      parts.push_back(repeated);
    }
    if (depth == 0 && match_ == RegexMatch::search) {
      const ExprId anything = pool_.repeat(characters(pool_, {{0, kLastCodePoint}}, text_), 0, -1);
      if (!from_start) parts.insert(parts.begin(), anything);
      if (!to_end) parts.push_back(anything);
    }
    return pool_.sequence(std::move(parts));
  }

  Result<ExprId> quantified(ExprId item) {
    int32_t min = 1, max = 1;
    if (take('*')) {
      min = 0, max = -1;
    } else if (take('+')) {
      max = -1;
    } else if (take('?')) {
      min = 0;
    } else if (more() && peek() == '{') {
      bool counted = false;
      REDOUBT_CHECK(count(min, max, counted));
      if (!counted) return item;
    } else {
      return item;
    }
    if (ahead("+")) return refuse("a possessive quantifier");
    take('?');  // lazy: the same texts match
    if (more() && (peek() == '*' || peek() == '?' || peek() == '+')) return fail("a quantifier after a quantifier");
    return pool_.repeat(item, min, max);
  }

  // {m}, {m,}, {m,n}; anything else is the literal '{', as readers of regular expressions commonly have it.
  Status count(int32_t& min, int32_t& max, bool& counted) {
    const size_t start = position_;
    ++position_;
    const std::optional<int32_t> low = number();
    std::optional<int32_t> high = low;
    if (low && take(',')) high = more() && peek() == '}' ? std::optional<int32_t>(-1) : number();
    if (!low || !high || !take('}')) {
      position_ = start;
      return fail("{ without a count (write \\{)");
    }
    if (*low > kMaxCount || *high > kMaxCount) return fail("a count over 10,000");
    if (*high >= 0 && *high < *low) return fail("a count whose end is below its beginning");
    min = *low, max = *high, counted = true;
    return ok();
  }

  std::optional<int32_t> number() {
    const size_t start = position_;
    int32_t value = 0;
    while (more() && peek() >= '0' && peek() <= '9')
      value = std::min(value * 10 + (pattern_[position_++] - '0'), 100'000);
    if (position_ == start) return std::nullopt;
    return value;
  }

  Result<ExprId> atom(int depth) {
    if (take('(')) return group(depth);
    if (take('[')) {
      REDOUBT_TRY(const Ranges set, char_class());
      return characters(pool_, set, text_);
    }
    if (take('.')) return characters(pool_, complement({{'\n', '\n'}}), text_);
    if (peek() == '*' || peek() == '+' || peek() == '?') return fail("a quantifier with nothing before it");
    if (peek() == '{') return fail("{ with nothing before it (write \\{)");
    if (take('\\')) {
      REDOUBT_TRY(const Ranges set, escape(false));
      return characters(pool_, set, text_);
    }
    const CodePoint c = decode_utf8(pattern_, position_);
    position_ += static_cast<size_t>(c.bytes);
    return characters(pool_, {{c.value, c.value}}, text_);
  }

  Result<ExprId> group(int depth) {
    if (take('?')) {
      if (ahead("=") || ahead("!") || ahead("<=") || ahead("<!")) return refuse("lookaround");
      if (ahead("P<") || ahead("<")) {
        const size_t close = pattern_.find('>', position_);
        if (close == std::string_view::npos) return fail("a group's name without its end");
        position_ = close + 1;
      } else if (!take(':')) {
        return refuse("a group of this kind");
      }
    } else if (ahead("*")) {
      return refuse("a verb");
    }
    REDOUBT_TRY(const ExprId body, alternatives(depth + 1));
    if (!take(')')) return fail("a group without its end");
    return body;
  }

  // After the backslash.
  Result<Ranges> escape(bool in_class) {
    if (!more()) return fail("a backslash at the end");
    const CodePoint point = decode_utf8(pattern_, position_);
    if (point.value > 0x7f) return fail("an unknown escape");
    const char c = pattern_[position_++];
    switch (c) {
      case 'd':
        return digits();
      case 'D':
        return complement(digits());
      case 'w':
        return word();
      case 'W':
        return complement(word());
      case 's':
        return space();
      case 'S':
        return complement(space());
      case 'n':
        return one('\n');
      case 'r':
        return one('\r');
      case 't':
        return one('\t');
      case 'f':
        return one('\f');
      case 'v':
        return one('\v');
      case '0':
        if (more() && peek() >= '0' && peek() <= '9') return refuse("an octal escape");
        return one('\0');
      case 'b':
        if (in_class) return one('\b');
        return refuse("a word boundary");
      case 'x':
        return hex(2);
      case 'u':
        if (take('{')) {
          REDOUBT_TRY(const Ranges set, hex(-1));
          if (!take('}')) return fail("an escape without its }");
          return set;
        }
        return hex(4);
      case 'B':
        return refuse("a word boundary");
      case 'A':
      case 'z':
      case 'Z':
      case 'G':
        return refuse("an anchor of this kind");
      case 'p':
      case 'P':
        return refuse("a Unicode property");
      case 'k':
        return refuse("a backreference");
      default:
        break;
    }
    if (c >= '1' && c <= '9') return refuse("a backreference");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return refuse("an unknown escape");
    return one(static_cast<unsigned char>(c));
  }

  static Ranges one(char32_t c) { return {{c, c}}; }

  Result<Ranges> hex(int length) {
    char32_t value = 0;
    int taken = 0;
    while (more() && taken != length && value <= kLastCodePoint) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<char32_t>(digit);
      ++position_;
      ++taken;
    }
    if (taken == 0 || (length > 0 && taken != length)) return fail("an escape with too few hexadecimal digits");
    if (value > kLastCodePoint || (value >= 0xd800 && value <= 0xdfff)) return fail("an escape that is no character");
    return one(value);
  }

  // After the '['.
  Result<Ranges> char_class() {
    const bool negated = take('^');
    Ranges set;
    bool first = true;
    while (true) {
      if (!more()) return fail("a class without its ]");
      if (peek() == ']' && !first) break;
      if (ahead("[:") || ahead("[.") || ahead("[=")) return refuse("a POSIX class");
      first = false;
      REDOUBT_TRY(Ranges low, class_item());
      if (low.size() == 1 && low[0].first == low[0].last && ahead("-") && !ahead("-]")) {
        ++position_;
        REDOUBT_TRY(const Ranges high, class_item());
        if (high.size() != 1 || high[0].first != high[0].last) return fail("a range that ends in a class");
        if (high[0].first < low[0].first) return fail("a range whose end is below its beginning");
        low[0].last = high[0].first;
      }
      set.insert(set.end(), low.begin(), low.end());
    }
    ++position_;
    set = normalise(std::move(set));
    return negated ? complement(set) : set;
  }

  Result<Ranges> class_item() {
    if (!more()) return fail("a class without its ]");
    if (take('\\')) return escape(true);
    const CodePoint c = decode_utf8(pattern_, position_);
    position_ += static_cast<size_t>(c.bytes);
    return one(c.value);
  }

  std::string_view pattern_;
  RegexText text_;
  RegexMatch match_;
  ExprPool& pool_;
  size_t position_ = 0;
};

// How JSON writes the characters that may not stand in a string as they are.
std::string json_escape(char32_t c) {
  switch (c) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  constexpr char kHex[] = "0123456789abcdef";
  return std::string("\\u00") + kHex[c >> 4 & 15] + kHex[c & 15];
}

}  // namespace

ExprId characters(ExprPool& pool, const std::vector<CodeRange>& set, RegexText text) {
  if (text == RegexText::plain) return pool.code_points(set);
  std::vector<CodeRange> raw;
  std::vector<ExprId> parts;
  const std::vector<CodeRange> may_stand = {{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, kLastCodePoint}};
  for (const CodeRange& r : normalise(set)) {
    for (const CodeRange& m : may_stand)
      if (std::max(r.first, m.first) <= std::min(r.last, m.last))
        raw.push_back({std::max(r.first, m.first), std::min(r.last, m.last)});
    for (char32_t c = r.first; c <= std::min<char32_t>(r.last, '\\'); ++c)
      if (c < 0x20 || c == '"' || c == '\\') parts.push_back(pool.literal(json_escape(c)));
  }
  parts.push_back(pool.code_points(std::move(raw)));
  return pool.choice(std::move(parts));
}

Result<ExprId> parse_regex(std::string_view pattern, RegexText text, RegexMatch match, ExprPool& pool) {
  return RegexParser(pattern, text, match, pool).run();
}

}  // namespace grammar

Result<GrammarPtr> grammar_from_regex(std::string_view pattern) {
  grammar::ExprPool pool;
  REDOUBT_TRY(const grammar::ExprId body,
              parse_regex(pattern, grammar::RegexText::plain, grammar::RegexMatch::whole, pool));
  grammar::GrammarLimits limits;
  grammar::AutomatonBudget budget{limits.automaton};
  REDOUBT_TRY(auto program, link_program(pool, {{"root", body}}, 0, limits, budget));
  return GrammarPtr(std::move(program));
}

Result<GrammarPtr> grammar_from_choice(std::span<const std::string> choices) {
  if (choices.empty()) return invalid("choice: expected at least one text, found none");
  grammar::ExprPool pool;
  std::vector<grammar::ExprId> parts;
  for (const std::string& choice : choices) {
    if (!is_valid_utf8(choice)) return invalid("choice: expected UTF-8");
    parts.push_back(pool.literal(choice));
  }
  const grammar::ExprId body = pool.choice(std::move(parts));
  grammar::GrammarLimits limits;
  grammar::AutomatonBudget budget{limits.automaton};
  REDOUBT_TRY(auto program, link_program(pool, {{"root", body}}, 0, limits, budget));
  return GrammarPtr(std::move(program));
}

}  // namespace redoubt
