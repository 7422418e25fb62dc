#include "engine/disk_cache.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "engine/byte_vocabulary.h"
#include "engine/fake_model.h"
#include "engine/recorder.h"
#include "engine_load_trial.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

using test::FakeModel;
using test::Recorder;

constexpr int64_t kBlock = 200;

class DiskCacheTest : public testing::Test {
 protected:
  std::unique_ptr<DiskCache> open() { return DiskCache::open(options_).value(); }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(options_.directory))
      if (entry.is_regular_file()) all.push_back(entry.path());
    std::ranges::sort(all);
    return all;
  }
  test::TemporaryFolder folder_;
  DiskCacheOptions options_{.directory = folder_ / "cache"};
};

std::vector<std::byte> block_of(int seed) { return std::vector<std::byte>(kBlock, static_cast<std::byte>(seed)); }
std::vector<CacheKey> some_keys(int64_t count, std::string_view space = "space") {
  const std::vector<int32_t> tokens(static_cast<size_t>(16 * count), 7);
  return cache_keys("model", space, tokens);
}
std::vector<std::vector<std::byte>> read_all(DiskCache& cache, const std::vector<CacheKey>& keys) {
  const auto reading = cache.read(keys, kBlock, [] {});
  std::vector<std::vector<std::byte>> blocks;
  for (;;) {
    BlockReading::Next next = reading->next();
    if (next.over) return blocks;
    if (next.block.empty()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } else {
      blocks.push_back(std::move(next.block));
    }
  }
}

TEST(CacheKeys, StandForEverythingBeforeThem) {
  const std::vector<int32_t> tokens(50, 7);
  const auto keys = cache_keys("model", "space", tokens);
  ASSERT_EQ(keys.size(), 3u);  // full blocks only
  EXPECT_NE(keys[0], keys[1]);
  for (const auto& other : {cache_keys("model2", "space", tokens), cache_keys("model", "space2", tokens),
                            cache_keys("models", "pace", tokens)})
    for (size_t i = 0; i < 3; ++i) EXPECT_NE(keys[i], other[i]);
  std::vector<int32_t> changed = tokens;
  changed[20] = 8;
  const auto behind = cache_keys("model", "space", changed);
  EXPECT_EQ(keys[0], behind[0]);
  EXPECT_NE(keys[1], behind[1]);
  EXPECT_NE(keys[2], behind[2]);
}

