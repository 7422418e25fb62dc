// Fairness between tenants, in steps counted on the fake model and on a clock that the model moves.
#include "engine/fair_share.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "engine/engine_fixture.h"
#include "engine/step_pace.h"

namespace redoubt {
namespace {

using test::FakeModel;
using test::Fixture;
using test::Recorder;
using test::request_of;

// ---- The arithmetic alone: tenants that always want something.

Share of_many(double weight = 1) { return {.weight = weight, .members = 1000}; }

struct Machine {
  explicit Machine(int64_t step) : step_tokens(step), fair(8 * step) {}
  // One step: everyone in `wants` takes what is left for it. What each got.
  std::vector<int64_t> step(std::vector<Share*> active, const std::vector<int64_t>& wants) {
    std::vector<Share*> order = active;
    for (size_t i = 0; i < active.size(); ++i) active[i]->demand = wants[i];
    fair.advance(active, step_tokens);
    FairShare::order(order, step_tokens);
    int64_t left = step_tokens, reserved = 0;
    for (const Share* share : order) reserved += share->reserved;
    std::vector<int64_t> got(active.size());
    for (Share* share : order) {
      reserved -= share->reserved;
      const auto at = static_cast<size_t>(std::ranges::find(active, share) - active.begin());
      got[at] = std::min(share->demand, left - reserved);
      left -= got[at];
      fair.charge(*share, static_cast<double>(got[at]));
    }
    return got;
  }
  int64_t step_tokens;
  FairShare fair;
};

TEST(FairShare, DividesAFullMachineByWeight) {
  Machine machine(512);
  Share a = of_many(3), b = of_many(1), c = of_many(2);
  std::vector<int64_t> sum(3);
  for (int i = 0; i < 1000; ++i) {
    const std::vector<int64_t> got = machine.step({&a, &b, &c}, {5000, 5000, 5000});
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_GE(got[k], 10);  // nobody's streams stop
      sum[k] += got[k];
    }
  }
  EXPECT_NEAR(static_cast<double>(sum[0]) / 512000, 3.0 / 6, 0.01);
  EXPECT_NEAR(static_cast<double>(sum[1]) / 512000, 1.0 / 6, 0.01);
  EXPECT_NEAR(static_cast<double>(sum[2]) / 512000, 2.0 / 6, 0.01);
}

TEST(FairShare, ANewcomerGoesFirstUntilItHasHadItsBurst) {
  Machine machine(512);
  Share heavy = of_many(), newcomer = of_many();
  for (int i = 0; i < 10000; ++i) machine.step({&heavy}, {5000});
  machine.fair.enter(newcomer);
  int64_t first = 0;
  int steps = 0;
  for (; steps < 100; ++steps) {
    const int64_t got = machine.step({&heavy, &newcomer}, {5000, 5000})[1];
    if (got < 400) break;
    first += got;
  }
  EXPECT_GE(first, 8 * 512 - 512);
  EXPECT_LE(first, 2 * 8 * 512);
  int64_t later = 0;
  for (int i = 0; i < 100; ++i) later += machine.step({&heavy, &newcomer}, {5000, 5000})[1];
  EXPECT_NEAR(static_cast<double>(later) / 51200, 0.5, 0.1);  // then they share
}

// One that always computes a little stays ahead of one that takes all it can, and of a newcomer that does.
TEST(FairShare, WhoTakesLittleStaysAhead) {
  Machine machine(512);
  Share light = of_many(), heavy = of_many();
  for (int i = 0; i < 5000; ++i) {
    machine.step({&light, &heavy}, {i % 20 == 19 ? 400 : 1, 5000});
    if (i > 0) {
      EXPECT_LE(light.mark, heavy.mark) << i;
    }
  }
  Share storm = of_many();
  machine.fair.enter(storm);
  int64_t least = 512;
  for (int i = 1; i < 200; ++i) {
    const bool prompt = i % 20 == 0;
    const std::vector<int64_t> got = machine.step({&light, &heavy, &storm}, {prompt ? 400 : 1, 5000, 5000});
    if (prompt) least = std::min(least, got[0]);
  }
  EXPECT_GE(least, 400);
}

// One sequence beside a crowd may take three quarters of the machine; beside a few, a half like everybody.
TEST(FairShare, AFewBesideACrowdMayTakeMore) {
  struct Case {
    int64_t few, many;
    double share;  // of the few
  };
  for (const auto& [few, many, share] : {Case{1, 100, 0.75}, Case{1, 32, 0.75}, Case{1, 16, 0.6}, Case{1, 8, 0.5},
                                         Case{1, 4, 0.5}, Case{8, 100, 0.56}}) {
    Machine machine(512);
    Share a{.members = few}, b{.members = many};
    int64_t got = 0;
    for (int i = 0; i < 2000; ++i) got += machine.step({&a, &b}, {5000, 5000})[0];
    EXPECT_NEAR(static_cast<double>(got) / (2000 * 512), share, 0.01) << few << " beside " << many;
  }
}

// One prompt after another, without end, takes nothing from a tenant that wants a third, four sequences at a time.
TEST(FairShare, OneSequenceDoesNotStarveAFew) {
  Machine machine(512);
  Share one{.members = 1}, few{.members = 4};
  int64_t waiting = 0, most = 0;
  for (int i = 0; i < 3000; ++i) {
    if (i % 30 == 0) waiting += 30 * 512 / 3;
    std::vector<Share*> active{&one};
    if (waiting > 0) active.push_back(&few);
    const std::vector<int64_t> got = machine.step(active, {5000, waiting});
    if (waiting > 0) waiting -= got[1];
    if (i % 30 == 29) most = std::max(most, waiting);
  }
  EXPECT_EQ(most, 0);
}

// Capacity that nobody else wanted is no debt for ever.
TEST(FairShare, TheLoneUserIsNotPunishedForLong) {
  Machine machine(512);
  Share lone = of_many(), other = of_many();
  for (int i = 0; i < 100000; ++i) machine.step({&lone}, {512});
  machine.fair.enter(other);
  int64_t got_by_lone = 0;
  for (int i = 0; i < 100; ++i) got_by_lone += machine.step({&lone, &other}, {5000, 5000})[0];
  EXPECT_GE(got_by_lone, 100 * 512 / 3);
}

TEST(FairShare, OneThatIsBackAtTheBottomIsForgotten) {
  Machine machine(512);
  Share gone = of_many(), busy = of_many();
  machine.step({&gone, &busy}, {512, 512});
  EXPECT_FALSE(machine.fair.is_forgettable(gone));
  for (int i = 0; i < 100; ++i) machine.step({&busy}, {512});
  EXPECT_TRUE(machine.fair.is_forgettable(gone));
}

// ---- The pace.

TEST(StepPace, FindsTheTokensThatFitTheTime) {
  StepPace pace;
  EXPECT_LE(pace.tokens_within(0.1, 512), 32);
  const auto cost = [](int64_t tokens) { return 0.010 + 0.0005 * static_cast<double>(tokens); };
  for (int i = 0; i < 100; ++i) pace.observe(i % 3 == 0 ? 400 : 20, 0, cost(i % 3 == 0 ? 400 : 20));
  EXPECT_NEAR(static_cast<double>(pace.tokens_within(0.1, 512)), 180, 5);
  EXPECT_EQ(pace.tokens_within(10, 512), 512);
  // A step that took twice as long as it should have: the next are shorter at once.
  pace.observe(180, 0, 0.2);
  EXPECT_LE(cost(pace.tokens_within(0.1, 512)) * 2, 0.11);
}

// Steps of one size say nothing of the slope, whatever their times happened to be: what does not fit gets smaller.
TEST(StepPace, IsNotMisledByStepsOfNearlyOneSize) {
  StepPace pace;
  for (int i = 0; i < 50; ++i)
    pace.observe(32 + i % 3, 0, 0.155 + 0.0001 * (i % 3));  // 4.8 ms a token, or all of it fixed
  EXPECT_LE(pace.tokens_within(0.1, 512), 21);
}

// Prompts and answers by turns, as they come: the rows of the answers cost 0.8 tokens each.
TEST(StepPace, LearnsWhatARowOfLogitsCosts) {
  StepPace pace;
  const auto cost = [](int64_t tokens, int64_t rows) {
    return 0.010 + 0.002 * static_cast<double>(tokens) + 0.0016 * static_cast<double>(rows);
  };
  for (int i = 0; i < 400; ++i) {
    const int64_t work = pace.tokens_within(0.1, 512);
    const bool answers = i % 5 == 0;
    const auto tokens = static_cast<int64_t>(static_cast<double>(work) / (answers ? 1 + pace.row_tokens(work) : 1));
    const double seconds = cost(tokens, answers ? tokens : 0);
    if (i > 200) {
      EXPECT_GE(seconds, 0.085) << i;
      EXPECT_LE(seconds, 0.105) << i;
    }
    pace.observe(tokens, answers ? tokens : 0, seconds);
  }
  EXPECT_NEAR(pace.row_tokens(50), 0.8, 0.15);
}

// One tenant's prompts of one size, then a single token, for which all weights are read: that is no price of its row.
TEST(StepPace, TheFirstAnswerAfterPromptsSaysNothingOfRows) {
  StepPace pace;
  const auto cost = [](int64_t tokens, int64_t rows) {
    return std::max(0.020, 0.0044 + 0.002 * static_cast<double>(tokens) + 0.001 * static_cast<double>(rows));
  };
  for (int i = 0; i < 30; ++i) pace.observe(128, 1, cost(128, 1));
  for (int i = 0; i < 5; ++i) pace.observe(1, 1, cost(1, 1));
  for (int i = 0; i < 40; ++i) {
    const int64_t work = pace.tokens_within(0.1, 512);
    const bool answers = i % 4 == 0;
    const auto tokens = static_cast<int64_t>(static_cast<double>(work) / (answers ? 1 + pace.row_tokens(work) : 1));
    const double seconds = cost(tokens, answers ? tokens : 2);
    if (i >= 8) {
      EXPECT_GE(seconds, 0.075) << i;
      EXPECT_LE(seconds, 0.115) << i;
    }
    pace.observe(tokens, answers ? tokens : 2, seconds);
  }
}

// From one token on, each step larger than the last as long as that is nearly free.
TEST(StepPace, GrowsIntoWhatItHasNotSeen) {
  StepPace pace;
  const auto cost = [](int64_t tokens) { return 0.5 + 0.002 * static_cast<double>(tokens); };
  pace.observe(1, 0, cost(1));
  for (int i = 0; i < 50; ++i) {
    const int64_t tokens = pace.tokens_within(0.1, 512);
    pace.observe(tokens, 0, cost(tokens));
  }
  EXPECT_NEAR(static_cast<double>(pace.tokens_within(0.1, 512)), 252, 10);
}

TEST(StepPace, WhereTheWeightsAloneTakeLongerAStepMayTakeTwiceThat) {
  StepPace pace;
  const auto cost = [](int64_t tokens) { return 0.5 + 0.01 * static_cast<double>(tokens); };
  for (int i = 0; i < 100; ++i) pace.observe(i % 3 == 0 ? 64 : 2, 0, cost(i % 3 == 0 ? 64 : 2));
  EXPECT_NEAR(static_cast<double>(pace.tokens_within(0.1, 512)), 52, 4);
}

// ---- The engine.

struct Load {
  int streams = 100;
  int64_t prompt = 200, answer = 40;
};

// One tenant keeps `many.streams` requests in the engine; another sends `probes` of its own one after the other. All is
// submitted on the engine's thread at the beginning of a step, so that steps can be counted exactly.
struct Trial {
  struct Options {
    int64_t probe_prompt = 300, probe_answer = 20;
    int probes = 20;
    int64_t probe_every = 7;  // steps: the next one comes when their number is a multiple of this
    int64_t cache_blocks = 4000;
    double fixed_ms = 0, token_ms = 0;  // what a step takes on the trial's clock
    int64_t doubling_depth = 0;         // of a token's time; 0: its depth costs nothing
  };

