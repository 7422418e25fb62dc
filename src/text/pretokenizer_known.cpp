#include "text/pretokenizer_known.h"

#include <algorithm>

#include "text/pretokenizer_classes.h"

namespace redoubt {

namespace patterns {

const std::string_view kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kDeepSeekV3Digits = R"(\p{N}{1,3})";
const std::string_view kDeepSeekV3Cjk = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+";
// The file holds CR and LF themselves inside its classes.
const std::string_view kDeepSeekV3Words =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

}  // namespace patterns

namespace {

struct Character {
  uint8_t flags;
  uint8_t bytes;
  bool is(int any_of) const { return (flags & any_of) != 0; }
};

// Reads characters of valid UTF-8 without checking it again.
struct Reader {
  const uint8_t* data;
  size_t end;
  const uint8_t* classes;

  Reader(std::string_view text)
      : data(reinterpret_cast<const uint8_t*>(text.data())), end(text.size()), classes(character_classes()) {}

  Character at(size_t i) const {
    const uint8_t lead = data[i];
    if (lead < 0x80) return {classes[lead], 1};
    if (lead < 0xe0) return {classes[((lead & 0x1fu) << 6) | (data[i + 1] & 0x3fu)], 2};
    if (lead < 0xf0) {
      return {classes[((lead & 0x0fu) << 12) | ((data[i + 1] & 0x3fu) << 6) | (data[i + 2] & 0x3fu)], 3};
    }
    return {classes[((lead & 0x07u) << 18) | ((data[i + 1] & 0x3fu) << 12) | ((data[i + 2] & 0x3fu) << 6) |
                    (data[i + 3] & 0x3fu)],
            4};
  }

