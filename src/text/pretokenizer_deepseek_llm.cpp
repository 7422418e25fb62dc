// The pre-tokenizers of DeepSeek's first models, by hand: six, or five, splits one after the other, in one pass over
// each piece. The regular expressions below are the definition.
#include <algorithm>
#include <utility>

#include "core/utf8.h"
#include "text/pretokenizer_classes.h"
#include "text/pretokenizer_known.h"

namespace redoubt {
namespace {

// DeepSeek-LLM's second split, "cased letters" as its authors listed them: about \p{Lu}\p{Ll}\p{Lt} of an older
// Unicode.
constexpr std::string_view kCasedLetters =
    "A-Za-z\\xB5\\xC0-\\xD6\\xD8-\\xF6\\xF8-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}"
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}"
    "\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}"
    "\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}"
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}"
    "\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}"
    "\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}"
    "\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}"
    "\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}"
    "\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}"
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}";
constexpr std::string_view kSigns =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";
constexpr std::string_view kEastAsian = R"([\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";

std::vector<SplitRule> isolated(std::initializer_list<std::string_view> expressions) {
  std::vector<SplitRule> splits;
  for (const std::string_view expression : expressions) splits.push_back({.pattern = std::string(expression)});
  return splits;
}

// What the splits ask of a character.
enum Class : uint8_t {
  kCased = 1,       // LLM: [kCasedLetters]
  kSign = 2,        // LLM: inside the brackets of kSigns, letters of ASCII too
  kEastern = 4,     // inside the brackets of kEastAsian
  kDigit = 8,       // \p{N}
  kBlank = 16,      // \s
  kAnyLetter = 64,  // Coder: \p{L}
  kPunct = 128      // Coder: \p{P}
};

using Range = std::pair<char32_t, char32_t>;

// The ranges of a class as kCasedLetters writes it: X, X-Y with X a character, \xHH or \x{HHHH}.
std::vector<Range> ranges_of(std::string_view text) {
  size_t i = 0;
  const auto character = [&]() -> char32_t {
    if (text[i] != '\\') return static_cast<uint8_t>(text[i++]);
    i += 2;
    const size_t begin = text[i] == '{' ? i + 1 : i;
    const size_t end = text[i] == '{' ? text.find('}', i) : i + 2;
    i = text[i] == '{' ? end + 1 : end;
    return static_cast<char32_t>(std::stoul(std::string(text.substr(begin, end - begin)), nullptr, 16));
  };
  std::vector<Range> ranges;
  while (i < text.size()) {
    const char32_t first = character();
    char32_t last = first;
    if (i < text.size() && text[i] == '-') {
      ++i;
      last = character();
    }
    ranges.emplace_back(first, last);
  }
  return ranges;
}

std::vector<uint8_t> make_classes() {
  std::vector<uint8_t> classes(kCodePoints);
  const uint8_t* known = character_classes();
  for (char32_t c = 0; c < kCodePoints; ++c) {
    const uint8_t flags = known[c];
    classes[c] = static_cast<uint8_t>((flags & kNumber ? kDigit : 0) | (flags & kWhiteSpace ? kBlank : 0) |
                                      (flags & kLetter ? kAnyLetter : 0) | (flags & kPunctuation ? kPunct : 0));
  }
  const auto mark = [&](const std::vector<Range>& ranges, uint8_t flag) {
    for (const auto& [first, last] : ranges)
      for (char32_t c = first; c <= last; ++c) classes[c] |= flag;
  };
  mark(ranges_of(kCasedLetters), kCased);
  mark({{'!', '/'}, {':', '~'}, {0xff01, 0xff0f}, {0xff1a, 0xff5e}, {0x2018, 0x201f}, {0x3000, 0x3002}}, kSign);
  mark({{0x0800, 0x9fa5}, {0xac00, 0xd7ff}}, kEastern);
  return classes;
}

const uint8_t* classes() {
  static const std::vector<uint8_t> table = make_classes();
  return table.data();
}

template <bool kCoder>
class Splitter {
 public:
  Splitter(std::string_view text, std::vector<size_t>& ends)
      : data_(reinterpret_cast<const uint8_t*>(text.data())), size_(text.size()), classes_(classes()), ends_(ends) {}

  // [\r\n]
  void run() {
    size_t begin = 0;
    for (size_t i = 0; i < size_; ++i) {
      if (data_[i] != '\r' && data_[i] != '\n') continue;
      words(begin, i);
      ends_.push_back(begin = i + 1);
    }
    words(begin, size_);
  }

