#include "apps/key_sequences.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace redoubt {
namespace {

std::string handed_on(std::string_view sent) {
  KeySequences keys;
  std::string out;
  for (const char byte : sent) out += keys.feed(byte);
  return out;
}

TEST(KeySequences, EachKeyHasOneSpelling) {
  const std::pair<std::string_view, std::vector<std::string_view>> spellings[] = {
      {keys::kUp, {"\033[A", "\033OA", "\033[1;2A"}},
      {keys::kLeft, {"\033[D", "\033OD", "\033[1;2D"}},
      {keys::kWordLeft, {"\033[1;5D", "\033[1;3D", "\033[5D", "\033O5D", "\033Od", "\033[1;6D"}},
      {keys::kWordRight, {"\033[1;5C", "\033[1;3C", "\033[5C", "\033Oc"}},
      {keys::kHome, {"\033[H", "\033OH", "\033[1~", "\033[7~", "\033[1;5H"}},
      {keys::kEnd, {"\033[F", "\033OF", "\033[4~", "\033[8~"}},
      {keys::kDelete, {"\033[3~", "\033[3;2~"}},
      {keys::kDeleteWord, {"\033[3;5~"}},
      {keys::kPasteBegin, {"\033[200~"}},
      {keys::kPasteEnd, {"\033[201~"}}};
  for (const auto& [spelling, sent] : spellings) {
    for (const std::string_view one : sent)
      EXPECT_EQ(handed_on("a" + std::string(one) + "b"), "a" + std::string(spelling) + "b") << one.substr(1);
  }
}

TEST(KeySequences, WhatMeansNothingIsSwallowedWhole) {
  for (const char* sent : {"\033[5~", "\033[15;5~", "\033OP", "\033[24~", "\033[[A", "\033[1;5P", "\033[27;5;9~",
                           "\033[I", "\033[<0;12;34M", "\033[?1;2c1", "\033[97;5u"}) {
    const std::string_view text(sent);
    const bool has_text = text.ends_with("c1");  // the answer of a terminal, then a digit that was typed
    EXPECT_EQ(handed_on(text), has_text ? "1" : "") << text.substr(1);
  }
}

TEST(KeySequences, TextAndOtherKeysAreUntouched) {
  for (const char* sent : {"plain text", "\001\003\005", "\033b", "\033f", "\033d", "\xe2\x8f\x8e \xc3\xa9", "[D", "O"})
    EXPECT_EQ(handed_on(sent), sent);
}

TEST(KeySequences, WhatBreaksASequenceOffCounts) {
  EXPECT_EQ(handed_on("\033[1;\003"), "\003");
  EXPECT_EQ(handed_on("\033[1;\033[D"), keys::kLeft);
  EXPECT_EQ(handed_on("\033\033[201~"), keys::kPasteEnd);
  EXPECT_EQ(handed_on("\033[\xc3\xa9"), "\xc3\xa9");
  EXPECT_EQ(handed_on("\033[" + std::string(100, '1') + "D"), std::string(100 - 63, '1') + "D");  // is no key's
}

}  // namespace
}  // namespace redoubt
