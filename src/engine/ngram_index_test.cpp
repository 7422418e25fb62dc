#include "engine/ngram_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace redoubt {
namespace {

int64_t longest_by_definition(std::span<const int32_t> tokens) {
  int64_t longest = 0;
  const auto size = static_cast<int64_t>(tokens.size());
  for (int64_t place = 1; place < size; ++place) {
    int64_t length = 0;
    while (length < std::min(place, NgramIndex::kMaxMatch) &&
           tokens[static_cast<size_t>(place - 1 - length)] == tokens[static_cast<size_t>(size - 1 - length)])
      ++length;
    longest = std::max(longest, length);
  }
  return longest >= 2 ? longest : 0;
}

TEST(NgramIndex, FindsTheLongestMatchOfAGrowingText) {
  std::mt19937 random(1);
  for (const int32_t letters : {3, 8, 40}) {
    std::vector<int32_t> tokens;
    NgramIndex index;
    int64_t found_some = 0;
    for (int i = 0; i < 400; ++i) {
      for (uint32_t more = random() % 3; more > 0; --more)
        tokens.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(letters)));
      const NgramIndex::Match match = index.find(tokens);
      const int64_t expected = longest_by_definition(tokens);
      ASSERT_LE(match.length, expected);
      ASSERT_EQ(match.length == 0, expected == 0);
      found_some += match.length > 0 ? 1 : 0;
      if (tokens.size() < 40) {
        ASSERT_EQ(match.length, expected);  // fewer places than candidates
      }
      const auto size = static_cast<int64_t>(tokens.size());
      ASSERT_LT(match.next, std::max<int64_t>(1, size));
      for (int64_t k = 1; k <= match.length; ++k)
        ASSERT_EQ(tokens[static_cast<size_t>(match.next - k)], tokens[static_cast<size_t>(size - k)]);
    }
    EXPECT_GT(found_some, 20);
  }
}

TEST(NgramIndex, ALongTextIsFiledPieceByPiece) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 30000; ++i) tokens.push_back(i);
  tokens.insert(tokens.end(), {29000, 29001, 29002, 29003, 29004});
  NgramIndex index;
  EXPECT_EQ(index.find(tokens).length, 0);  // its place is not filed yet
  for (int i = 0; i < 3; ++i) index.find(tokens);
  const NgramIndex::Match match = index.find(tokens);
  EXPECT_EQ(match.length, 5);
  EXPECT_EQ(match.next, 29005);
}

TEST(NgramIndex, TheContinuationOfAMatchNearTheEndRepeats) {
  const std::vector<int32_t> tokens{9, 1, 2, 3, 1, 2, 3};
  NgramIndex index;
  const NgramIndex::Match match = index.find(tokens);
  EXPECT_EQ(match.length, 3);
  EXPECT_EQ(match.next, 4);
  std::vector<int32_t> next;
  copy_continuation(tokens, match, 7, next);
  EXPECT_EQ(next, (std::vector<int32_t>{1, 2, 3, 1, 2, 3, 1}));
}

TEST(NgramIndex, ShortTextsHaveNone) {
  for (const std::vector<int32_t>& tokens : {std::vector<int32_t>{}, {1}, {1, 1}, {1, 2}}) {
    NgramIndex index;
    EXPECT_EQ(index.find(tokens).length, 0) << tokens.size();
  }
}

}  // namespace
}  // namespace redoubt
