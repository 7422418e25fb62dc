// The hand-written splitters against the regular expressions that define them, and the regular expressions' own bounds.
#include "text/pretokenizer.h"

#include <gtest/gtest.h>
#include <unicode/uchar.h>

#include <algorithm>
#include <random>

#include "core/utf8.h"
#include "text/pretokenizer_classes.h"

namespace redoubt {
namespace {

// Characters that meet every alternative of the patterns, then any assigned one.
class RandomText {
 public:
  explicit RandomText(uint32_t seed) : random_(seed) {}

  std::string next() {
    std::string text;
    const size_t length = pick(40);
    while (text.size() < length) {
      static const std::vector<std::string> kCommon{
          " ",      "  ",     "\n",     "\r\n",   "\t",     "\r",      "'s",     "'LL", "'ve", "'\u017f",
          "a",      "Zb",     "word",   "7",      "42",     "1234",    ".",      "-",   "(x",  "_",
          "$",      "+=",     "\u00a0", "\u3000", "é",      "e\u0301", "中",     "国",  "ひ",  "ー",
          "・",     "\u309b", "\u200d", "\u180e", "\u0085", "🙂",    "한",     "١",   "½",   "\x01",
          "\u2028", "\u0300", "\ufeff", "ß",      "café",   "\u2018",  "\u3001", "①",   "Ḁ"};
      if (pick(5) != 0) {
        text += kCommon[pick(kCommon.size())];
        continue;
      }
      const char32_t c = pick(3) == 0 ? static_cast<char32_t>(pick(kCodePoints)) : static_cast<char32_t>(pick(0x3000));
      // PCRE2 10.42 knows Unicode 14, ICU 72 Unicode 15; the difference is only in characters that are new.
      UVersionInfo age;
      u_charAge(static_cast<UChar32>(c), age);
      const bool surrogate = c >= 0xd800 && c < 0xe000;
      if (!surrogate && age[0] <= 14) append_utf8(text, c);
    }
    return text;
  }

 private:
  size_t pick(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }
  std::mt19937 random_;
};

std::vector<std::string> pieces_of(const Pretokenizer& pretokenizer, std::string_view text) {
  Pretokenizer::Pieces pieces;
  pretokenizer.split(text, pieces);
  std::vector<std::string> result;
  size_t begin = 0;
  for (size_t i = 0; i < pieces.ends.size(); ++i) {
    if (!pieces.begins.empty()) begin = pieces.begins[i];
    result.emplace_back(pieces.text.substr(begin, pieces.ends[i] - begin));
    begin = pieces.ends[i];
  }
  return result;
}

class KnownSplitters : public testing::TestWithParam<const char*> {};

TEST_P(KnownSplitters, EqualTheirRegularExpressionsOnRandomText) {
  const auto splits = named_pretokenizer(GetParam())->splits;
  ASSERT_NE(known_splitter(splits), nullptr);
  const auto fast = Pretokenizer::make(splits), slow = Pretokenizer::make(splits, Pretokenizer::Speed::reference);
  ASSERT_TRUE(slow.has_value()) << slow.error().message;
  RandomText random(7);
  for (int i = 0; i < 60'000; ++i) {
    const std::string text = random.next();
    ASSERT_EQ(pieces_of(*fast, text), pieces_of(*slow, text)) << "text " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Published, KnownSplitters,
                         testing::Values("deepseek-v3", "deepseek-llm", "deepseek-coder", "llama-bpe", "qwen2",
                                         "smollm", "gpt-2"));

TEST(Pretokenizer, CutsDeepSeekV3AsDocumented) {
  const auto pretokenizer = Pretokenizer::make(named_pretokenizer("deepseek-v3")->splits);
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces_of(*pretokenizer, "def f(x):\n    return x**2"),
            (Pieces{"def", " f", "(x", "):\n", "   ", " return", " x", "**", "2"}));
  EXPECT_EQ(pieces_of(*pretokenizer, "在2025年1月"), (Pieces{"在", "202", "5", "年", "1", "月"}));
  EXPECT_EQ(pieces_of(*pretokenizer, "foo_bar.baz(qux)[0]"), (Pieces{"foo", "_bar", ".baz", "(qux", ")[", "0", "]"}));
}

TEST(Pretokenizer, EveryNamedSequenceCoversTheText) {
  for (const char* name : {"deepseek-v3", "deepseek-llm", "deepseek-coder", "llama-bpe", "llama3", "llama-v3", "qwen2",
                           "deepseek-r1-qwen", "smollm", "gpt-2"}) {
    const auto pretokenizer = Pretokenizer::make(named_pretokenizer(name)->splits, Pretokenizer::Speed::reference);
    ASSERT_TRUE(pretokenizer.has_value()) << name << ": " << pretokenizer.error().message;
    RandomText random(8);
    for (int i = 0; i < 2'000; ++i) {
      const std::string text = random.next();
      std::string joined;
      for (const std::string& piece : pieces_of(*pretokenizer, text)) joined += piece;
      ASSERT_EQ(joined, text) << name;
    }
  }
  EXPECT_FALSE(named_pretokenizer("no-such").has_value());
}

// A match longer than the window is found whole, wherever the window happens to end.
TEST(Pattern, FindsMatchesLongerThanItsWindow) {
  const auto pattern = Pattern::compile(R"(\p{L}+|\s+(?!\S)|\s+)");
  ASSERT_TRUE(pattern.has_value());
  for (const size_t letters : {1, 4094, 4095, 4096, 4097, 100'000}) {
    const std::string text = "é" + std::string(letters, 'a') + std::string(9'000, ' ') + "b";
    std::vector<std::pair<size_t, size_t>> found;
    pattern->for_each_match(text, [&](size_t begin, size_t end) { found.emplace_back(begin, end); });
    const size_t word = letters + 2;
    EXPECT_EQ(found, (std::vector<std::pair<size_t, size_t>>{
                         {0, word}, {word, word + 8'999}, {word + 8'999, word + 9'000}, {word + 9'000, word + 9'001}}));
  }
}

TEST(Pattern, TranslatesWhatTheDialectsDifferIn) {
  const auto matches = [](const char* regex, std::string_view text) {
    const auto pattern = Pattern::compile(regex);
    EXPECT_TRUE(pattern.has_value()) << regex << pattern.error().message;
    int count = 0;
    if (pattern.has_value()) pattern->for_each_match(text, [&](size_t, size_t) { ++count; });
    return count;
  };
  EXPECT_EQ(matches(R"(\s)", "\u180e \u0085\u3000"), 3);  // U+180E is no white space
  EXPECT_EQ(matches(R"([^\s])", "\u180e \u0085\u3000"), 1);
  EXPECT_EQ(matches(R"(\S)", "\u180e \u0085\u3000"), 1);
  EXPECT_EQ(matches(R"(\h)", "af gG9"), 3);
  EXPECT_EQ(matches(R"([\u4e00-\u9fa5])", "a中b国"), 2);
  EXPECT_EQ(matches(R"([]a])", "a]b"), 2);
  EXPECT_EQ(matches(R"(^a)", "a\na"), 2);
  for (const char* regex : {"[a&&b]", "[a[b]]", "(*ACCEPT)a", "(?C1)a", "a\\", "\\K", "\\Q", "[[:alpha", "\\u12"}) {
    EXPECT_FALSE(Pattern::compile(regex).has_value()) << regex;
  }
  EXPECT_FALSE(Pattern::compile(std::string(100'000, 'a')).has_value());
  EXPECT_FALSE(Pattern::compile("\xff").has_value());
}

}  // namespace
}  // namespace redoubt
