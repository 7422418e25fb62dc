#include "engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "core/utf8.h"
#include "engine/engine_fixture.h"
#include "engine/step_loop.h"
#include "engine_load_trial.h"

namespace redoubt {
namespace {

using test::FakeModel;
using test::Fixture;
using test::Gate;
using test::ids_of;
using test::Recorder;
using test::request_of;

TEST(Engine, TheSameSeedGivesTheSameAnswerAndAnotherAnother) {
  Fixture fixture;
  const auto one = fixture.run(request_of("hello", 30, 1))->answer();
  EXPECT_EQ(one, fixture.run(request_of("hello", 30, 1))->answer());
  EXPECT_FALSE(one == fixture.run(request_of("hello", 30, 2))->answer());
  EXPECT_EQ(one.finish, FinishReason::length);
  EXPECT_EQ(one.ids().size(), 30u);
}

// No token is drawn from what damaged weights computed, and nothing new begins.
TEST(Engine, DamagedWeightsEndEveryAnswerWithTheirError) {
  Fixture fixture;
  std::atomic<int> steps{0};
  fixture.model.on_step = [&](std::span<const SequenceChunk>) {
    if (++steps == 5) fixture.model.is_damaged = true;
  };
  GenerationRequest request = request_of("hello", 30);
  request.n = 2;
  EXPECT_FALSE(fixture.engine->stats().is_damaged);
  const auto recorder = fixture.run(request);
  for (const auto& [choice, answer] : recorder->answers()) {
    EXPECT_EQ(answer.finish, FinishReason::error);
    EXPECT_LE(answer.ids().size(), 4u);
  }
  EXPECT_EQ(steps, 5);
  EXPECT_EQ(fixture.engine->stats().finished_error, 2u);
  EXPECT_EQ(fixture.engine->stats().cache_blocks_held, 0);
  EXPECT_TRUE(fixture.engine->stats().is_damaged);
  EXPECT_EQ(fixture.error_of(request_of("again", 3)).code, ErrorCode::corrupt_data);
}

TEST(Engine, ChoicesDifferAndShareThePrompt) {
  for (const bool prefix_cache : {true, false}) {
    Fixture fixture({.prefix_cache = prefix_cache});
    GenerationRequest request = request_of(std::string(100, 'x'), 10);
    request.n = 3;
    const auto recorder = fixture.run(request);
    auto answers = recorder->answers();
    ASSERT_EQ(answers.size(), 3u);
    EXPECT_FALSE(answers[0] == answers[1]);
    EXPECT_FALSE(answers[1] == answers[2]);
    EXPECT_EQ(recorder->usage().completion_tokens, 30);
    EXPECT_EQ(fixture.engine->stats().prefix_hits, 2u * 96u);  // six full blocks, for each of the other two
  }
}

TEST(Engine, APromptSeenBeforeIsNotComputedAgain) {
  Fixture fixture;
  const std::string prompt(64, 'p');  // four full blocks, of which the last may not be taken whole
  EXPECT_EQ(fixture.run(request_of(prompt, 3))->usage().cached_tokens, 0);
  const auto again = fixture.run(request_of(prompt, 3));
  EXPECT_EQ(again->usage().cached_tokens, 48);
  GenerationRequest other_tenant = request_of(prompt, 3);
  other_tenant.tenant = "other";
  EXPECT_EQ(fixture.run(other_tenant)->usage().cached_tokens, 0);
  GenerationRequest salted = request_of(prompt, 3);
  salted.cache_salt = "salt";
  EXPECT_EQ(fixture.run(salted)->usage().cached_tokens, 0);
}

// Blocks of an answer are computed in the decode form: they are never offered to a later prompt.
TEST(Engine, AnAnswersBlocksAreComputedAgainAsPrompt) {
  Fixture fixture;
  const auto first = fixture.run(request_of(std::string(20, 'p'), 40));
  GenerationRequest turn = request_of(std::string(20, 'p'), 3);
  const std::vector<int32_t> answer = first->answer().ids();
  turn.prompt.insert(turn.prompt.end(), answer.begin(), answer.end());
  EXPECT_EQ(fixture.run(turn)->usage().cached_tokens, 16);
}

TEST(Engine, StopsAtIdsAndStringsAndSaysWhich) {
  Fixture fixture;
  const std::vector<int32_t> ids = fixture.run(request_of("stop", 40))->answer().ids();
  GenerationRequest by_id = request_of("stop", 40);
  by_id.stop.token_ids = {ids[10]};
  const size_t first = static_cast<size_t>(std::ranges::find(ids, ids[10]) - ids.begin());
  const auto stopped = fixture.run(by_id);
  EXPECT_EQ(stopped->answer().finish, FinishReason::stop);
  EXPECT_EQ(stopped->answer().stop_token, ids[10]);
  EXPECT_EQ(stopped->answer().ids(), std::vector<int32_t>(ids.begin(), ids.begin() + static_cast<int64_t>(first)));
  EXPECT_EQ(stopped->usage().completion_tokens, static_cast<int64_t>(first) + 1);

  by_id.stop.min_tokens = 20;  // not before: the id is forbidden, so the answer differs from there on
  const auto later = fixture.run(by_id)->answer().ids();
  EXPECT_GE(later.size(), 20u);
  EXPECT_EQ(std::ranges::find(later, ids[10]), later.end());

  GenerationRequest lettered = request_of("stop", 40);
  lettered.sampling.logit_bias.clear();
  for (int32_t id = 'a'; id <= 'd'; ++id) lettered.sampling.logit_bias.emplace_back(id, 50.0f);
  const std::string text = fixture.run(lettered)->answer().text();
  ASSERT_EQ(text.size(), 40u);
  const std::string stop = text.substr(7, 4);
  lettered.stop.strings = {"zzz", stop};
  const auto cut = fixture.run(lettered)->answer();
  EXPECT_EQ(cut.finish, FinishReason::stop);
  EXPECT_EQ(cut.stop_string, stop);
  EXPECT_EQ(cut.text(), text.substr(0, text.find(stop)));
}

TEST(Engine, EndOfSequenceStopsUnlessIgnored) {
  Fixture fixture;
  GenerationRequest request = request_of("end", 20);
  request.sampling.logit_bias = {{test::kEos, 100.0f}};
  EXPECT_EQ(fixture.run(request)->answer().ids().size(), 20u);
  request.stop.ignore_eos = false;
  const auto stopped = fixture.run(request)->answer();
  EXPECT_EQ(stopped.finish, FinishReason::stop);
  EXPECT_EQ(stopped.text(), "");
  EXPECT_TRUE(stopped.ids().empty());
  EXPECT_EQ(stopped.stop_token, std::nullopt);
  request.stop.min_tokens = 5;
  EXPECT_EQ(fixture.run(request)->answer().ids().size(), 5u);
}

TEST(Engine, TextIsWholeCharactersAndNothingIsLost) {
  Fixture fixture;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    GenerationRequest request = request_of("utf-8", 40, seed);
    for (int32_t id = 0x80; id < 0x100; ++id) request.sampling.logit_bias.emplace_back(id, 3.0f);
    request.stop.strings = {"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd never", "\xc3\xa9"};
    const auto answer = fixture.run(request)->answer();
    for (const auto& token : answer.tokens) EXPECT_TRUE(is_valid_utf8(token.text));
    if (answer.finish == FinishReason::length) {
      EXPECT_EQ(answer.text(), fixture.tokenizer.decode(answer.ids(), true));
    }
  }
}

TEST(Engine, LogprobsAreTheModelsOwnAndSumToOne) {
  Fixture fixture({}, {.vocab_size = 15});
  GenerationRequest request = request_of("\x01\x02\x03", 5);
  request.logprobs = true;
  request.top_logprobs = 15;
  request.prompt_logprobs = true;
  request.sampling = {.temperature = 0.2, .top_k = 2, .logit_bias = {{3, 5.0f}}, .seed = 4};
  const auto recorder = fixture.run(request);
  for (const auto& token : recorder->answer().tokens) {
    ASSERT_EQ(token.logprobs.size(), 16u);
    double sum = 0;
    for (size_t i = 1; i < 16; ++i) sum += std::exp(std::bit_cast<float>(token.logprobs[i].second));
    EXPECT_NEAR(sum, 1.0, 1e-5);
  }
  const auto prompt = recorder->usage().prompt_logprobs;
  ASSERT_EQ(prompt.size(), 3u);
  EXPECT_FALSE(prompt[0].has_value());
  EXPECT_TRUE(prompt[1].has_value() && prompt[1]->token == 2 && prompt[2]->token == 3);
}

TEST(Engine, TheThinkingBudgetClosesTheBlock) {
  Fixture fixture;
  for (const int64_t budget : {0, 1, 2, 7}) {
    SCOPED_TRACE(budget);
    GenerationRequest request = request_of("think", 30);
    request.sampling.logit_bias = {{test::kEndThink, -100.0f}};
    request.thinking = {.starts_in_reasoning = true, .budget_tokens = budget};
    const auto recorder = fixture.run(request);
    const std::vector<int32_t> ids = recorder->answer().ids();
    ASSERT_GT(ids.size(), static_cast<size_t>(budget));
    EXPECT_EQ(ids[static_cast<size_t>(budget)], test::kEndThink);
    if (budget > 0) {
      EXPECT_EQ(ids[static_cast<size_t>(budget - 1)], '\n');
    }
    EXPECT_EQ(recorder->usage().reasoning_tokens, budget);
    EXPECT_EQ(recorder->usage().completion_tokens, 30);
  }
  // The block that the model opens itself.
  GenerationRequest request = request_of("think", 30);
  request.sampling.logit_bias = {{test::kThink, 100.0f}, {test::kEndThink, -100.0f}};
  request.thinking.budget_tokens = 4;
  const auto recorder = fixture.run(request);
  EXPECT_EQ(recorder->answer().ids()[0], test::kThink);
  EXPECT_EQ(recorder->answer().ids()[5], test::kEndThink);
  EXPECT_EQ(recorder->usage().reasoning_tokens, 4);
}

TEST(Engine, AGrammarBeginsBehindTheThinking) {
  Fixture fixture;
  const std::vector<std::string> choices{"yes", "no"};
  for (uint64_t seed = 0; seed < 10; ++seed) {
    GenerationRequest request = request_of("grammar", 30, seed);
    request.grammar = grammar_from_choice(choices).value();
    request.stop.ignore_eos = false;
    const auto at_once = fixture.run(request)->answer();
    EXPECT_TRUE(at_once.text() == "yes" || at_once.text() == "no" || at_once.ids()[0] == test::kThink)
        << at_once.text();
    request.thinking = {.starts_in_reasoning = true, .budget_tokens = 6};
    const auto thought = fixture.run(request)->answer();
    const std::string text = thought.text();
    const size_t mark = text.find("</think>");
    ASSERT_NE(mark, std::string::npos);
    const std::string rest = text.substr(mark + 8);
    EXPECT_TRUE(rest == "yes" || rest == "no") << rest;
    EXPECT_EQ(thought.finish, FinishReason::stop);
  }
}

// The request contradicts itself: its own fault, and not the engine's.
TEST(Engine, AGrammarThatOtherLimitsLeaveNoTokenIsTheRequestsMistake) {
  Fixture fixture;
  GenerationRequest request = request_of("grammar", 30);
  request.grammar = grammar_from_choice(std::vector<std::string>{"a"}).value();
  request.stop.token_ids = {'a', test::kThink};
  request.stop.min_tokens = 1;
  const auto answer = fixture.run(request)->answer();
  EXPECT_EQ(answer.finish, FinishReason::error);
  EXPECT_EQ(answer.error, ErrorCode::invalid_argument);
  EXPECT_EQ(answer.error_param, "min_tokens");
}

TEST(Engine, RefusesWhatItCannotObey) {
  Fixture fixture;
  EXPECT_EQ(fixture.error_of(request_of("", 5)).param, "prompt");
  GenerationRequest request = request_of("x", 5);
  request.prompt[0] = 300;
  EXPECT_EQ(fixture.error_of(request).param, "prompt");
  request = request_of("x", 5);
  request.sampling.temperature = -1;
  EXPECT_EQ(fixture.error_of(request).param, "temperature");
  request = request_of("x", 5);
  request.sampling.top_p = 0.0;
  EXPECT_EQ(fixture.error_of(request).param, "top_p");
  request = request_of("x", 5);
  request.sampling.logit_bias = {{1000000000, 1.0f}};
  EXPECT_EQ(fixture.error_of(request).param, "logit_bias");
  request = request_of("x", 5);
  request.n = 0;
  EXPECT_EQ(fixture.error_of(request).param, "n");
  request = request_of("x", 5);
  request.stop.min_tokens = 6;
  EXPECT_EQ(fixture.error_of(request).param, "min_tokens");

  const Error too_long = fixture.error_of(request_of(std::string(300, 'x'), 0));
  EXPECT_EQ(too_long.code, ErrorCode::context_length);
  EXPECT_NE(too_long.message.find("300"), std::string::npos);
  EXPECT_NE(too_long.message.find("256"), std::string::npos);
  EXPECT_EQ(fixture.error_of(request_of(std::string(200, 'x'), 57)).code, ErrorCode::context_length);
  EXPECT_EQ(fixture.run(request_of(std::string(200, 'x'), 56))->answer().ids().size(), 56u);
  EXPECT_EQ(fixture.run(request_of(std::string(250, 'x'), 0))->answer().ids().size(), 6u);  // to the end of the context
}

TEST(Engine, ASmallCacheShortensTheContextAndSaysSo) {
  Fixture fixture({.cache_bytes = 5 * 1024});
  EXPECT_EQ(fixture.engine->max_context(), 80);
  EXPECT_EQ(fixture.run(request_of(std::string(70, 'x'), 10))->answer().ids().size(), 10u);
  EXPECT_EQ(fixture.error_of(request_of(std::string(70, 'x'), 11)).code, ErrorCode::context_length);
}

TEST(Engine, CancellingFreesTheBlocksWithinOneStep) {
  FakeModel::Shape shape;
  Tokenizer tokenizer = test::byte_tokenizer();
  SteadyClock clock;
  FakeModel model(shape);
  Gate gate(model);
  gate.armed = true;
  auto engine = Engine::create(model, tokenizer, {.cache_bytes = 64 * 1024}, clock).value();
  const auto recorder = std::make_shared<Recorder>();
  auto generation = engine->submit(request_of("cancel me", 200), recorder).value();
  gate.inside.get_future().wait();
  generation->cancel();
  const uint64_t steps = engine->stats().steps;
  gate.go_on.set_value();
  ASSERT_TRUE(recorder->wait_done());
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.cache_blocks_held, 0);
  EXPECT_LE(stats.steps, steps + 1);
  EXPECT_EQ(recorder->answer().finish, FinishReason::abort);
  EXPECT_EQ(recorder->dones(), 1);
  generation->cancel();  // again, and after the end: nothing happens
  engine.reset();
  generation->cancel();
  EXPECT_EQ(recorder->dones(), 1);
}

