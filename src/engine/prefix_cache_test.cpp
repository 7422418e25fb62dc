#include "engine/prefix_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace redoubt {
namespace {

std::vector<int32_t> tokens_of(int64_t blocks, int32_t first = 0) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < blocks * kCacheBlockTokens; ++i) tokens.push_back(first + static_cast<int32_t>(i));
  return tokens;
}

// A sequence as the scheduler drives the cache: matches, computes the rest, inserts it.
struct Prompt {
  Prompt(PrefixCache& cache, const std::string& space, std::vector<int32_t> tokens) : cache_(&cache) {
    const auto blocks = static_cast<int64_t>(tokens.size()) / kCacheBlockTokens;
    PrefixCache::Match match = cache.match(space, tokens, blocks);
    hits = static_cast<int64_t>(match.blocks.size());
    held = match.blocks;
    PrefixCache::Node* last = match.last;
    for (int64_t i = hits; i < blocks; ++i) {
      const std::optional<int32_t> block = cache.allocate();
      if (!block.has_value()) return;
      const auto inserted = cache.insert(
          space, last,
          std::span<const int32_t>(tokens).subspan(static_cast<size_t>(i * kCacheBlockTokens), kCacheBlockTokens),
          *block);
      held.push_back(inserted.block);
      last = inserted.node;
    }
  }
  void release() {
    for (auto at = held.rbegin(); at != held.rend(); ++at) cache_->release(*at);
    held.clear();
  }
  PrefixCache* cache_;
  std::vector<int32_t> held;
  int64_t hits = 0;
};

TEST(PrefixCache, SharesEqualBeginnings) {
  PrefixCache cache(16);
  Prompt first(cache, "a", tokens_of(3));
  Prompt second(cache, "a", tokens_of(3));
  EXPECT_EQ(first.hits, 0);
  EXPECT_EQ(second.hits, 3);
  EXPECT_EQ(first.held, second.held);
  std::vector<int32_t> branch = tokens_of(3);
  branch[2 * kCacheBlockTokens] = 999;
  Prompt third(cache, "a", branch);
  EXPECT_EQ(third.hits, 2);
  EXPECT_EQ(cache.num_held(), 4);
  first.release(), second.release(), third.release();
  EXPECT_EQ(cache.num_held(), 0);
  EXPECT_EQ(cache.num_used(), 4);
  EXPECT_EQ(cache.num_available(), 16);
}

TEST(PrefixCache, KeepsSpacesApart) {
  PrefixCache cache(16);
  Prompt first(cache, "tenant a", tokens_of(3));
  Prompt second(cache, "tenant b", tokens_of(3));
  EXPECT_EQ(second.hits, 0);
}

// The second block of one prompt is not the second block of another, though their tokens are equal.
TEST(PrefixCache, ABlockIsKnownByItsWholePast) {
  PrefixCache cache(16);
  std::vector<int32_t> one = tokens_of(2), other = tokens_of(2);
  other[0] = 999;
  Prompt first(cache, "a", one);
  Prompt second(cache, "a", other);
  EXPECT_EQ(second.hits, 0);
}

TEST(PrefixCache, EvictsWhatWasReleasedLongestAgo) {
  PrefixCache cache(4);
  Prompt old(cache, "a", tokens_of(2, 0));
  Prompt young(cache, "a", tokens_of(2, 1000));
  old.release();
  young.release();
  Prompt third(cache, "a", tokens_of(1, 2000));  // takes the last block of `old`
  third.release();
  EXPECT_EQ(Prompt(cache, "a", tokens_of(1, 0)).hits, 1);
  EXPECT_EQ(Prompt(cache, "a", tokens_of(2, 1000)).hits, 2);
}

TEST(PrefixCache, TwoThatComputedTheSameEndUpWithOneBlock) {
  PrefixCache cache(8);
  const std::vector<int32_t> tokens = tokens_of(1);
  const int32_t mine = *cache.allocate(), yours = *cache.allocate();
  EXPECT_EQ(cache.insert("a", nullptr, tokens, mine).block, mine);
  EXPECT_EQ(cache.insert("a", nullptr, tokens, yours).block, mine);
  EXPECT_EQ(cache.num_used(), 1);
  cache.release(mine);
  cache.release(mine);
  EXPECT_EQ(cache.num_held(), 0);
}

TEST(PrefixCache, SurvivesRandomUse) {
  std::mt19937 random(3);
  PrefixCache cache(24);
  std::vector<Prompt> live;
  for (int round = 0; round < 20000; ++round) {
    if (live.size() < 6 && random() % 2 == 0) {
      std::vector<int32_t> tokens = tokens_of(1 + random() % 6);
      for (size_t block = 0; block < tokens.size() / kCacheBlockTokens; ++block)
        tokens[block * kCacheBlockTokens] = static_cast<int32_t>(random() % 2);
      live.emplace_back(cache, random() % 2 == 0 ? "a" : "b", tokens);
    } else if (!live.empty()) {
      const size_t at = random() % live.size();
      live[at].release();
      live.erase(live.begin() + static_cast<int64_t>(at));
    }
    std::vector<int32_t> held;
    for (const Prompt& prompt : live) held.insert(held.end(), prompt.held.begin(), prompt.held.end());
    std::ranges::sort(held);
    held.erase(std::unique(held.begin(), held.end()), held.end());
    ASSERT_EQ(cache.num_held(), static_cast<int64_t>(held.size()));
  }
  for (Prompt& prompt : live) prompt.release();
  EXPECT_EQ(cache.num_held(), 0);
  EXPECT_EQ(cache.num_available(), 24);
}

TEST(BlockPool, CountsHolders) {
  BlockPool pool(2);
  const int32_t block = *pool.allocate();
  pool.retain(block);
  EXPECT_EQ(pool.release(block), 1);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_EQ(pool.release(block), 0);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_TRUE(pool.allocate());
  EXPECT_TRUE(pool.allocate());
  EXPECT_FALSE(pool.allocate());
}

}  // namespace
}  // namespace redoubt