  Trial(const Load& many, const Options& options)
      : load(many),
        setting(options),
        model({.max_position_embeddings = 1024,
               .limits = {.max_tokens = 128, .max_logits = 32, .max_chunks = 32},
               .doubling_depth = options.doubling_depth}) {
    model.on_step = [this](std::span<const SequenceChunk> chunks) { on_step(chunks); };
    engine = Engine::create(model, tokenizer, {.cache_bytes = options.cache_blocks * 1024, .max_queue = 1000}, clock)
                 .value();
    door = engine.get();
    if (load.streams == 0) submit_probe();
    for (int i = 0; i < load.streams; ++i) submit_load();
    all_there.set_value();
    std::unique_lock lock(mutex);
    EXPECT_TRUE(done.wait_for(lock, std::chrono::seconds(20), [&] { return probes_done == setting.probes; }));
    lock.unlock();
    ending = true;
    engine.reset();
  }

  struct Listener final : GenerationListener {
    explicit Listener(Trial& trial, bool is_probe) : trial(trial), is_probe(is_probe) {}
    void on_token(const TokenEvent& event) override {
      if (is_probe && !has_first) trial.first_token(submitted_step, submitted_ns);
      has_first = true;
      if (event.finish == FinishReason::abort) aborted = true;
    }
    void on_done(const GenerationUsage&) override {
      if (!aborted) is_probe ? trial.probe_done() : trial.submit_load();
    }
    Trial& trial;
    bool is_probe, has_first = false, aborted = false;
    int64_t submitted_step = 0, submitted_ns = 0;
  };

