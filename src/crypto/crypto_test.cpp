#include <gtest/gtest.h>

#include <set>

#include "core/sha256.h"
#include "crypto/base64url.h"
#include "crypto/keyed_hash.h"
#include "crypto/random.h"

namespace redoubt {
namespace {

std::vector<uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

// RFC 4648 §10's vectors, without the padding.
TEST(Base64Url, AgreesWithTheRfcsVectors) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},         {"foo", "Zm9v"},
      {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, text] : cases) {
    EXPECT_EQ(base64url(bytes_of(plain)), text);
    EXPECT_EQ(parse_base64url(text), bytes_of(plain));
  }
  EXPECT_EQ(base64url(std::vector<uint8_t>{0xfb, 0xff}), "-_8");
}

TEST(Base64Url, TwoTextsNeverStandForTheSameBytes) {
  for (const std::string_view text : {"Zg==", "Zh", "Zm9", "Zm9v Yg", "Zm9v+g", "Zm9v/g", "A", "Zm9vY", "Zm\n9v"})
    EXPECT_FALSE(parse_base64url(text)) << text;
}

TEST(Base64Url, EveryLengthComesBack) {
  for (size_t size = 0; size < 100; ++size) {
    std::vector<uint8_t> bytes(size);
    fill_random(bytes);
    EXPECT_EQ(parse_base64url(base64url(bytes)), bytes);
  }
}

TEST(Random, TokensAreLongAndDiffer) {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random_token(32));
  EXPECT_EQ(seen.size(), 1000u);
  EXPECT_EQ(seen.begin()->size(), 43u);
}

// RFC 4231's vectors have keys of other sizes; this one is of Python's hmac.new(bytes(range(32)), b"use\0text",
// "sha256").
TEST(KeyedHash, AgreesWithAnotherImplementation) {
  std::array<uint8_t, 32> key{};
  for (size_t i = 0; i < key.size(); ++i) key[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(hex_text(KeyedHash(key).hash("use", "text")),
            "ff7f273759ddab6872012adbe708fe3b3d5246af69cce1264c624d6b3f822144");
}

TEST(KeyedHash, DependsOnKeyUseAndText) {
  std::array<uint8_t, 32> key{}, other{1};
  const KeyedHash a(key), b(other);
  EXPECT_EQ(a.hash("x", "y"), a.hash("x", "y"));
  EXPECT_NE(a.hash("x", "y"), b.hash("x", "y"));
  EXPECT_NE(a.hash("x", "y"), a.hash("y", "x"));
  EXPECT_NE(a.hash("x", "y"), a.hash("xy", ""));
}

TEST(ConstantTime, ComparesAllOfIt) {
  const std::vector<uint8_t> a{1, 2, 3}, b{1, 2, 4}, c{1, 2};
  EXPECT_TRUE(equal_in_constant_time(a, a));
  EXPECT_FALSE(equal_in_constant_time(a, b));
  EXPECT_FALSE(equal_in_constant_time(a, c));
}

}  // namespace
}  // namespace redoubt