TEST(Engine, HowMuchOfThePromptWasComputedIsKnownWhereItWasLeftInTheMiddle) {
  SteadyClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  FakeModel model(FakeModel::Shape{});
  Gate gate(model);
  gate.armed = true;
  auto engine = Engine::create(model, tokenizer, {.cache_bytes = 64 * 1024, .max_batch_tokens = 32}, clock).value();
  const auto recorder = std::make_shared<Recorder>();
  auto generation = engine->submit(request_of(std::string(100, 'x'), 20), recorder).value();
  gate.inside.get_future().wait();  // in the first of four steps
  generation->cancel();
  gate.go_on.set_value();
  ASSERT_TRUE(recorder->wait_done());
  EXPECT_EQ(recorder->usage().prompt_tokens, 100);
  EXPECT_EQ(recorder->usage().completion_tokens, 0);
  EXPECT_EQ(engine->stats().prompt_tokens, static_cast<uint64_t>(recorder->usage().prefilled_tokens));
  EXPECT_GE(recorder->usage().prefilled_tokens, 32);
  EXPECT_LT(recorder->usage().prefilled_tokens, 100);
  const auto whole = std::make_shared<Recorder>();
  ASSERT_TRUE(engine->submit(request_of(std::string(100, 'y'), 20), whole));
  ASSERT_TRUE(whole->wait_done());
  EXPECT_EQ(whole->usage().prefilled_tokens, 100);
}

