#include "apps/terminal.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

TEST(Terminal, WhatAModelWroteMovesNoCursor) {
  EXPECT_EQ(harmless_text("a\tb\nc \u00e4\u4e2d\U0001f600"), "a\tb\nc \u00e4\u4e2d\U0001f600");
  EXPECT_EQ(harmless_text("\x1b]52;c;eA==\a\r\b\x7f"), "\u241b]52;c;eA==\u2407\u240d\u2408\u2421");
  EXPECT_EQ(harmless_text("\xc2\x9b"
                          "1m\xc2\xa0"),
            "\ufffd1m\xc2\xa0")
      << "the second set's CSI, and a no-break space";
  EXPECT_EQ(harmless_text(std::string_view("\0", 1)), "\u2400");
  EXPECT_EQ(harmless_text("\xc2"), "\xc2");
}

}  // namespace
}  // namespace redoubt
