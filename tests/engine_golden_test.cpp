// The load trial over real models: the tiny golden ones, each with the reference kernels and with those of this
// machine.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>

#include "engine/disk_cache.h"
#include "engine/engine.h"
#include "engine/model_host.h"
#include "engine/recorder.h"
#include "engine_load_trial.h"
#include "formats/checkpoint.h"
#include "model/model.h"
#include "npz.h"
#include "text/tokenizer.h"

namespace redoubt {
namespace {

std::unique_ptr<Model> load_model(const Checkpoint& checkpoint, const std::string& kernels, int threads) {
  ModelOptions options{.kernels = kernels, .threads = threads};
  options.limits = {.max_tokens = 64, .max_logits = 64, .max_chunks = 16};
  return Model::load(checkpoint, options).value();
}

class GoldenEngine : public testing::TestWithParam<const char*> {};

TEST_P(GoldenEngine, EveryAnswerUnderLoadIsTheSameAloneHeavy) {
  const std::filesystem::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "no test data: set REDOUBT_TEST_DATA";
  for (const auto& folder : std::filesystem::directory_iterator(data / "golden/models")) {
    if (!folder.is_directory()) continue;
    SCOPED_TRACE(folder.path().filename().string());
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).value();
    const Tokenizer tokenizer = Tokenizer::open(folder.path()).value();
    const bool is_slow = std::string_view(GetParam()) == "reference";
    test::LoadTrial trial{.requests = is_slow ? 25 : 150,
                          .seed = 5,
                          .max_prompt = 100,
                          .max_answer = 40,
                          .stop_strings = {"e", "th", " a"},
                          .eos_ids = checkpoint.generation().eos_token_ids};
    trial.has_think_marks = tokenizer.find("</think>").has_value();
    for (int32_t id = 10; id < 200; ++id) trial.letters.push_back(id);

    // Alone: another number of threads, another chunk size, no prefix cache, more blocks, no speculation.
    const auto for_alone = load_model(checkpoint, GetParam(), 1), for_load = load_model(checkpoint, GetParam(), 2);
    const Speculation mode = for_load->has_mtp() ? Speculation::mtp : Speculation::ngram;
    SteadyClock clock;
    const auto alone = Engine::create(*for_alone, tokenizer,
                                      {.cache_bytes = 64 * for_alone->cache_block_bytes(),
                                       .max_batch_tokens = 23,
                                       .prefix_cache = false,
                                       .speculation = {.mode = Speculation::off},
                                       .eos_ids = trial.eos_ids},
                                      clock)
                           .value();
    const auto loaded = Engine::create(*for_load, tokenizer,
                                       {.max_context = 256,
                                        .cache_bytes = 30 * for_load->cache_block_bytes(),
                                        .max_queue = 1000,
                                        .max_sequences = 16,
                                        .speculation = {.mode = mode, .max_depth = 3, .adaptive = false},
                                        .eos_ids = trial.eos_ids},
                                       clock)
                            .value();
    test::run_load_trial(trial, *alone, *loaded);
    const EngineStats stats = loaded->stats();
    std::printf("%llu of %llu drafted tokens held\n", static_cast<unsigned long long>(stats.accepted_draft_tokens),
                static_cast<unsigned long long>(stats.draft_tokens));
    EXPECT_GT(stats.accepted_draft_tokens, 0u);
  }
}

// Greedy answers through the whole engine are the published ones, whose ids are promised for the reference kernels.
TEST(GoldenEngineGreedyHeavy, AnswersAreTheGoldenOnes) {
  const std::filesystem::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "no test data: set REDOUBT_TEST_DATA";
  for (const auto& folder : std::filesystem::directory_iterator(data / "golden/models")) {
    if (!folder.is_directory()) continue;
    SCOPED_TRACE(folder.path().filename().string());
    const test::Npz golden = test::read_npz(folder.path() / "golden.npz");
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).value();
    const Tokenizer tokenizer = Tokenizer::open(folder.path()).value();
    const auto model = load_model(checkpoint, "reference", 0);
    SteadyClock clock;
    const auto engine =
        Engine::create(*model, tokenizer, {.cache_bytes = 64 * model->cache_block_bytes()}, clock).value();
    for (int i = 0; golden.contains("greedy_" + std::to_string(i)); ++i) {
      const std::vector<int32_t> expected = golden.at("greedy_" + std::to_string(i)).as_ids();
      GenerationRequest request;
      request.prompt = golden.at("tokens_" + std::to_string(i)).as_ids();
      request.sampling.temperature = 0;
      request.stop.max_tokens = static_cast<int64_t>(expected.size());
      request.stop.ignore_eos = true;
      const auto recorder = std::make_shared<test::Recorder>();
      ASSERT_TRUE(engine->submit(request, recorder));
      ASSERT_TRUE(recorder->wait_done());
      EXPECT_EQ(recorder->answer().ids(), expected) << "case " << i;
    }
  }
}

