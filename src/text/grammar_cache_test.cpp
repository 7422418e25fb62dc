#include "text/grammar_cache.h"

#include <thread>

#include "text/grammar_fixture.h"

namespace redoubt {
namespace {

GrammarCache::Key key_of(const std::string& source, const std::string& tenant = "a") {
  return {.space = tenant, .kind = "regex", .source = source};
}

// Every mask on the way to the ends of some texts, as a grammar that nobody has used gives them.
void expect_masks_of_a_fresh_one(const GrammarPtr& kept, const GrammarPtr& fresh, const VocabularyPtr& vocabulary,
                                 uint32_t seed) {
  std::mt19937 random(seed);
  GrammarMatcher with_kept(kept, vocabulary), with_fresh(fresh, vocabulary);
  for (int step = 0; step < 60; ++step) {
    const auto mask = mask_of(with_kept, vocabulary->vocab_size());
    ASSERT_EQ(mask, mask_of(with_fresh, vocabulary->vocab_size())) << "step " << step;
    ASSERT_EQ(with_kept.can_end(), with_fresh.can_end());
    std::vector<int32_t> open;
    for (int32_t id = 0; id < vocabulary->vocab_size(); ++id)
      if (allowed(mask, id)) open.push_back(id);
    if (open.empty()) return;
    const int32_t token = open[random() % open.size()];
    ASSERT_TRUE(with_kept.accept(token));
    ASSERT_TRUE(with_fresh.accept(token));
  }
}

constexpr const char* kSchemas[] = {
    R"({"type":"object","required":["a","b"],"properties":{"a":{"type":"string","maxLength":9},"b":{"type":"number"}}})",
    R"({"type":"array","items":{"$ref":"#/$defs/x"},"$defs":{"x":{"anyOf":[{"type":"null"},{"type":"array",
        "items":{"$ref":"#/$defs/x"}}]}}})",
    R"({"type":"string","pattern":"^[a-z]+(-[0-9]{1,4})*$"})", R"({"enum":["red","green",1,{"id":null}]})"};

// A kept grammar, which sequences have used, gives the masks of one that was compiled just now.
TEST(GrammarCache, AKeptGrammarGivesTheMasksOfAFreshOne) {
  GrammarCache cache;
  for (uint32_t round = 0; round < 4; ++round) {
    for (const char* schema : kSchemas) {
      SCOPED_TRACE(schema);
      const auto kept = cache.find({.space = "a", .kind = "json_schema", .source = schema},
                                   [&]() -> Result<GrammarPtr> { return from_schema(schema); });
      ASSERT_TRUE(kept.has_value());
      expect_masks_of_a_fresh_one(*kept, from_schema(schema), json_vocabulary(), round);
    }
  }
  EXPECT_EQ(cache.stats().misses, std::size(kSchemas));
  EXPECT_EQ(cache.stats().hits, 3 * std::size(kSchemas));
}

TEST(GrammarCache, WhatOneTenantAsksForAnotherDoesNotFind) {
  GrammarCache cache;
  int compiled = 0;
  const auto compile = [&] {
    ++compiled;
    return grammar_from_regex("[a-z]+");
  };
  const auto first = cache.find(key_of("[a-z]+", "a"), compile);
  const auto other = cache.find(key_of("[a-z]+", "b"), compile);
  EXPECT_EQ(compiled, 2);
  EXPECT_NE(*first, *other);
  EXPECT_EQ(*first, *cache.find(key_of("[a-z]+", "a"), compile));
  // No two keys are one text put together.
  static_cast<void>(cache.find({.space = "a", .kind = "regex[", .source = "a-z]+"}, compile));
  EXPECT_EQ(compiled, 3);
}

TEST(GrammarCache, AnErrorIsKeptToo) {
  GrammarCache cache;
  int compiled = 0;
  for (int i = 0; i < 3; ++i) {
    const auto refused = cache.find(key_of("("), [&] {
      ++compiled;
      return grammar_from_regex("(");
    });
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().message, grammar_from_regex("(").error().message);
  }
  EXPECT_EQ(compiled, 1);
}