TEST(Engine, TheQueueIsBounded) {
  SteadyClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  FakeModel model(FakeModel::Shape{});
  Gate gate(model);
  gate.armed = true;
  auto engine =
      Engine::create(model, tokenizer, {.cache_bytes = 64 * 1024, .max_queue = 3, .max_sequences = 2}, clock).value();
  std::vector<std::shared_ptr<Recorder>> recorders;
  for (int i = 0; i < 5; ++i) {
    recorders.push_back(std::make_shared<Recorder>());
    EXPECT_TRUE(engine->submit(request_of("queue", 5), recorders.back()));
  }
  auto refused = engine->submit(request_of("queue", 5), std::make_shared<Recorder>());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  gate.go_on.set_value();
  for (const auto& recorder : recorders) EXPECT_TRUE(recorder->wait_done());
  EXPECT_TRUE(engine->submit(request_of("queue", 5), recorders[0]));
  engine->drain();
  auto draining = engine->submit(request_of("queue", 5), std::make_shared<Recorder>());
  ASSERT_FALSE(draining);
  EXPECT_EQ(draining.error().code, ErrorCode::overloaded);
}

TEST(Engine, APausedReaderHoldsOnlyItselfBack) {
  Fixture fixture({.cache_bytes = 20 * 1024});  // 320 tokens: the other one needs the paused one's blocks
  const auto expected = Fixture().run(request_of(std::string(100, 'p'), 100))->answer();
  const auto recorder = std::make_shared<Recorder>();
  std::promise<std::shared_ptr<Generation>> handle;
  const std::shared_future<std::shared_ptr<Generation>> shared = handle.get_future().share();
  recorder->on_event = [&](int64_t heard) {
    if (heard == 20) shared.get()->pause();
  };
  auto generation = fixture.engine->submit(request_of(std::string(100, 'p'), 100), recorder).value();
  handle.set_value(generation);
  ASSERT_TRUE(recorder->wait_events(20));
  EXPECT_EQ(fixture.run(request_of(std::string(220, 'q'), 36))->answer().ids().size(), 36u);
  EXPECT_EQ(recorder->heard(), 20);
  EXPECT_FALSE(fixture.engine->stats().has_work);
  generation->resume();
  ASSERT_TRUE(recorder->wait_done());
  EXPECT_EQ(recorder->answer(), expected);
  EXPECT_EQ(recorder->usage().preemptions, 1);
}