  size_t skip_while(size_t i, int any_of) const {
    while (i < end) {
      const Character c = at(i);
      if (!c.is(any_of)) break;
      i += c.bytes;
    }
    return i;
  }
  size_t skip_while_not(size_t i, int any_of) const {
    while (i < end) {
      const Character c = at(i);
      if (c.is(any_of)) break;
      i += c.bytes;
    }
    return i;
  }
  bool next_is(size_t i, int any_of) const { return i < end && at(i).is(any_of); }
};

bool is_ascii_letter(uint8_t c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }
bool is_ascii_punctuation(uint8_t c) {
  return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) || (c >= 0x7b && c <= 0x7e);
}

enum class Newlines { apart, plain };

// `\s*[\r\n]+|\s+(?!\S)|\s+` (apart) or `\s+(?!\S)|\s+` (plain) at white space: the run up to its last newline, else
// the run without its last character, which goes with the word that follows; all of it at the end of the text.
size_t end_of_white_space(const Reader& text, size_t begin, Newlines newlines) {
  size_t i = begin, last = begin, after_newline = 0;
  while (i < text.end) {
    const Character c = text.at(i);
    if (!c.is(kWhiteSpace)) break;
    last = i;
    i += c.bytes;
    if (c.is(kNewline)) after_newline = i;
  }
  if (newlines == Newlines::apart && after_newline > 0) return after_newline;
  if (i == text.end || last == begin) return i;
  return last;
}

enum class Letters { exact, any_case };

// `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe; 0 if it does not match. U+017F folds to "s".
size_t end_of_contraction(const Reader& text, size_t begin, Letters letters) {
  const auto letter = [&](size_t i) -> uint8_t {
    if (i >= text.end) return 0;
    const uint8_t c = text.data[i];
    return letters == Letters::any_case && is_ascii_letter(c) ? c | 0x20 : c;
  };
  const uint8_t first = letter(begin + 1), second = letter(begin + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return begin + 2;
  if (letters == Letters::any_case && first == 0xc5 && second == 0xbf) return begin + 3;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l'))
    return begin + 3;
  return 0;
}

// Qwen-2 (digits = 1) and Llama-3 (digits = 3). Every character begins some match.
size_t gpt4_piece(const Reader& text, size_t begin, int digits) {
  constexpr int kOther = kWhiteSpace | kLetter | kNumber;  // [^\s\p{L}\p{N}] is none of these
  const Character c = text.at(begin);
  const size_t after = begin + c.bytes;
  if (text.data[begin] == '\'') {
    if (const size_t end = end_of_contraction(text, begin, Letters::any_case); end > 0) return end;
  }
  if (c.is(kLetter)) return text.skip_while(after, kLetter);
  if (c.is(kNumber)) {
    size_t end = after;
    for (int i = 1; i < digits && text.next_is(end, kNumber); ++i) end += text.at(end).bytes;
    return end;
  }
  if (!c.is(kNewline) && text.next_is(after, kLetter)) return text.skip_while(after, kLetter);
  const bool space_then_other = text.data[begin] == ' ' && after < text.end && !text.at(after).is(kOther);
  if (!c.is(kOther) || space_then_other) return text.skip_while(text.skip_while_not(after, kOther), kNewline);
  return end_of_white_space(text, begin, Newlines::apart);
}

size_t gpt2_piece(const Reader& text, size_t begin) {
  constexpr int kOther = kWhiteSpace | kLetter | kNumber;
  if (text.data[begin] == '\'') {
    if (const size_t end = end_of_contraction(text, begin, Letters::exact); end > 0) return end;
  }
  const size_t word = text.data[begin] == ' ' && begin + 1 < text.end ? begin + 1 : begin;
  const Character c = text.at(word);
  const size_t after = word + c.bytes;
  if (c.is(kLetter)) return text.skip_while(after, kLetter);
  if (c.is(kNumber)) return text.skip_while(after, kNumber);
  if (!c.is(kWhiteSpace)) return text.skip_while_not(after, kOther);
  return end_of_white_space(text, begin, Newlines::plain);
}

// DeepSeek-V3's third pattern at `begin`; 0 if it does not match there.
size_t deepseek_word(const Reader& text, size_t begin) {
  constexpr int kWord = kLetter | kMark, kSign = kPunctuation | kSymbol;
  const uint8_t byte = text.data[begin];
  const Character c = text.at(begin);
  const size_t after = begin + c.bytes;
  if (is_ascii_punctuation(byte) && after < text.end && is_ascii_letter(text.data[after])) {
    size_t end = after + 1;
    while (end < text.end && is_ascii_letter(text.data[end])) ++end;
    return end;
  }
  // [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+
  if (c.is(kLetter)) return text.skip_while(after, kWord);
  if (!c.is(kNewline | kSign)) {
    if (text.next_is(after, kWord)) return text.skip_while(after, kWord);
    if (c.is(kMark)) return after;
  }
  if (c.is(kSign) || (byte == ' ' && text.next_is(after, kSign))) {
    return text.skip_while(text.skip_while(after, kSign), kNewline);
  }
  return c.is(kWhiteSpace) ? end_of_white_space(text, begin, Newlines::apart) : 0;
}

void split_deepseek_v3(std::string_view all, std::vector<size_t>& ends) {
  Reader text(all);
  const size_t size = all.size();
  for (size_t begin = 0; begin < size;) {
    text.end = size;
    const Character first = text.at(begin);
    if (first.is(kNumber)) {
      size_t end = begin + first.bytes;
      for (int i = 1; i < 3 && text.next_is(end, kNumber); ++i) end += text.at(end).bytes;
      ends.push_back(begin = end);
      continue;
    }
    // A stretch that the first two patterns leave whole; the third sees nothing outside it.
    const bool cjk = first.is(kDeepSeekCjk);
    text.end = cjk ? text.skip_while(begin, kDeepSeekCjk) : text.skip_while_not(begin, kDeepSeekCjk | kNumber);
    bool in_gap = false;
    while (begin < text.end) {
      const size_t end = deepseek_word(text, begin);
      if (end == 0) {
        in_gap = true;
        begin += text.at(begin).bytes;
        continue;
      }
      if (in_gap) ends.push_back(begin);
      in_gap = false;
      ends.push_back(begin = end);
    }
    if (in_gap) ends.push_back(begin);
  }
}

template <int kDigits>
void split_gpt4(std::string_view all, std::vector<size_t>& ends) {
  const Reader text(all);
  for (size_t begin = 0; begin < text.end;) ends.push_back(begin = gpt4_piece(text, begin, kDigits));
}

void split_gpt2(std::string_view all, std::vector<size_t>& ends) {
  const Reader text(all);
  for (size_t begin = 0; begin < text.end;) ends.push_back(begin = gpt2_piece(text, begin));
}

void split_smollm(std::string_view all, std::vector<size_t>& ends) {
  Reader text(all);
  for (size_t begin = 0; begin < all.size();) {
    text.end = all.size();
    if (text.at(begin).is(kNumber)) {
      ends.push_back(begin += text.at(begin).bytes);
      continue;
    }
    text.end = text.skip_while_not(begin, kNumber);
    while (begin < text.end) ends.push_back(begin = gpt2_piece(text, begin));
  }
}

}  // namespace

KnownSplitter known_splitter(std::span<const SplitRule> splits) {
  const auto is = [&](std::initializer_list<std::string_view> expected) {
    if (splits.size() != expected.size()) return false;
    for (size_t i = 0; i < splits.size(); ++i) {
      if (splits[i] != SplitRule{.pattern = std::string(expected.begin()[i])}) return false;
    }
    return true;
  };
  if (is({patterns::kDeepSeekV3Digits, patterns::kDeepSeekV3Cjk, patterns::kDeepSeekV3Words})) return split_deepseek_v3;
  if (is({patterns::kQwen2})) return split_gpt4<1>;
  if (is({patterns::kLlama3})) return split_gpt4<3>;
  if (is({patterns::kGpt2})) return split_gpt2;
  if (is({R"(\p{N})", patterns::kGpt2})) return split_smollm;
  if (std::ranges::equal(splits, patterns::deepseek_llm())) return split_deepseek_llm;
  if (std::ranges::equal(splits, patterns::deepseek_coder())) return split_deepseek_coder;
  return nullptr;
}

}  // namespace redoubt