 private:
  static constexpr uint8_t kWordClass = kCoder ? kAnyLetter : kCased;
  static constexpr uint8_t kSignClass = kCoder ? kPunct : kSign;

  struct Character {
    uint8_t flags, bytes;
  };
  Character at(size_t i) const {
    const uint8_t lead = data_[i];
    if (lead < 0x80) return {classes_[lead], 1};
    if (lead < 0xe0) return {classes_[((lead & 0x1fu) << 6) | (data_[i + 1] & 0x3fu)], 2};
    if (lead < 0xf0)
      return {classes_[((lead & 0x0fu) << 12) | ((data_[i + 1] & 0x3fu) << 6) | (data_[i + 2] & 0x3fu)], 3};
    return {classes_[((lead & 0x07u) << 18) | ((data_[i + 1] & 0x3fu) << 12) | ((data_[i + 2] & 0x3fu) << 6) |
                     (data_[i + 3] & 0x3fu)],
            4};
  }

  // The matches of `\s?[class]+` in a piece, and the gaps between them.
  template <uint8_t kRun, typename Next>
  void cut_runs(size_t begin, size_t end, const Next& next) const {
    size_t piece = begin, i = begin;
    while (i < end) {
      const Character c = at(i);
      size_t run = i;  // where the characters of the class begin
      if ((c.flags & kBlank) != 0 && i + c.bytes < end && (at(i + c.bytes).flags & kRun) != 0)
        run = i + c.bytes;
      else if ((c.flags & kRun) == 0) {
        i += c.bytes;
        continue;
      }
      if (piece < i) next(piece, i);
      size_t stop = run;
      while (stop < end) {
        const Character r = at(stop);
        if ((r.flags & kRun) == 0) break;
        stop += r.bytes;
      }
      next(i, stop);
      piece = i = stop;
    }
    if (piece < end) next(piece, end);
  }

  void words(size_t begin, size_t end) {
    cut_runs<kWordClass>(begin, end, [this](size_t b, size_t e) { signs(b, e); });
  }
  void signs(size_t begin, size_t end) {
    cut_runs<kSignClass>(begin, end, [this](size_t b, size_t e) { blanks(b, e); });
  }

  // `\s+$` (LLM), then [kEastAsian]+ and \p{N}+ (Coder: \p{N}): a cut wherever the one or the other begins or ends.
  void blanks(size_t begin, size_t end) {
    size_t trailing = end;  // of the white space at the end
    uint8_t before = at(begin).flags;
    const size_t first = ends_.size();
    for (size_t i = begin; i < end;) {
      const Character c = at(i);
      const bool changes = ((c.flags ^ before) & (kEastern | kDigit)) != 0 || (kCoder && (c.flags & kDigit) != 0);
      if (i > begin && changes) ends_.push_back(i);
      if ((c.flags & kBlank) == 0)
        trailing = end;
      else if (trailing == end)
        trailing = i;
      before = c.flags;
      i += c.bytes;
    }
    // The white space at the end, of which a part may have been cut off already (U+3000 is of both kinds).
    if (!kCoder && trailing > begin && trailing < end) {
      const auto place = std::lower_bound(ends_.begin() + static_cast<std::ptrdiff_t>(first), ends_.end(), trailing);
      if (place == ends_.end() || *place != trailing) ends_.insert(place, trailing);
    }
    ends_.push_back(end);
  }

  const uint8_t* data_;
  size_t size_;
  const uint8_t* classes_;
  std::vector<size_t>& ends_;
};

}  // namespace

namespace patterns {

std::vector<SplitRule> deepseek_llm() {
  const std::string words = "\\s?[" + std::string(kCasedLetters) + "]+";
  // `\s+$`, written so that a run that is not at the end is looked at once instead of once a character.
  return isolated({R"([\r\n])", words, kSigns, R"((?<!\s)\s++$)", kEastAsian, R"(\p{N}+)"});
}

std::vector<SplitRule> deepseek_coder() {
  return isolated({R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kEastAsian, R"(\p{N})"});
}

}  // namespace patterns

void split_deepseek_llm(std::string_view text, std::vector<size_t>& ends) { Splitter<false>(text, ends).run(); }
void split_deepseek_coder(std::string_view text, std::vector<size_t>& ends) { Splitter<true>(text, ends).run(); }

}  // namespace redoubt