// Blocks that one engine wrote to disk are read by the next one, over the same model loaded anew: the answer has the
// same bits, and all but the prompt's last block comes from disk. Every form of cache and both tables of kernels.
TEST_P(GoldenEngine, ARestartFindsItsPromptsOnDiskHeavy) {
  const std::filesystem::path data = test::test_data();
  if (data.empty()) GTEST_SKIP() << "no test data: set REDOUBT_TEST_DATA";
  for (const auto& folder : std::filesystem::directory_iterator(data / "golden/models")) {
    if (!folder.is_directory()) continue;
    for (const CacheType type : {CacheType::f32, CacheType::bf16, CacheType::q8}) {
      if (std::string_view(GetParam()) == "reference" && type != CacheType::f32) continue;
      SCOPED_TRACE(folder.path().filename().string() + ", cache type " + std::to_string(static_cast<int>(type)));
      const Checkpoint checkpoint = Checkpoint::open(folder.path()).value();
      const Tokenizer tokenizer = Tokenizer::open(folder.path()).value();
      const std::filesystem::path directory =
          std::filesystem::path(testing::TempDir()) / ("golden_disk_" + std::to_string(::getpid()));
      std::filesystem::remove_all(directory);
      const auto answer = [&](bool keeps, int64_t* cached) {
        ModelOptions options{.kernels = GetParam(), .threads = 2, .cache_type = type};
        options.limits = {.max_tokens = 64, .max_logits = 64, .max_chunks = 16};
        const std::unique_ptr<Model> model = Model::load(checkpoint, options).value();
        SteadyClock clock;
        EngineOptions engine_options{.cache_bytes = 64 * model->cache_block_bytes()};
        if (keeps) {
          engine_options.disk_cache = DiskCache::open({.directory = directory}).value();
          engine_options.disk_identity = cache_identity(checkpoint);
        }
        const auto engine = Engine::create(*model, tokenizer, engine_options, clock).value();
        GenerationRequest request;
        for (int32_t i = 0; i < 85; ++i) request.prompt.push_back(10 + i * 7 % 180);
        request.sampling.temperature = 0;
        request.stop.max_tokens = 24;
        request.stop.ignore_eos = true;
        request.logprobs = true;
        const auto recorder = std::make_shared<test::Recorder>();
        EXPECT_TRUE(engine->submit(request, recorder));
        EXPECT_TRUE(recorder->wait_done());
        *cached = recorder->usage().cached_tokens;
        return recorder->answer();
      };
      int64_t cached = 0;
      const auto alone = answer(false, &cached), first = answer(true, &cached);
      EXPECT_EQ(cached, 0);
      const auto second = answer(true, &cached);
      EXPECT_EQ(cached, 80);
      for (const auto* kept : {&first, &second}) {
        EXPECT_EQ(*kept, alone);  // bits of log-probabilities too
      }
      std::filesystem::remove_all(directory);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, GoldenEngine, testing::Values("reference", "auto"));

}  // namespace
}  // namespace redoubt