TEST(GrammarCache, TheLeastRecentlyUsedGoes) {
  GrammarCache cache({.max_grammars = 3});
  const auto use = [&](const std::string& pattern) {
    bool was_kept = true;
    EXPECT_TRUE(cache.find(key_of(pattern), [&] {
      was_kept = false;
      return grammar_from_regex(pattern);
    }));
    return was_kept;
  };
  for (const char* pattern : {"a", "b", "c"}) EXPECT_FALSE(use(pattern));
  EXPECT_TRUE(use("a"));
  EXPECT_FALSE(use("d"));  // b goes
  EXPECT_TRUE(use("a"));
  EXPECT_TRUE(use("c"));
  EXPECT_FALSE(use("b"));
  EXPECT_EQ(cache.stats().grammars, 3u);
}

// Masks count: they are made after a grammar was kept, by those who use it.
TEST(GrammarCache, MemoryIsBoundedWithTheMasksThatCameLater) {
  constexpr size_t kMaxBytes = 100'000;
  GrammarCache cache({.max_bytes = kMaxBytes});
  for (int i = 0; i < 40; ++i) {
    const std::string pattern = "[a-z]{1,20}-" + std::to_string(i) + "x*";
    const auto kept = cache.find(key_of(pattern), [&] { return grammar_from_regex(pattern); });
    ASSERT_TRUE(kept.has_value());
    EXPECT_LE(cache.stats().bytes, kMaxBytes);
    const size_t before = (*kept)->size_bytes();
    for (uint32_t seed = 0; seed < 3; ++seed) random_walk(*kept, json_vocabulary(), seed, false, 12);
    EXPECT_GT((*kept)->size_bytes(), before);
  }
  EXPECT_LT(cache.stats().grammars, 40u);
  EXPECT_GE(cache.stats().grammars, 2u);

  GrammarCache none({.max_bytes = 0});
  EXPECT_TRUE(none.find(key_of("a"), [] { return grammar_from_regex("a"); }));
  EXPECT_EQ(none.stats().grammars, 0u);
  const std::string long_source(kMaxBytes, 'a');  // alone over the limit
  EXPECT_TRUE(cache.find(key_of(long_source), [] { return grammar_from_regex("a"); }));
  EXPECT_LE(cache.stats().bytes, kMaxBytes);
}

// Many threads, few grammars, and room for fewer: each finds what it asked for, and its masks are right. What is asked
// for at once is compiled once.
TEST(GrammarCache, ManyThreadsAtOnce) {
  GrammarCache cache({.max_grammars = 3});
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([&cache, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 12; ++i) {
        const char* schema = kSchemas[random() % std::size(kSchemas)];
        const auto kept = cache.find({.space = "a", .kind = "json_schema", .source = schema},
                                     [&]() -> Result<GrammarPtr> { return from_schema(schema); });
        ASSERT_TRUE(kept.has_value());
        if (t % 2 == 0) prepare_masks(**kept, *json_vocabulary(), {.max_masks = 20});  // while others use it
        expect_masks_of_a_fresh_one(*kept, from_schema(schema), json_vocabulary(), t + 8 * i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();

  GrammarCache one;
  std::atomic<int> compiled = 0;
  threads.clear();
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      EXPECT_TRUE(one.find(key_of("[a-z]{1,50}"), [&] {
        ++compiled;
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        return grammar_from_regex("[a-z]{1,50}");
      }));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(compiled, 1);
}

// A grammar may be made of others that are kept: what compiles it asks for them.
TEST(GrammarCache, WhatCompilesMayAskForOtherGrammars) {
  GrammarCache cache;
  const auto outer = cache.find({.space = "a", .kind = "outer", .source = "1"}, [&] {
    return cache.find(key_of("[0-9]"), [] { return grammar_from_regex("[0-9]"); });
  });
  ASSERT_TRUE(outer.has_value());
  EXPECT_EQ(cache.stats().grammars, 2u);
}

}  // namespace
}  // namespace redoubt