TEST(Engine, HigherPriorityTakesTheSlotOfLower) {
  Fixture fixture({.max_sequences = 1});
  GenerationRequest slow = request_of("slow", 200);
  const auto low = std::make_shared<Recorder>();
  std::promise<void> started;
  low->on_event = [&](int64_t heard) {
    if (heard == 3) started.set_value();
  };
  auto generation = fixture.engine->submit(slow, low).value();
  started.get_future().wait();
  GenerationRequest urgent = request_of("urgent", 5);
  urgent.priority = 1;
  fixture.run(urgent);
  EXPECT_TRUE(low->wait_done());
  EXPECT_EQ(low->answer(), Fixture().run(slow)->answer());
}

TEST(Engine, DestroyingItAbortsWhatRuns) {
  const auto recorder = std::make_shared<Recorder>();
  {
    Fixture fixture({}, {.max_position_embeddings = 100000});
    fixture.engine->submit(request_of("long", 0), recorder).value();
    ASSERT_TRUE(recorder->wait_events(3));
  }
  EXPECT_EQ(recorder->dones(), 1);
}

// As a server ends: a listener that holds the engine is told and let go while somebody else still holds it.
TEST(Engine, StoppingItAbortsWhatRunsAndLetsItsListenersGo) {
  Fixture fixture({}, {.max_position_embeddings = 100000});
  auto recorder = std::make_shared<Recorder>();
  fixture.engine->submit(request_of("long", 0), recorder).value();
  ASSERT_TRUE(recorder->wait_events(3));
  fixture.engine->stop();
  EXPECT_EQ(recorder->dones(), 1);
  EXPECT_EQ(recorder.use_count(), 1);
  EXPECT_EQ(fixture.error_of(request_of("late", 5)).code, ErrorCode::overloaded);
  fixture.engine->stop();  // a second time does nothing
}