  void on_step(std::span<const SequenceChunk> chunks) {
    ready.wait();
    ++steps;
    double tokens = 0;
    for (const SequenceChunk& chunk : chunks) {
      const auto n = static_cast<double>(chunk.tokens.size());
      tokens += n;
      if (setting.doubling_depth > 0)
        tokens += n * (static_cast<double>(chunk.position) + n / 2) / static_cast<double>(setting.doubling_depth);
    }
    const double ms = setting.fixed_ms + setting.token_ms * tokens;
    clock.advance_ns(static_cast<int64_t>(ms * 1e6));
    // Two tenants want something whenever a probe is under way, except in the step that it came during.
    if (probe_under_way && probe_submitted < steps) contended_ms.push_back(ms);
    if (load.streams > 0 && !probe_under_way && steps % setting.probe_every == 0 && steps > 200 &&
        probes_sent < setting.probes)
      submit_probe();
  }
  void submit_load() {
    GenerationRequest request = request_of(std::string(static_cast<size_t>(load.prompt), 'm'), load.answer, seed++);
    request.cache_salt = std::to_string(seed);  // no help from the prefix cache
    request.tenant = "many";
    const bool taken = door->submit(request, std::make_shared<Listener>(*this, false)).has_value();
    EXPECT_TRUE(taken || ending);
  }
  void submit_probe() {
    GenerationRequest request =
        request_of(std::string(static_cast<size_t>(setting.probe_prompt), 'p'), setting.probe_answer, seed++);
    request.cache_salt = std::to_string(seed);
    request.tenant = "one";
    const auto listener = std::make_shared<Listener>(*this, true);
    listener->submitted_step = probe_submitted = steps;
    listener->submitted_ns = clock.now_ns();
    probe_under_way = true;
    ++probes_sent;
    ASSERT_TRUE(door->submit(request, listener));
  }
  void first_token(int64_t submitted_step, int64_t submitted_ns) {
    first_token_steps.push_back(steps - submitted_step);
    first_token_ms.push_back(static_cast<double>(clock.now_ns() - submitted_ns) * 1e-6);
  }
  void probe_done() {
    probe_under_way = false;
    const std::lock_guard lock(mutex);
    ++probes_done;
    if (probes_done == setting.probes) {
      done.notify_one();
    } else if (load.streams == 0) {
      submit_probe();
    }
  }

