#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <memory>
#include <vector>

#include "core/dtype.h"
#include "core/float_bits.h"
#include "core/json.h"
#include "core/sha256.h"
#include "core/snapshot.h"
#include "core/thread_pool.h"
#include "core/utf8.h"

namespace redoubt {
namespace {

TEST(FloatBits, EveryHalfSurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_f16(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f16_from_float(value), bits);
  }
}

TEST(FloatBits, EveryE4m3CodeSurvivesTheWayThroughFloat) {
  EXPECT_EQ(float_from_e4m3(0x7e), 448.0f);
  EXPECT_EQ(float_from_e4m3(0x38), 1.0f);
  EXPECT_EQ(float_from_e4m3(0x01), 0x1p-9f);
  for (int bits = 0; bits < 256; ++bits) {
    const float value = float_from_e4m3(static_cast<uint8_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(e4m3_from_float(value), bits);
  }
  EXPECT_EQ(e4m3_from_float(1e9f), 0x7e);
}

TEST(FloatBits, Bf16RoundsToNearestEven) {
  EXPECT_EQ(bf16_from_float(1.0f), 0x3f80);
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie: to even
  EXPECT_EQ(bf16_from_float(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_TRUE(std::isnan(float_from_bf16(bf16_from_float(NAN))));
}

TEST(DTypes, TableIsIndexedByType) {
  for (int i = 0; i < kNumDTypes; ++i) EXPECT_EQ(info(static_cast<DType>(i)).dtype, static_cast<DType>(i));
  EXPECT_EQ(dtype_from_name("Q4_K"), DType::q4_k);
  EXPECT_EQ(dtype_from_ggml(30), DType::bf16);
  EXPECT_EQ(dtype_from_ggml(4), std::nullopt);
}

TEST(Json, ValuesAreCountedWithoutParsing) {
  const auto count = [](std::string_view text) {
    constexpr std::string_view kKeys[] = {"json"};
    const JsonValues found = count_json_values(text, kKeys);
    return std::pair(found.outside_strings, found.inside_strings);
  };
  EXPECT_EQ(count("1"), std::pair(int64_t{1}, int64_t{0}));
  EXPECT_EQ(count(R"({"a":[1,2,{}],"b":"x"})"), std::pair(int64_t{7}, int64_t{0}));  // 6, and one for what is empty
  EXPECT_EQ(count(R"({"a":"[1,\",2]", "b":"\\", "json":[",,"]})"), std::pair(int64_t{5}, int64_t{0}));
  EXPECT_EQ(count(R"({"json" : "[1,{},2]", "x":"[1,2]"})"), std::pair(int64_t{3}, int64_t{4}));
  EXPECT_EQ(count(R"({"\u006ason":"[1,2]"})"), std::pair(int64_t{2}, int64_t{2}));
  // In its own strings are no values, whatever is escaped there; a comma may be written as an escape.
  EXPECT_EQ(count(R"({"json":"{\"a\":\"x,\\\",[\\\\\",\u0022,\u0022\u002c1}"})"), std::pair(int64_t{2}, int64_t{3}));
  EXPECT_EQ(count("\"\\"), std::pair(int64_t{1}, int64_t{0}));  // cut within an escape
}

TEST(Json, RefusesDepthDuplicatesAndTrailingText) {
  EXPECT_TRUE(parse_json(R"({"b":1,"a":[true,null,"x"]})"));
  EXPECT_EQ(dump_json(parse_json(R"({"b":1,"a":2})").value()), R"({"b":1,"a":2})");
  EXPECT_FALSE(parse_json(std::string(100000, '[')));
  EXPECT_FALSE(parse_json(R"({"a":1,"a":2})"));
  EXPECT_FALSE(parse_json(R"({"x":[{"a":1,"b":{"c":2},"a":2}]})"));
  EXPECT_TRUE(parse_json(R"({"a":{"a":1},"b":{"a":{}}})"));
  EXPECT_FALSE(parse_json("{} x"));
  EXPECT_FALSE(parse_json(""));
  EXPECT_FALSE(parse_json("\"\xff\""));
}

// A search through all keys before each one would take minutes here.
TEST(Json, ManyKeysAreReadInOrder) {
  constexpr int kKeys = 500000;
  std::string text = "{";
  for (int i = kKeys; i > 0; --i) text += fmt::format("\"k{}\":{},", i, i);
  const auto json = parse_json(text + "\"last\":[]}");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->size(), kKeys + 1);
  EXPECT_EQ(json->begin().key(), fmt::format("k{}", kKeys));
  EXPECT_EQ(json->at("k1"), 1);
  const auto twice = parse_json(text + "\"k7\":0}");
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().message, "duplicate key 'k7'");
}

TEST(Json, ValuesAreCounted) {
  EXPECT_TRUE(parse_json("[[],{},1,\"x\"]", {.max_values = 5}));
  const auto more = parse_json("[[],{},1,\"x\"]", {.max_values = 4});
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().message, "JSON of more than 4 values");
  std::string text = "[";
  for (size_t i = 0; i < JsonLimits().max_values; ++i) text += "{},";
  EXPECT_FALSE(parse_json(text + "0]"));
}

TEST(Utf8, IncompleteCharactersAreHeldBack) {
  EXPECT_EQ(complete_utf8_prefix("ab\xe4\xbd"), 2u);
  EXPECT_EQ(complete_utf8_prefix("ab\xe4\xbd\xa0"), 5u);
  EXPECT_EQ(complete_utf8_prefix("ab\xff"), 3u);
  EXPECT_EQ(utf8_head("ab\xe4\xbd\xa0", 4), "ab");
  EXPECT_EQ(utf8_head("ab\xe4\xbd\xa0", 5), "ab\xe4\xbd\xa0");
  EXPECT_EQ(utf8_head("ab", 5), "ab");
  EXPECT_EQ(complete_utf8_prefix("\xf0\x9f\x98"), 0u);
  EXPECT_FALSE(is_valid_utf8("\xc0\x80"));
  EXPECT_FALSE(is_valid_utf8("\xed\xa0\x80"));
  EXPECT_EQ(repair_utf8("a\xf0\x9f\x98z"), "a\xef\xbf\xbdz");
}

TEST(Sha256, GivesThePublishedDigests) {
  const auto hex = [](std::string_view text) { return hex_text(Sha256().add(text).finish()); };
  EXPECT_EQ(hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(std::string(55, 'a')), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(hex(std::string(56, 'a')), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  EXPECT_EQ(hex(std::string(64, 'a')), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
  EXPECT_EQ(hex(std::string(1000, 'a')), "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
  EXPECT_EQ(Sha256().add_number(0x6261).finish(), Sha256().add(std::string_view("ab\0\0\0\0\0\0", 8)).finish());
}

// What a reader holds is whole and alive, whatever is stored meanwhile; what nobody holds any more is gone.
TEST(Snapshot, ReadersSeeWholeValuesAndNothingIsLeft) {
  struct Pair {
    explicit Pair(int value, std::atomic<int>& alive) : first(value), second(value), alive(alive) { ++alive; }
    ~Pair() {
      first = second = -1;
      --alive;
    }
    int first, second;
    std::atomic<int>& alive;
  };
  std::atomic<int> alive{0}, torn{0}, loads{0};
  {
    Snapshot<Pair> snapshot(std::make_shared<Pair>(0, alive));
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    for (int i = 0; i < 4; ++i) {
      readers.emplace_back([&] {
        int last = 0;
        while (!stop) {
          const auto pair = snapshot.load();
          if (pair->first != pair->second || pair->first < last) ++torn;
          last = pair->first;
          ++loads;
        }
      });
    }
    for (int value = 1; value < 2000 || loads < 1000; ++value) snapshot.store(std::make_shared<Pair>(value, alive));
    stop = true;
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(alive, 1);
  }
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(alive, 0);
}

TEST(ThreadPool, EveryChunkRunsOnce) {
  ThreadPool pool(4);
  for (int round = 0; round < 2000; ++round) {
    std::vector<std::atomic<int>> hits(17);
    pool.parallel_for(17, [&](int64_t chunk, int) { hits[static_cast<size_t>(chunk)]++; });
    for (auto& hit : hits) ASSERT_EQ(hit.load(), 1);
  }
}

}  // namespace
}  // namespace redoubt