TEST(Engine, ProgressIsCountedPerLayerAndIdleIsNoStall) {
  ManualClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  FakeModel model(FakeModel::Shape{});
  Gate gate(model);
  gate.armed = true;
  auto engine = Engine::create(model, tokenizer, {.cache_bytes = 64 * 1024}, clock).value();
  clock.advance_ns(1000);
  EXPECT_EQ(engine->stats().last_progress_ns, 1000);  // idle
  clock.advance_ns(1000);
  const auto recorder = std::make_shared<Recorder>();
  auto generation = engine->submit(request_of("progress", 5), recorder).value();
  gate.inside.get_future().wait();
  clock.advance_ns(5000);
  const EngineStats stuck = engine->stats();  // work, and no layer ends
  EXPECT_EQ(stuck.last_progress_ns, 2000);
  EXPECT_TRUE(stuck.has_work);
  gate.go_on.set_value();
  ASSERT_TRUE(recorder->wait_done());
  EXPECT_EQ(engine->stats().last_progress_ns, 7000);
}

test::LoadTrial byte_trial() {
  test::LoadTrial trial{.stop_strings = {"ab", "e", "d, ", "aaa"}, .eos_ids = {test::kEos}, .has_think_marks = true};
  for (const char letter : std::string_view("abcdefgh ,.\n\xc3\xa9\xe4\xb8\xad"))
    trial.letters.push_back(static_cast<uint8_t>(letter));
  return trial;
}

