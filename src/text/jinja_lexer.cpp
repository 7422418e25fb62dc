#include "text/jinja_lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "core/utf8.h"

namespace redoubt::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 28 && c <= 31); }

// Every line end becomes "\n", and one at the end of the template goes.
std::string normalise_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) REDOUBT_CHECK(next_region());
    push(Token::Kind::end, {});
    return std::move(tokens_);
  }

 private:
  Error fail(std::string_view what) const { return corrupt(fmt::format("chat template, line {}: {}", line_, what)); }

  void push(Token::Kind kind, std::string text) {
    Token token;
    token.kind = kind;
    token.text = std::move(text);
    token.line = line_;
    tokens_.push_back(std::move(token));
  }

  // Moves to `position`, counting lines and remembering whether a line starts there.
  void advance(size_t position) {
    if (position == at_) return;
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
    at_ = position;
    line_starts_ = source_[position - 1] == '\n';
  }

  bool looking_at(std::string_view what) const { return source_.compare(at_, what.size(), what) == 0; }

  // The next tag's position: {{ {% {#.
  size_t find_tag() const {
    for (size_t i = source_.find('{', at_); i != std::string::npos; i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    }
    return std::string::npos;
  }

  // Output before a tag that opens with `sign` ('-', '+' or 0), trimmed as the sign and lstrip_blocks ask.
  void push_output(std::string_view text, char sign, bool is_variable) {
    if (sign == '-') {
      while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
    } else if (sign != '+' && !is_variable) {
      const size_t newline = text.rfind('\n');
      const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
      const bool blank =
          line < text.size() && std::all_of(text.begin() + static_cast<std::ptrdiff_t>(line), text.end(), is_blank);
      if (blank && (line > 0 || line_starts_)) text = text.substr(0, line);
    }
    if (!text.empty()) push(Token::Kind::output, std::string(text));
  }

  char sign_at(size_t position) const {
    return position < source_.size() && (source_[position] == '-' || source_[position] == '+') ? source_[position] : 0;
  }

  Status next_region() {
    const size_t tag = find_tag();
    if (tag == std::string::npos) {
      push(Token::Kind::output, source_.substr(at_));
      advance(source_.size());
      return ok();
    }
    const char kind = source_[tag + 1], sign = sign_at(tag + 2);
    push_output(std::string_view(source_).substr(at_, tag - at_), sign, kind == '{');
    advance(tag);
    const size_t inside = tag + (sign ? 3 : 2);
    if (kind == '#') return skip_comment(inside);
    if (kind == '%' && word_at(inside) == "raw") return read_raw(inside);
    push(kind == '{' ? Token::Kind::variable_begin : Token::Kind::block_begin, {});
    advance(inside);
    return read_tag(kind == '{');
  }

  // After a tag's closing: "-": all white space goes; "+": nothing; else one newline, if it was no variable.
  void close_tag(size_t end, char sign, bool is_variable) {
    if (sign == '-') {
      while (end < source_.size() && is_blank(source_[end])) ++end;
    } else if (sign != '+' && !is_variable && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    advance(end);
  }

  Status skip_comment(size_t from) {
    const size_t end = source_.find("#}", from);
    if (end == std::string::npos) return fail("Missing end of comment tag");
    const char sign = end > from ? sign_at(end - 1) : 0;
    close_tag(end + 2, sign, false);
    return ok();
  }

  std::string_view word_at(size_t position) const {
    while (position < source_.size() && is_blank(source_[position])) ++position;
    size_t end = position;
    while (end < source_.size() && ((source_[end] | 32) >= 'a' && (source_[end] | 32) <= 'z')) ++end;
    return std::string_view(source_).substr(position, end - position);
  }

  // The position after "%}" of a tag that holds one word alone; npos if it is another tag.
  size_t end_of_word_tag(size_t inside, std::string_view word, char& sign) const {
    if (word_at(inside) != word) return std::string::npos;
    size_t i = static_cast<size_t>(word_at(inside).data() - source_.data()) + word.size();
    while (i < source_.size() && is_blank(source_[i])) ++i;
    sign = sign_at(i);
    if (sign) ++i;
    return source_.compare(i, 2, "%}") == 0 ? i + 2 : std::string::npos;
  }

  Status read_raw(size_t inside) {
    char sign = 0;
    const size_t begin = end_of_word_tag(inside, "raw", sign);
    if (begin == std::string::npos || sign == '+') return fail("expected '%}' after raw");
    close_tag(begin, sign == '-' ? '-' : '+', false);  // the newline after {% raw %} stays
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      const char open_sign = sign_at(tag + 2);
      char close_sign = 0;
      const size_t end = end_of_word_tag(tag + (open_sign ? 3 : 2), "endraw", close_sign);
      if (end == std::string::npos) continue;
      push_output(std::string_view(source_).substr(at_, tag - at_), open_sign, false);
      close_tag(end, close_sign, false);
      return ok();
    }
    return fail("Missing end of raw directive");
  }

  Status read_tag(bool is_variable) {
    const std::string_view closing = is_variable ? "}}" : "%}";
    std::string open;  // brackets
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (is_blank(c)) {
        advance(at_ + 1);
        continue;
      }
      if (open.empty()) {
        const bool signed_end = (c == '-' || (c == '+' && !is_variable)) && source_.compare(at_ + 1, 2, closing) == 0;
        if (signed_end || looking_at(closing)) {
          push(is_variable ? Token::Kind::variable_end : Token::Kind::block_end, {});
          close_tag(at_ + (signed_end ? 3 : 2), signed_end ? c : 0, is_variable);
          return ok();
        }
      }
      REDOUBT_CHECK(read_word(open));
    }
    return fail(is_variable ? "unexpected end of template, expected '}}'"
                            : "unexpected end of template, expected '%}'");
  }

  Status read_word(std::string& open) {
    const char c = source_[at_];
    if (c == '\'' || c == '"') return read_string(c);
    if (is_digit(c)) return read_number();
    const CodePoint point = decode_utf8(source_, at_);
    if (c == '_' || is_alpha(point.value)) {
      read_name();
      return ok();
    }
    return read_operator(open);
  }

  void read_name() {
    size_t end = at_;
    while (end < source_.size()) {
      const CodePoint c = decode_utf8(source_, end);
      if (!is_alpha(c.value) && c.value != '_' && !(c.value < 0x80 && is_digit(static_cast<char>(c.value)))) break;
      end += static_cast<size_t>(c.bytes);
    }
    push(Token::Kind::name, source_.substr(at_, end - at_));
    advance(end);
  }

  size_t skip_digits(size_t i) const {
    while (i < source_.size() &&
           (is_digit(source_[i]) || (source_[i] == '_' && i + 1 < source_.size() && is_digit(source_[i + 1]))))
      ++i;
    return i;
  }

  Status read_number() {
    size_t end = at_;
    int base = 10;
    if (source_[at_] == '0' && at_ + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[at_ + 1] | 32);
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
    }
    bool is_float = false;
    if (base != 10) {
      end += 2;
      while (end < source_.size() && (std::isxdigit(static_cast<unsigned char>(source_[end])) || source_[end] == '_'))
        ++end;
    } else {
      end = skip_digits(end);
      const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';  // x.0.1: subscripts, not a fraction
      if (!after_dot && end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
        is_float = true;
        end = skip_digits(end + 1);
      }
      if (!after_dot && end < source_.size() && (source_[end] | 32) == 'e') {
        const size_t sign = end + 1 < source_.size() && (source_[end + 1] == '+' || source_[end + 1] == '-') ? 2 : 1;
        if (end + sign < source_.size() && is_digit(source_[end + sign])) {
          is_float = true;
          end = skip_digits(end + sign);
        }
      }
    }
    std::string digits = source_.substr(at_, end - at_);
    std::erase(digits, '_');
    push(is_float ? Token::Kind::floating : Token::Kind::integer, digits);
    Token& token = tokens_.back();
    if (is_float) {
      std::from_chars(digits.data(), digits.data() + digits.size(), token.floating);
    } else {
      for (size_t i = base == 10 ? 0 : 2; i < digits.size(); ++i) {
        const char c = digits[i];
        const int digit = is_digit(c) ? c - '0' : (c | 32) - 'a' + 10;
        if (digit >= base || __builtin_mul_overflow(token.integer, Integer{base}, &token.integer) ||
            __builtin_add_overflow(token.integer, Integer{digit}, &token.integer)) {
          return fail("a number is out of range");
        }
      }
    }
    advance(end);
    return ok();
  }

  Status read_string(char quote) {
    std::string text;
    for (size_t i = at_ + 1; i < source_.size();) {
      if (source_[i] == quote) {
        push(Token::Kind::string, std::move(text));
        advance(i + 1);
        return ok();
      }
      if (source_[i] != '\\' || i + 1 == source_.size()) {
        text += source_[i++];
        continue;
      }
      REDOUBT_CHECK(read_escape(text, i));
    }
    return fail("a string has no end");
  }

  // Python's escapes; `i` stands on the backslash and moves behind the escape.
  Status read_escape(std::string& text, size_t& i) {
    static constexpr std::array<std::pair<char, char>, 10> kPlain{{{'n', '\n'},
                                                                   {'t', '\t'},
                                                                   {'r', '\r'},
                                                                   {'\\', '\\'},
                                                                   {'\'', '\''},
                                                                   {'"', '"'},
                                                                   {'a', '\a'},
                                                                   {'b', '\b'},
                                                                   {'f', '\f'},
                                                                   {'v', '\v'}}};
    const char c = source_[i + 1];
    for (const auto& [letter, meaning] : kPlain) {
      if (c == letter) return text += meaning, i += 2, ok();
    }
    if (c == '\n') return i += 2, ok();
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    size_t begin = i + 2;
    int base = 16;
    if (c >= '0' && c <= '7') {
      base = 8;
      begin = i + 1;
      while (digits < 3 && begin + digits < source_.size() && source_[begin + digits] >= '0' &&
             source_[begin + digits] <= '7')
        ++digits;
    } else if (digits == 0) {
      if (c == 'N') return fail("the escape \\N{...} is not supported");
      return text += '\\', i += 1, ok();  // unknown: kept as it stands
    }
    uint32_t value = 0;
    const char* first = source_.data() + begin;
    const char* last = source_.data() + std::min(begin + digits, source_.size());
    const auto parsed = std::from_chars(first, last, value, base);
    if (parsed.ptr != first + digits || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
      return fail("a string has an escape that is no character");
    }
    append_utf8(text, value);
    i = begin + digits;
    return ok();
  }

  Status read_operator(std::string& open) {
    static constexpr std::array<std::string_view, 6> kPairs{"//", "**", "==", "!=", ">=", "<="};
    const std::string_view two = std::string_view(source_).substr(at_, 2);
    if (std::find(kPairs.begin(), kPairs.end(), two) != kPairs.end()) {
      push(Token::Kind::op, std::string(two));
      advance(at_ + 2);
      return ok();
    }
    const char c = source_[at_];
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos) {
      return fail(c >= 0x20 && c < 0x7f ? fmt::format("unexpected char '{}'", c) : "unexpected character");
    }
    if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty() || open.back() != c) return fail(fmt::format("unexpected '{}'", c));
      open.pop_back();
    }
    push(Token::Kind::op, std::string(1, c));
    advance(at_ + 1);
    return ok();
  }

  std::string source_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starts_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize_template(std::string_view source) {
  if (!is_valid_utf8(source)) return corrupt("chat template: expected UTF-8");
  return Lexer(normalise_newlines(source)).run();
}

}  // namespace redoubt::jinja
