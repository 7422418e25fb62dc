#include "engine/allowance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "engine/engine_fixture.h"

namespace redoubt {
namespace {

using test::Fixture;
using test::Recorder;
using test::request_of;

std::shared_ptr<Allowance> of_answer(int64_t tokens, Allowance::Ask ask = nullptr) {
  return std::make_shared<Allowance>(Allowance::Tokens{.answer = tokens}, std::move(ask));
}

std::vector<int32_t> first(std::vector<int32_t> ids, size_t count) {
  return ids.resize(std::min(count, ids.size())), ids;
}

TEST(Allowance, AClosedOneEndsTheAnswerAtTheGrantedCount) {
  Fixture fixture;
  const std::vector<int32_t> whole = fixture.run(request_of("grant", 60))->answer().ids();
  for (const int64_t granted : {1, 7, 59, 60, 100}) {
    SCOPED_TRACE(granted);
    GenerationRequest request = request_of("grant", 60);
    request.allowance = of_answer(granted);
    request.allowance->close("tokens_per_day of tenant north");
    const auto recorder = fixture.run(request);
    EXPECT_EQ(recorder->answer().ids(), first(whole, static_cast<size_t>(granted)));
    EXPECT_EQ(recorder->answer().finish, FinishReason::length);
    EXPECT_EQ(recorder->answer().by_allowance, granted < 60);
    EXPECT_EQ(recorder->usage().completion_tokens, std::min<int64_t>(granted, 60));
    EXPECT_EQ(request.allowance->limit(), "tokens_per_day of tenant north");
  }
}

TEST(Allowance, NothingGrantedIsAnswerOfNothing) {
  Fixture fixture;
  GenerationRequest request = request_of("none", 60);
  request.allowance = of_answer(0);
  request.allowance->close("x");
  const auto recorder = fixture.run(request);
  EXPECT_TRUE(recorder->answer().ids().empty());
  EXPECT_TRUE(recorder->answer().by_allowance);
  EXPECT_EQ(recorder->usage().completion_tokens, 0);
}

TEST(Allowance, WhoIsHeldBackGoesOnWithMoreOrEnds) {
  Fixture fixture;
  const std::vector<int32_t> whole = fixture.run(request_of("held", 60))->answer().ids();
  for (const bool more : {true, false}) {
    GenerationRequest request = request_of("held", 60);
    request.allowance = of_answer(10);
    const auto recorder = std::make_shared<Recorder>();
    const auto generation = fixture.engine->submit(request, recorder).value();
    ASSERT_TRUE(recorder->wait_events(10));
    while (fixture.engine->stats().has_work) std::this_thread::yield();
    EXPECT_EQ(recorder->heard(), 10);
    EXPECT_EQ(fixture.engine->stats().running, 1);
    EXPECT_EQ(fixture.run(request_of("another", 5))->answer().ids().size(), 5u);  // nobody else waits with it
    if (more) request.allowance->extend({.answer = 25});
    request.allowance->close("x");
    ASSERT_TRUE(recorder->wait_done());
    EXPECT_EQ(recorder->answer().ids(), first(whole, more ? 25 : 10));
    EXPECT_EQ(recorder->answer().finish, FinishReason::length);
    EXPECT_TRUE(recorder->answer().by_allowance);
    EXPECT_EQ(recorder->usage().completion_tokens, more ? 25 : 10);
    EXPECT_EQ(fixture.engine->stats().cache_blocks_held, 0);
  }
}

TEST(Allowance, WhoIsHeldBackCanBeCancelledAndPaused) {
  Fixture fixture;
  GenerationRequest request = request_of("held", 60);
  request.allowance = of_answer(10);
  const auto recorder = std::make_shared<Recorder>();
  const auto generation = fixture.engine->submit(request, recorder).value();
  ASSERT_TRUE(recorder->wait_events(10));
  generation->pause();
  request.allowance->extend({.answer = 20});
  fixture.run(request_of("another", 30));
  EXPECT_EQ(recorder->heard(), 10);
  generation->resume();
  ASSERT_TRUE(recorder->wait_events(20));
  generation->cancel();
  ASSERT_TRUE(recorder->wait_done());
  EXPECT_EQ(recorder->answer().finish, FinishReason::abort);
  EXPECT_EQ(fixture.engine->stats().running, 0);
}

TEST(Allowance, MoreIsAskedForEarlyOnceForEachGrant) {
  Fixture fixture;
  std::vector<int64_t> asked;
  std::shared_ptr<Allowance> allowance;
  allowance = std::make_shared<Allowance>(
      Allowance::Tokens{.answer = 40},
      [&](Allowance::Tokens used) {
        asked.push_back(used.answer);
        if (asked.size() < 4)
          allowance->extend({.answer = 40 * static_cast<int64_t>(asked.size() + 1)});
        else
          allowance->close("x");
      },
      10);
  GenerationRequest request = request_of("early", 200);
  request.allowance = allowance;
  EXPECT_EQ(fixture.run(request)->answer().ids().size(), 160u);
  EXPECT_EQ(asked, (std::vector<int64_t>{30, 70, 110, 150}));
  request.allowance.reset();
}

TEST(Allowance, ThinkingHasAGrantOfItsOwn) {
  Fixture fixture;
  GenerationRequest request = request_of("think", 60);
  request.sampling.logit_bias = {{test::kEndThink, -100.0f}};
  request.thinking.starts_in_reasoning = true;
  request.allowance = std::make_shared<Allowance>(Allowance::Tokens{.answer = 50, .thinking = 12});
  request.allowance->close("thinking_tokens_per_day of user u");
  const auto cut = fixture.run(request);
  EXPECT_EQ(cut->usage().reasoning_tokens, 12);
  EXPECT_EQ(cut->usage().completion_tokens, 12);
  EXPECT_TRUE(cut->answer().by_allowance);
  // Behind the thinking it does not count.
  request.sampling.logit_bias.clear();
  request.thinking.budget_tokens = 5;
  const auto whole = fixture.run(request);
  EXPECT_EQ(whole->usage().reasoning_tokens, 5);
  EXPECT_EQ(whole->usage().completion_tokens, 50);
}

// Drafts always, few blocks, grants that come from other threads at random times: every answer is a beginning of the
// unlimited one, as long as what was granted last, and the engine's counts agree.
TEST(Allowance, IsExactUnderSpeculationPreemptionAndAnyTiming) {
  Fixture alone({.prefix_cache = false, .speculation = {.mode = Speculation::off}}, {.habit = 12});
  Fixture loaded({.cache_bytes = 24 * 1024,
                  .max_queue = 1000,
                  .speculation = {.mode = Speculation::ngram, .max_depth = 5, .adaptive = false}},
                 {.habit = 12});
  std::mt19937_64 random(5);
  struct Trial {
    GenerationRequest request;
    std::vector<int32_t> whole;
    int64_t granted = 0;
    std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  };
  std::vector<Trial> trials(200);
  for (size_t i = 0; i < trials.size(); ++i) {
    Trial& trial = trials[i];
    trial.request = request_of("request " + std::to_string(i % 9), 80, random() % 1000);
    trial.request.n = random() % 4 == 0 ? 2 : 1;
    trial.whole = alone.run(trial.request)->answer().ids();
    trial.request.allowance = of_answer(static_cast<int64_t>(random() % 30));
    trial.granted = static_cast<int64_t>(random() % 90);
  }
  std::vector<std::shared_ptr<Generation>> generations;
  for (Trial& trial : trials) generations.push_back(loaded.engine->submit(trial.request, trial.recorder).value());
  std::vector<std::thread> granting;
  for (size_t t = 0; t < 3; ++t) {
    granting.emplace_back([&, t] {
      std::mt19937_64 dice(t);
      for (size_t i = t; i < trials.size(); i += 3) {
        Allowance& allowance = *trials[i].request.allowance;
        for (int64_t total = 0; total < trials[i].granted; total += 1 + static_cast<int64_t>(dice() % 20)) {
          allowance.extend({.answer = total});
          if (dice() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(dice() % 300));
        }
        allowance.extend({.answer = trials[i].granted});
        allowance.close("x");
      }
    });
  }
  for (std::thread& thread : granting) thread.join();
  for (Trial& trial : trials) {
    ASSERT_TRUE(trial.recorder->wait_done());
    const auto granted = static_cast<size_t>(trial.request.allowance->granted().answer);
    EXPECT_EQ(trial.recorder->answer().ids(), first(trial.whole, granted));
    int64_t heard = 0;
    for (const auto& [choice, answer] : trial.recorder->answers()) {
      EXPECT_LE(answer.ids().size(), granted);
      EXPECT_EQ(answer.finishes, 1);
      heard += static_cast<int64_t>(answer.ids().size());
    }
    EXPECT_EQ(trial.recorder->usage().completion_tokens, heard);
  }
  EXPECT_GT(loaded.engine->stats().preemptions, 0u);
  EXPECT_GT(loaded.engine->stats().accepted_draft_tokens, 0u);
  EXPECT_EQ(loaded.engine->stats().cache_blocks_held, 0);
}

}  // namespace
}  // namespace redoubt