struct FakeTrial {
  int64_t cache_blocks = 40;
  bool prefix_cache = true;
  int64_t batch_tokens = 40, max_logits = 16;
  float habit = 0;
  bool has_mtp = false;
  bool forms_agree = false;
  SpeculationOptions speculation;
};

EngineStats run_fake_trial(const test::LoadTrial& trial, const FakeTrial& setting) {
  Tokenizer tokenizer = test::byte_tokenizer();
  SteadyClock clock;
  const FakeModel::Shape shape{.limits = {.max_tokens = 128, .max_logits = setting.max_logits, .max_chunks = 16},
                               .has_mtp = setting.has_mtp,
                               .forms_agree = setting.forms_agree,
                               .habit = setting.habit};
  FakeModel for_alone(shape), for_load(shape);
  const auto alone = Engine::create(for_alone, tokenizer,
                                    {.cache_bytes = 512 * 1024,
                                     .prefix_cache = false,
                                     .speculation = {.mode = Speculation::off},
                                     .eos_ids = {test::kEos}},
                                    clock)
                         .value();
  const auto loaded = Engine::create(for_load, tokenizer,
                                     {.cache_bytes = setting.cache_blocks * 1024,
                                      .max_queue = 10000,
                                      .max_batch_tokens = setting.batch_tokens,
                                      .prefix_cache = setting.prefix_cache,
                                      .speculation = setting.speculation,
                                      .eos_ids = {test::kEos}},
                                     clock)
                          .value();
  test::run_load_trial(trial, *alone, *loaded);
  const EngineStats stats = loaded->stats();
  EXPECT_GT(stats.preemptions, 0u);
  std::printf("%llu of %llu drafted tokens held\n", static_cast<unsigned long long>(stats.accepted_draft_tokens),
              static_cast<unsigned long long>(stats.draft_tokens));
  return stats;
}

TEST(EngineLoad, AThousandRequestsAnswerAsAlone) { run_fake_trial(byte_trial(), {}); }
TEST(EngineLoad, WithoutAPrefixCacheToo) {
  test::LoadTrial trial = byte_trial();
  trial.requests = 300;
  trial.seed = 2;
  run_fake_trial(trial, {.cache_blocks = 30, .prefix_cache = false});
}

// Where answers may serve as the beginnings of prompts, and preempted ones find their own again.
TEST(EngineLoad, AThousandRequestsAnswerAsAloneWithAnswersCached) {
  run_fake_trial(byte_trial(), {.forms_agree = true});
  test::LoadTrial trial = byte_trial();
  trial.requests = 300;
  for (const bool has_mtp : {false, true}) {
    trial.seed = has_mtp ? 3 : 4;
    run_fake_trial(trial, {.max_logits = 48,
                           .habit = 12,
                           .has_mtp = has_mtp,
                           .forms_agree = true,
                           .speculation = {.max_depth = 5, .adaptive = false}});
  }
}