  template <class T>
  static T p95(std::vector<T> values) {
    std::ranges::sort(values);
    return values[values.size() * 95 / 100];
  }

  Load load;
  Options setting;
  ManualClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  FakeModel model;
  std::unique_ptr<Engine> engine;
  Engine* door = nullptr;            // also while it is being destroyed
  std::atomic<bool> ending = false;  // an engine that ends refuses what comes then
  std::promise<void> all_there;      // nothing is computed before
  std::shared_future<void> ready = all_there.get_future().share();
  int64_t steps = 0, probe_submitted = 0;  // the engine thread's, as all below
  bool probe_under_way = false;
  int probes_sent = 0;
  uint64_t seed = 1;
  std::vector<int64_t> first_token_steps;
  std::vector<double> first_token_ms, contended_ms;
  std::mutex mutex;
  std::condition_variable done;
  int probes_done = 0;
};

TEST(EngineFairness, AHundredStreamsOfOneTenantHardlyDelayAnothersFirstToken) {
  for (const Load load :
       {Load{.prompt = 200, .answer = 40}, Load{.prompt = 600, .answer = 1}, Load{.prompt = 10, .answer = 300}}) {
    for (const int64_t probe_prompt : {10, 300, 900}) {
      SCOPED_TRACE(testing::Message() << load.prompt << "+" << load.answer << ", probe " << probe_prompt);
      Trial alone({.streams = 0}, {.probe_prompt = probe_prompt}), loaded(load, {.probe_prompt = probe_prompt});
      const int64_t before = Trial::p95(alone.first_token_steps), after = Trial::p95(loaded.first_token_steps);
      EXPECT_LE(static_cast<double>(after), 1.5 * static_cast<double>(before) + 1);
      std::printf("first token of a prompt of %lld: %lld steps alone, %lld beside 100 streams\n",
                  static_cast<long long>(probe_prompt), static_cast<long long>(before), static_cast<long long>(after));
    }
  }
}

// One that never pauses takes more than half of the machine for it, and is not made to wait for the others to catch up.
TEST(EngineFairness, NorThatOfOneWhoAsksAgainAtOnce) {
  const Trial::Options steady{.probe_prompt = 900, .probe_answer = 1, .probes = 100, .probe_every = 1};
  Trial alone({.streams = 0}, steady), loaded({}, steady);
  const int64_t before = Trial::p95(alone.first_token_steps), after = Trial::p95(loaded.first_token_steps);
  EXPECT_LE(static_cast<double>(after), 1.5 * static_cast<double>(before) + 1);
}

// The hundred hold all blocks and all places.
TEST(EngineFairness, NorDoTheyWhenTheyHoldTheWholeCache) {
  Trial alone({.streams = 0}, {}), loaded({.prompt = 200, .answer = 200}, {.cache_blocks = 300});
  const int64_t before = Trial::p95(alone.first_token_steps), after = Trial::p95(loaded.first_token_steps);
  EXPECT_LE(static_cast<double>(after), 1.5 * static_cast<double>(before) + 1);
}

TEST(EngineFairness, AStepIsShortWhileAnotherTenantWaits) {
  const Trial::Options timed{.fixed_ms = 10, .token_ms = 2};  // 25 tokens in 60 ms
  Trial alone({.streams = 0}, timed), loaded({}, timed);
  // The first ones teach it what is fixed and what a token takes.
  EXPECT_LE(std::ranges::count_if(loaded.contended_ms, [](double ms) { return ms > 60.5; }), 2);
  EXPECT_LE(*std::ranges::max_element(loaded.contended_ms), 100);
  const double before = Trial::p95(alone.first_token_ms), after = Trial::p95(loaded.first_token_ms);
  EXPECT_LE(after, 1.5 * before + 100);
  std::printf("first token: %.0f ms alone, %.0f ms beside 100 streams\n", before, after);
}

// Prompts whose last tokens cost ten times what their first do.
TEST(EngineFairness, NorIsItLongerWhereTokensAreDeep) {
  const Trial::Options timed{.probe_prompt = 900, .fixed_ms = 10, .token_ms = 0.5, .doubling_depth = 100};
  Trial loaded({.prompt = 900, .answer = 3}, timed);
  EXPECT_LE(std::ranges::count_if(loaded.contended_ms, [](double ms) { return ms > 66; }), 5);
  EXPECT_LE(*std::ranges::max_element(loaded.contended_ms), 100);
}

// Two that always want more, one of them deep: the machine's time is shared, not its tokens.
TEST(EngineFairness, TimeIsSharedNotTokens) {
  constexpr int64_t kDepth = 200;
  FakeModel model({.max_position_embeddings = 4096,
                   .limits = {.max_tokens = 128, .max_logits = 32, .max_chunks = 32},
                   .doubling_depth = kDepth});
  ManualClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  double cost[2] = {0, 0};  // of the shallow one, of the deep one, while both have something
  std::atomic<int> unfinished[2] = {8, 200};
  std::promise<void> submitted;
  std::shared_future<void> ready = submitted.get_future().share();
  model.on_step = [&, ready](std::span<const SequenceChunk> chunks) {
    ready.wait();
    double step[2] = {0, 0};
    for (const SequenceChunk& chunk : chunks) {
      const auto n = static_cast<double>(chunk.tokens.size());
      const bool is_deep = chunk.tokens.back() == 'd';
      step[is_deep ? 1 : 0] += n * (1 + (static_cast<double>(chunk.position) + n / 2) / kDepth);
    }
    clock.advance_ns(static_cast<int64_t>(1e6 * (5 + step[0] + step[1])));
    if (unfinished[0] == 0 || unfinished[1] == 0) return;
    for (int i = 0; i < 2; ++i) cost[i] += step[i];
  };
  auto engine =
      Engine::create(model, tokenizer, {.cache_bytes = 4000 * 1024, .max_queue = 1000, .prefix_cache = false}, clock)
          .value();
  struct Counting final : GenerationListener {
    explicit Counting(std::atomic<int>& left) : left(left) {}
    void on_token(const TokenEvent&) override {}
    void on_done(const GenerationUsage&) override { --left; }
    std::atomic<int>& left;
  };
  const auto submit = [&](const char* tenant, char what, size_t prompt, std::atomic<int>& left) {
    GenerationRequest request = request_of(std::string(prompt, what), 1);
    request.tenant = tenant;
    ASSERT_TRUE(engine->submit(request, std::make_shared<Counting>(left)));
  };
  for (int i = 0; i < 200; ++i) submit("shallow", 's', 60, unfinished[1]);
  for (int i = 0; i < 8; ++i) submit("deep", 'd', 2000, unfinished[0]);
  submitted.set_value();
  while (unfinished[0] > 0 && unfinished[1] > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  engine.reset();
  EXPECT_NEAR(cost[0] / (cost[0] + cost[1]), 0.5, 0.1);
  std::printf("of the time the shallow one had %.0f %%\n", 100 * cost[0] / (cost[0] + cost[1]));
}

// Fewer tokens than streams: all of them still come forward.
TEST(EngineFairness, ShortStepsAreSharedByAllStreams) {
  const Trial::Options timed{.probe_prompt = 10, .probe_answer = 400, .probes = 1, .fixed_ms = 10, .token_ms = 9};
  Trial loaded({.streams = 30, .prompt = 2, .answer = 60}, timed);  // 5 tokens in 60 ms
  EXPECT_GT(loaded.seed, 60u);                                      // all thirty ended, and others after them
}

TEST(EngineFairness, WeightsDivideAFullMachine) {
  FakeModel model({.max_position_embeddings = 1024, .limits = {.max_tokens = 128, .max_logits = 32, .max_chunks = 32}});
  ManualClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  std::map<int32_t, int64_t> computed;  // prompt tokens by tenant, while both still have some
  std::atomic<int64_t> unfinished[2] = {60, 60};
  model.on_step = [&](std::span<const SequenceChunk> chunks) {
    if (unfinished[0] == 0 || unfinished[1] == 0) return;
    for (const SequenceChunk& chunk : chunks)
      if (chunk.form == AttentionForm::prefill)
        computed[chunk.tokens.back()] += static_cast<int64_t>(chunk.tokens.size());
  };
  auto engine =
      Engine::create(model, tokenizer, {.cache_bytes = 4000 * 1024, .max_queue = 1000, .prefix_cache = false}, clock)
          .value();
  struct Counting final : GenerationListener {
    explicit Counting(std::atomic<int64_t>& left) : left(left) {}
    void on_token(const TokenEvent&) override {}
    void on_done(const GenerationUsage&) override { --left; }
    std::atomic<int64_t>& left;
  };
  // The gate: nothing is computed before all is there.
  std::promise<void> submitted;
  std::shared_future<void> ready = submitted.get_future().share();
  auto inner = model.on_step;
  model.on_step = [ready, inner](std::span<const SequenceChunk> chunks) {
    ready.wait();
    inner(chunks);
  };
  for (int i = 0; i < 60; ++i) {
    for (const int tenant : {0, 1}) {
      GenerationRequest request = request_of(std::string(800, tenant == 0 ? 'x' : 'y'), 1);
      request.tenant = tenant == 0 ? "heavy" : "light";
      request.share_weight = tenant == 0 ? 3 : 1;
      ASSERT_TRUE(engine->submit(request, std::make_shared<Counting>(unfinished[tenant])));
    }
  }
  submitted.set_value();
  while (unfinished[0] + unfinished[1] > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_NEAR(static_cast<double>(computed['x']) / static_cast<double>(computed['y']), 3.0, 0.3);
}

}  // namespace
}  // namespace redoubt