TEST(CacheRecord, IsTakenWholeAndUnchangedOnly) {
  const CacheKey key = some_keys(1)[0], other = some_keys(1, "other")[0];
  const std::vector<std::byte> block = block_of(3);
  std::vector<std::byte> record = cache_record_head(key, block);
  ASSERT_EQ(static_cast<int64_t>(record.size()), kCacheRecordHead);
  record.insert(record.end(), block.begin(), block.end());
  const auto parsed = parse_cache_record(record, key, kBlock);
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(std::ranges::equal(*parsed, block));
  EXPECT_FALSE(parse_cache_record(record, other, kBlock));
  EXPECT_FALSE(parse_cache_record(record, key, kBlock - 1));
  EXPECT_FALSE(parse_cache_record({}, key, -kCacheRecordHead));  // no size makes a record of less than a head
  for (size_t size = 0; size < record.size(); ++size)
    EXPECT_FALSE(parse_cache_record(std::span(record).first(size), key, kBlock));
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    record[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(parse_cache_record(record, key, kBlock)) << bit;
    record[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

TEST_F(DiskCacheTest, BlocksOutliveTheProcessAndAreForTheOwnerAlone) {
  const auto keys = some_keys(5);
  {
    const auto cache = open();
    for (int i = 0; i < 5; ++i) cache->write(keys[static_cast<size_t>(i)], block_of(i), nullptr);
  }
  std::ofstream(files()[0].string() + ".partial") << "left behind";
  const auto cache = open();
  EXPECT_EQ(files().size(), 5u);
  for (const auto& file : files()) {
    struct stat info {};
    ASSERT_EQ(::stat(file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);
  }
  const auto blocks = read_all(*cache, keys);
  ASSERT_EQ(blocks.size(), 5u);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(blocks[static_cast<size_t>(i)], block_of(i));
  EXPECT_FALSE(cache->contains(some_keys(1, "other")[0]));
}

TEST_F(DiskCacheTest, ADamagedRecordEndsTheReadingAndIsRemoved) {
  const auto keys = some_keys(4);
  for (const bool cut_off : {true, false}) {
    {
      const auto cache = open();
      for (int i = 0; i < 4; ++i) cache->write(keys[static_cast<size_t>(i)], block_of(i), nullptr);
    }
    const auto path = options_.directory / hex_text(keys[2]).substr(0, 2) / (hex_text(keys[2]) + ".kv");
    ASSERT_TRUE(std::filesystem::exists(path));
    if (cut_off) {
      std::filesystem::resize_file(path, 100);
    } else {
      std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(150);
      file.put('x');
    }
    const auto cache = open();
    EXPECT_EQ(read_all(*cache, keys).size(), 2u);
    EXPECT_FALSE(std::filesystem::exists(path));
    EXPECT_FALSE(cache->contains(keys[2]));
    EXPECT_EQ(cache->stats().damaged, 1u);
  }
}

TEST_F(DiskCacheTest, TheLeastRecentlyUsedGoOverTheLimit) {
  options_.max_bytes = 4 * (kBlock + kCacheRecordHead);
  const auto a = some_keys(2, "a"), b = some_keys(2, "b"), c = some_keys(2, "c");
  {
    const auto cache = open();
    for (const auto& keys : {a, b})
      for (const CacheKey& key : keys) cache->write(key, block_of(1), nullptr);
  }
  {
    const auto cache = open();
    EXPECT_EQ(read_all(*cache, a).size(), 2u);  // used again
  }
  const auto cache = open();
  for (const CacheKey& key : c) cache->write(key, block_of(2), nullptr);
  while (cache->stats().written < 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(cache->contains(a[0]) && cache->contains(a[1]) && cache->contains(c[0]) && cache->contains(c[1]));
  EXPECT_FALSE(cache->contains(b[0]) || cache->contains(b[1]));
  EXPECT_EQ(files().size(), 4u);
  EXPECT_EQ(cache->stats().bytes, options_.max_bytes);
}

TEST_F(DiskCacheTest, WhatCannotBeWrittenIsAnErrorAtOnce) {
  std::filesystem::create_directories(options_.directory.parent_path());
  std::ofstream(options_.directory) << "a file";
  EXPECT_FALSE(DiskCache::open(options_));
}

// Engines over fake models, one after the other, as a server that is started again.
class DiskPrefixTest : public DiskCacheTest {
 protected:
  struct Result {
    test::RecordedAnswer answer;
    GenerationUsage usage;
    EngineStats stats;
  };
  Result run(GenerationRequest request, std::shared_ptr<DiskCache> disk, const std::string& identity = "model") {
    const Tokenizer tokenizer = test::byte_tokenizer();
    const SteadyClock clock;
    FakeModel model({.has_mtp = true});
    const auto engine =
        Engine::create(
            model, tokenizer,
            {.cache_bytes = 64 * model.cache_block_bytes(), .disk_cache = std::move(disk), .disk_identity = identity},
            clock)
            .value();
    const auto recorder = std::make_shared<Recorder>();
    EXPECT_TRUE(engine->submit(std::move(request), recorder));
    EXPECT_TRUE(recorder->wait_done());
    return {recorder->answer(), recorder->usage(), engine->stats()};
  }
  static GenerationRequest request() {
    GenerationRequest request;
    for (int32_t i = 0; i < 100; ++i) request.prompt.push_back(97 + i % 7);
    request.stop.max_tokens = 20;
    request.stop.ignore_eos = true;
    return request;
  }
};

TEST_F(DiskPrefixTest, APromptIsFoundAgainAfterARestartWithTheSameBits) {
  const Result first = run(request(), open());
  EXPECT_EQ(first.usage.cached_tokens, 0);
  const Result again = run(request(), open());
  EXPECT_EQ(again.usage.cached_tokens, 96);
  EXPECT_EQ(again.stats.disk_hits, 96u);
  EXPECT_EQ(again.answer, first.answer);

  GenerationRequest longer = request();
  longer.prompt.insert(longer.prompt.end(), 40, 98);
  EXPECT_EQ(run(longer, open()).answer, run(longer, nullptr).answer);
  EXPECT_EQ(run(longer, open()).usage.cached_tokens, 128);
}

TEST_F(DiskPrefixTest, AnotherTenantAdapterSaltOrModelFindsNothing) {
  run(request(), open());
  GenerationRequest tenant = request(), adapter = request(), salt = request();
  tenant.tenant = "t";
  adapter.adapter = "t";
  salt.cache_salt = "t";
  for (const GenerationRequest& other : {tenant, adapter, salt}) EXPECT_EQ(run(other, open()).usage.cached_tokens, 0);
  EXPECT_EQ(run(request(), open(), "another model").usage.cached_tokens, 0);
  EXPECT_EQ(run(request(), open()).usage.cached_tokens, 96);
}

TEST_F(DiskPrefixTest, WhatIsBehindADamagedBlockIsComputedAndWrittenAgain) {
  const Result first = run(request(), open());
  const auto keys_on_disk = files();
  ASSERT_EQ(keys_on_disk.size(), 6u);
  for (const auto& file : keys_on_disk) {
    std::filesystem::resize_file(file, 77);
    const Result again = run(request(), open());
    EXPECT_EQ(again.answer, first.answer);
    EXPECT_LT(again.usage.cached_tokens, 96);
    EXPECT_EQ(files(), keys_on_disk);
  }
  EXPECT_EQ(run(request(), open()).usage.cached_tokens, 96);
}

// A cache in memory that is far too small, so that blocks come back from disk all the time.
TEST_F(DiskPrefixTest, AThousandRequestsAnswerAsAlone) {
  test::LoadTrial trial{.stop_strings = {"ab", "e"}, .eos_ids = {test::kEos}, .has_think_marks = true};
  for (const char letter : std::string_view("abcdefgh ,.\n")) trial.letters.push_back(static_cast<uint8_t>(letter));
  const Tokenizer tokenizer = test::byte_tokenizer();
  const SteadyClock clock;
  FakeModel for_alone({.habit = 3}), for_load({.has_mtp = true, .habit = 3});
  const auto alone = Engine::create(for_alone, tokenizer,
                                    {.cache_bytes = 512 * 1024,
                                     .prefix_cache = false,
                                     .speculation = {.mode = Speculation::off},
                                     .eos_ids = {test::kEos}},
                                    clock)
                         .value();
  options_.max_bytes = 60 * 1024;
  const auto loaded = Engine::create(for_load, tokenizer,
                                     {.cache_bytes = 30 * 1024,
                                      .max_queue = 10000,
                                      .max_batch_tokens = 40,
                                      .disk_cache = open(),
                                      .disk_identity = "model",
                                      .eos_ids = {test::kEos}},
                                     clock)
                          .value();
  test::run_load_trial(trial, *alone, *loaded);
  EXPECT_GT(loaded->stats().disk_hits, 0u);
}

}  // namespace
}  // namespace redoubt