// The model repeats itself, and every step verifies as many drafted tokens as there is room for.
TEST(EngineLoad, AThousandRequestsAnswerAsAloneWithDraftsAlways) {
  const EngineStats stats =
      run_fake_trial(byte_trial(), {.batch_tokens = 100,
                                    .max_logits = 64,
                                    .habit = 12,
                                    .speculation = {.mode = Speculation::ngram, .max_depth = 5, .adaptive = false}});
  EXPECT_GT(stats.accepted_draft_tokens, 100u);
  EXPECT_GT(stats.draft_tokens, stats.accepted_draft_tokens);  // and some were wrong
}

TEST(EngineLoad, AThousandRequestsAnswerAsAloneWithTheModulesDrafts) {
  const EngineStats stats =
      run_fake_trial(byte_trial(), {.batch_tokens = 100,
                                    .max_logits = 64,
                                    .has_mtp = true,
                                    .speculation = {.mode = Speculation::mtp, .max_depth = 3, .adaptive = false}});
  EXPECT_GT(stats.accepted_draft_tokens, 100u);
  EXPECT_GT(stats.draft_tokens, stats.accepted_draft_tokens);
}

TEST(EngineLoad, AtAnyDepthAndWhereTheDepthFollowsTheClock) {
  test::LoadTrial trial = byte_trial();
  trial.requests = 200;
  for (const int64_t depth : {1, 2, 15}) {
    trial.seed = static_cast<uint64_t>(depth);
    run_fake_trial(trial, {.max_logits = 48, .habit = 12, .speculation = {.max_depth = depth, .adaptive = false}});
    run_fake_trial(trial, {.max_logits = 48, .habit = 12, .speculation = {.max_depth = depth}});
    run_fake_trial(trial, {.max_logits = 48, .habit = 6, .has_mtp = true, .speculation = {.max_depth = depth}});
  }
}

TEST(EngineSpeculation, RepetitionIsAnsweredInFewerStepsWithTheSameBits) {
  GenerationRequest request = request_of("habit", 200);
  request.sampling.temperature = 0;
  request.logprobs = true;
  request.top_logprobs = 3;
  Fixture off({.speculation = {.mode = Speculation::off}}, {.habit = 100});
  Fixture on({.speculation = {.max_depth = 7, .adaptive = false}}, {.habit = 100});
  const auto expected = off.run(request), found = on.run(request);
  EXPECT_EQ(found->answer(), expected->answer());
  EXPECT_EQ(off.engine->stats().draft_tokens, 0u);
  const EngineStats stats = on.engine->stats();
  EXPECT_GT(stats.accepted_draft_tokens, 100u);
  EXPECT_EQ(stats.generation_tokens, 200u);
  EXPECT_EQ(stats.steps + stats.accepted_draft_tokens, off.engine->stats().steps);
  EXPECT_EQ(found->usage().accepted_draft_tokens, static_cast<int64_t>(stats.accepted_draft_tokens));
  EXPECT_EQ(found->usage().draft_tokens, static_cast<int64_t>(stats.draft_tokens));
}

TEST(EngineSpeculation, TheModuleDraftsSeveralTokensAheadAtAnyTemperature) {
  for (const double temperature : {0.0, 0.7, 1.3}) {
    GenerationRequest request = request_of("module", 200);
    request.sampling.temperature = temperature;
    Fixture off({.speculation = {.mode = Speculation::off}});
    Fixture on({.speculation = {.mode = Speculation::mtp, .max_depth = 4, .adaptive = false}}, {.has_mtp = true});
    const auto expected = off.run(request), found = on.run(request);
    EXPECT_EQ(found->answer(), expected->answer());
    // Two of three rows of the module are right, so a draft of four gives 0.67 + 0.44 + ... = 1.6 tokens on average.
    const EngineStats stats = on.engine->stats();
    EXPECT_GT(stats.accepted_draft_tokens, 100u);
    EXPECT_EQ(stats.steps + stats.accepted_draft_tokens, off.engine->stats().steps);
  }
}

}  // namespace
}  // namespace redoubt
