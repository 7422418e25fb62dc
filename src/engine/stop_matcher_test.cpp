#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace redoubt {
namespace {

std::vector<std::string> texts(const std::vector<TokenEvent>& events) {
  std::vector<std::string> all;
  for (const TokenEvent& event : events) all.push_back(event.text);
  return all;
}

TokenEvent event_of(std::string text) {
  return {.token = 1, .text = std::move(text), .logprob = TokenLogprob{.token = 1}};
}

TEST(StopMatcher, HoldsBackWholeEventsAndReleasesThemInOrder) {
  StopMatcher matcher({"END"}, StopMatcher::Include::no);
  std::vector<TokenEvent> out;
  EXPECT_FALSE(matcher.push(event_of("ab"), out));
  EXPECT_EQ(texts(out), (std::vector<std::string>{"ab"}));
  EXPECT_FALSE(matcher.push(event_of("cE"), out));
  EXPECT_FALSE(matcher.push(event_of("N"), out));
  EXPECT_EQ(out.size(), 1u);  // "cE" is held whole
  EXPECT_FALSE(matcher.push(event_of("x"), out));
  EXPECT_EQ(texts(out), (std::vector<std::string>{"ab", "cE", "N", "x"}));
}

TEST(StopMatcher, CutsTheTextAtTheMatch) {
  StopMatcher matcher({"END"}, StopMatcher::Include::no);
  std::vector<TokenEvent> out;
  matcher.push(event_of("abE"), out);
  matcher.push(event_of("N"), out);
  EXPECT_TRUE(matcher.push(event_of("D and more"), out));
  EXPECT_EQ(texts(out), (std::vector<std::string>{"ab", "", ""}));
  EXPECT_TRUE(out[0].logprob.has_value());
  EXPECT_FALSE(out[1].logprob.has_value());  // no text of it is in the answer
  EXPECT_EQ(matcher.matched(), "END");
}

TEST(StopMatcher, MayIncludeTheString) {
  StopMatcher matcher({"END"}, StopMatcher::Include::yes);
  std::vector<TokenEvent> out;
  matcher.push(event_of("abE"), out);
  EXPECT_TRUE(matcher.push(event_of("ND and more"), out));
  EXPECT_EQ(texts(out), (std::vector<std::string>{"abE", "ND"}));
}

TEST(StopMatcher, LosesNothingWhenTheLimitComesFirst) {
  StopMatcher matcher({"\n\n", "\nUser:"}, StopMatcher::Include::no);
  std::vector<TokenEvent> out;
  matcher.push(event_of("a"), out);
  matcher.push(event_of("b\n"), out);
  matcher.push(event_of("Use"), out);
  EXPECT_EQ(out.size(), 1u);
  matcher.flush(out);
  EXPECT_EQ(texts(out), (std::vector<std::string>{"a", "b\n", "Use"}));
}

// However the text is cut into tokens, the released text is the same, and at no moment has text left that a later match
// takes back.
TEST(StopMatcher, DoesNotDependOnTokenBoundaries) {
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += "abc"[random() % 3];
    std::vector<std::string> stops;
    for (int i = 0; i < 3; ++i) {
      std::string stop;
      for (unsigned j = 0; j < 2 + random() % 4; ++j) stop += "abc"[random() % 3];
      stops.push_back(stop);
    }
    size_t end = std::string::npos, begin = 0;  // the definition: the first to end, then the first to begin
    for (const std::string& stop : stops) {
      const size_t at = text.find(stop);
      if (at == std::string::npos) continue;
      if (end == std::string::npos || at + stop.size() < end || (at + stop.size() == end && at < begin)) {
        begin = at;
        end = at + stop.size();
      }
    }
    const std::string expected = end == std::string::npos ? text : text.substr(0, begin);

    StopMatcher matcher(stops, StopMatcher::Include::no);
    std::vector<TokenEvent> out;
    bool matched = false;
    for (size_t at = 0; at < text.size() && !matched;) {
      const size_t size = std::min<size_t>(random() % 5, text.size() - at);
      matched = matcher.push(event_of(text.substr(at, size)), out);
      at += size;
      std::string so_far;
      for (const TokenEvent& event : out) so_far += event.text;
      ASSERT_EQ(expected.compare(0, so_far.size(), so_far), 0);
    }
    matcher.flush(out);
    std::string all;
    for (const TokenEvent& event : out) all += event.text;
    ASSERT_EQ(all, expected);
    ASSERT_EQ(matched, end != std::string::npos);
  }
}

}  // namespace
}  // namespace redoubt
