#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pretokenizer_pattern.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>

#include "core/utf8.h"
#include "text/tokenizer_spec.h"

namespace redoubt {
namespace {

// Steps from one position before a pattern counts as hostile. PCRE2's compiled code counts groups, not characters: real
// patterns take a dozen. The interpreter, used where no code can be compiled, counts each character of a long run.
constexpr uint32_t kMatchLimit = 20'000;
constexpr uint32_t kInterpreterMatchLimit = 10'000'000;
constexpr uint32_t kHeapLimitKib = 16 << 10;
constexpr size_t kWindow = 4096;  // bytes; most pieces are far shorter

constexpr std::string_view kWhiteSpaceRanges =
    R"(\t-\r\x20\x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

struct CodeFree {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct ContextFree {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};
struct DataFree {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

}  // namespace

struct Pattern::State {
  std::unique_ptr<pcre2_code, CodeFree> code;
  std::unique_ptr<pcre2_match_context, ContextFree> context;
  bool jit = false;
};

Pattern::Pattern(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pattern::Pattern(Pattern&&) noexcept = default;
Pattern& Pattern::operator=(Pattern&&) noexcept = default;
Pattern::~Pattern() = default;

Result<std::string> translate_pattern(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (++i == pattern.size()) return corrupt("pattern: ends in a backslash");
      const char escaped = pattern[i];
      if (escaped == 's') {
        out += in_class ? std::string(kWhiteSpaceRanges) : fmt::format("[{}]", kWhiteSpaceRanges);
      } else if (escaped == 'S' && !in_class) {
        out += fmt::format("[^{}]", kWhiteSpaceRanges);
      } else if (escaped == 'h') {
        out += in_class ? "0-9A-Fa-f" : "[0-9A-Fa-f]";
      } else if (escaped == 'u') {
        // \uHHHH in Oniguruma, an error in PCRE2.
        const std::string_view digits = pattern.substr(i + 1, 4);
        if (digits.size() != 4 || digits.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos)
          return corrupt(fmt::format("pattern: expected four hexadecimal digits after \\u at byte {}", i));
        out += fmt::format("\\x{{{}}}", digits);
        i += 4;
      } else if (escaped == 'S' || escaped == 'H' || escaped == 'R' || escaped == 'X' || escaped == 'C' ||
                 escaped == 'g' || escaped == 'k' || escaped == 'K' || escaped == 'Q' || escaped == 'E') {
        return unsupported(fmt::format("pattern: \\{} at byte {} is not supported", escaped, i));
      } else {
        out += c;
        out += escaped;
      }
      continue;
    }
    if (in_class) {
      if (c == '[' && pattern.substr(i, 2) != "[:")
        return unsupported(fmt::format("pattern: a class inside a class at byte {}", i));
      if (c == '&' && pattern.substr(i, 2) == "&&")
        return unsupported(fmt::format("pattern: && inside a class at byte {}", i));
      if (pattern.substr(i, 2) == "[:") {
        const size_t end = pattern.find(":]", i);
        if (end == std::string_view::npos) return corrupt(fmt::format("pattern: [: without :] at byte {}", i));
        out += pattern.substr(i, end + 2 - i);
        i = end + 1;
        continue;
      }
      in_class = c != ']';
      out += c;
      continue;
    }
    if (c == '(' && pattern.substr(i, 2) == "(*") return unsupported("pattern: verbs (*...) are not supported");
    if (c == '(' && pattern.substr(i, 3) == "(?C") return unsupported("pattern: callouts are not supported");
    out += c;
    if (c == '[') {
      in_class = true;
      // A ']' that comes first is a member in both dialects.
      if (pattern.substr(i + 1, 1) == "^") out += pattern[++i];
      if (pattern.substr(i + 1, 1) == "]") out += "\\]", ++i;
    }
  }
  return out;
}

Result<Pattern> Pattern::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return corrupt(fmt::format("pattern: expected at most {} bytes, found {}", kMaxPatternBytes, pattern.size()));
  }
  if (!is_valid_utf8(pattern)) return corrupt("pattern: not UTF-8");
  REDOUBT_TRY(const std::string translated, translate_pattern(pattern));
  int code = 0;
  PCRE2_SIZE offset = 0;
  auto state = std::make_unique<State>();
  state->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset,
                                  nullptr));
  if (state->code == nullptr) {
    PCRE2_UCHAR reason[128] = {};
    pcre2_get_error_message(code, reason, sizeof reason);
    return corrupt(fmt::format("pattern: {} (at byte {} of the translated pattern)",
                               reinterpret_cast<const char*>(reason), offset));
  }
  state->jit = pcre2_jit_compile(state->code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
  state->context.reset(pcre2_match_context_create(nullptr));
  if (state->context == nullptr) return io_error("pattern: out of memory");
  pcre2_set_match_limit(state->context.get(), state->jit ? kMatchLimit : kInterpreterMatchLimit);
  pcre2_set_heap_limit(state->context.get(), kHeapLimitKib);
  return Pattern(std::move(state));
}

void Pattern::for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& on_match) const {
  const std::unique_ptr<pcre2_match_data, DataFree> data(pcre2_match_data_create(1, nullptr));
  if (data == nullptr) return;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(data.get());
  size_t window = kWindow;
  // The reference shows each piece alone: what lies before `text` does not exist for a look-behind.
  for (size_t position = 0; position < text.size();) {
    size_t end = std::min(text.size(), position + window);
    while (end < text.size() && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) ++end;
    uint32_t options = PCRE2_NO_UTF_CHECK;
    if (end < text.size()) options |= PCRE2_PARTIAL_HARD;
    int rc;
    if (state_->jit) {
      rc = pcre2_jit_match(state_->code.get(), subject, end, position, options & ~uint32_t{PCRE2_NO_UTF_CHECK},
                           data.get(), state_->context.get());
      if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter keeps its stack on the heap
        rc = pcre2_match(state_->code.get(), subject, end, position, options | PCRE2_NO_JIT, data.get(),
                         state_->context.get());
      }
    } else {
      rc = pcre2_match(state_->code.get(), subject, end, position, options, data.get(), state_->context.get());
    }
    if (rc == PCRE2_ERROR_NOMATCH) {
      position = end;  // no match begins in the window, whatever follows it
      continue;
    }
    if (rc == PCRE2_ERROR_PARTIAL) {
      if (found[0] > position) {
        position = found[0];  // nothing before it matches
      } else {
        window *= 2;
      }
      continue;
    }
    if (rc < 0) return;  // a limit
    // \K is refused above, so a match ends where it begins or later.
    on_match(found[0], found[1]);
    window = kWindow;
    position = found[1];
    if (found[0] == found[1] && position < text.size()) {
      position += static_cast<size_t>(decode_utf8(text, position).bytes);
    }
  }
}

}  // namespace redoubt
