// A lone tenant's long step that is given up since another tenant came: who came does not wait, no bit changes, and
// what is lost is bounded. On the fake model, and on a clock that its layers move.
#include <gtest/gtest.h>

#include <random>

#include "engine/engine_fixture.h"

namespace redoubt {
namespace {

using test::FakeModel;
using test::Recorder;
using test::request_of;

constexpr FakeModel::Shape kShape{
    .max_position_embeddings = 1024, .limits = {.max_tokens = 128, .max_logits = 32, .max_chunks = 32}, .layers = 10};

// 10 ms and 2 ms a token, in equal parts for each layer. `in_layer` is told where the clock stands then.
struct Timed {
  explicit Timed(const FakeModel::Shape& shape, EngineOptions options = {}) : model(shape) {
    model.on_step = [this](std::span<const SequenceChunk>) {
      ready.wait();
      ++steps;
      layer = 0;
    };
    model.on_layer = [this](std::span<const SequenceChunk> chunks) {
      int64_t tokens = 0;
      for (const SequenceChunk& chunk : chunks) tokens += static_cast<int64_t>(chunk.tokens.size());
      clock.advance_ns((10 + 2 * tokens) * 1'000'000 / model_layers);
      ++layer;
      if (in_layer) in_layer(tokens);
    };
    model_layers = shape.layers;
    options.cache_bytes = options.cache_bytes == 0 ? 4000 * 1024 : options.cache_bytes;
    options.max_queue = 1000;
    engine = Engine::create(model, tokenizer, options, clock).value();
  }
  std::shared_ptr<Recorder> submit(GenerationRequest request, const std::string& tenant) {
    request.tenant = tenant;
    const auto recorder = std::make_shared<Recorder>();
    EXPECT_TRUE(engine->submit(std::move(request), recorder));
    return recorder;
  }
  double ms() const { return static_cast<double>(clock.now_ns()) * 1e-6; }

  ManualClock clock;
  Tokenizer tokenizer = test::byte_tokenizer();
  FakeModel model;
  int64_t model_layers = 0;
  std::promise<void> all_there;  // nothing is computed before
  std::shared_future<void> ready = all_there.get_future().share();
  int64_t steps = 0, layer = 0;
  std::function<void(int64_t tokens)> in_layer;  // on the engine thread
  std::unique_ptr<Engine> engine;
};

TEST(GivenUpStep, WhoComesDuringALongStepDoesNotWaitForItsEnd) {
  for (const int64_t late : {2, 9}) {  // the layer of ten after which it comes
    Timed timed(kShape);
    double came = 0, first = 0;
    std::shared_ptr<Recorder> other;
    timed.in_layer = [&](int64_t tokens) {
      if (tokens < 128 || timed.layer != late || timed.steps < 20 || other != nullptr) return;
      came = timed.ms();
      other = std::make_shared<Recorder>();
      other->on_event = [&](int64_t heard) { first = heard == 1 ? timed.ms() : first; };
      GenerationRequest request = request_of("who comes", 3);
      request.tenant = "other";
      ASSERT_TRUE(timed.engine->submit(request, other));
    };
    std::vector<std::shared_ptr<Recorder>> crowd;
    for (uint64_t i = 0; i < 40; ++i)
      crowd.push_back(timed.submit(request_of(std::string(500, static_cast<char>('A' + i)), 2, i), "crowd"));
    timed.all_there.set_value();
    for (const auto& recorder : crowd) ASSERT_TRUE(recorder->wait_done());
    ASSERT_TRUE(other != nullptr && other->wait_done());
    // Of 266 ms there were 213 or 27 left; its own step takes about 100.
    EXPECT_LE(first - came, late == 2 ? 110 : 137);
    EXPECT_EQ(timed.engine->stats().given_up_tokens, late == 2 ? 128u : 0u);
  }
}

// The tenant's own requests end nothing.
TEST(GivenUpStep, ATenantsOwnRequestsEndNone) {
  Timed timed(kShape);
  std::vector<std::shared_ptr<Recorder>> more;
  timed.in_layer = [&](int64_t) {
    if (timed.layer == 1 && more.size() < 30) more.push_back(timed.submit(request_of("more", 3), "crowd"));
  };
  const auto first = timed.submit(request_of(std::string(900, 'f'), 100), "crowd");
  timed.all_there.set_value();
  ASSERT_TRUE(first->wait_done());
  EXPECT_EQ(timed.engine->stats().given_up_tokens, 0u);
  timed.engine.reset();  // no more of them comes
  EXPECT_EQ(more.size(), 30u);
}

TEST(GivenUpStep, WhatIsLostIsAFifthAtMost) {
  Timed timed(kShape);
  std::mt19937_64 random(1);
  std::vector<std::shared_ptr<Recorder>> others;
  uint64_t lost_ms = 0;
  double next = 500;
  uint64_t seen = 0;
  double step_began = 0;
  timed.in_layer = [&](int64_t) {
    const uint64_t given_up = timed.engine->stats().given_up_tokens;
    if (timed.layer == 1) {
      if (given_up != seen) lost_ms += static_cast<uint64_t>(timed.ms() - step_began);
      seen = given_up;
      step_began = timed.ms();
    }
    if (timed.ms() < next || others.size() >= 300) return;
    next = timed.ms() + static_cast<double>(random() % 3000);
    others.push_back(timed.submit(request_of("one", 1, others.size()), "tenant " + std::to_string(others.size() % 50)));
  };
  std::vector<std::shared_ptr<Recorder>> crowd;
  for (uint64_t i = 0; i < 200; ++i)
    crowd.push_back(timed.submit(request_of(std::string(900, static_cast<char>('A' + i % 50)), 20, i), "crowd"));
  timed.all_there.set_value();
  for (const auto& recorder : crowd) ASSERT_TRUE(recorder->wait_done());
  EXPECT_GE(timed.engine->stats().given_up_tokens, 20 * 128u);  // it did happen
  EXPECT_LE(static_cast<double>(lost_ms), 0.2 * timed.ms());
  for (const auto& recorder : others) EXPECT_TRUE(recorder->wait_done());
}

// Tenants take turns with four prompts, and another one comes in the middle of a step, with drafts of both kinds and in
// a cache that is too small for all: against each request alone.
TEST(GivenUpStep, NoBitChanges) {
  FakeModel::Shape shape = kShape;
  shape.has_mtp = true;
  shape.habit = 6;
  const EngineOptions options{.cache_bytes = 70 * 1024, .contended_step_seconds = 0.02};
  std::mt19937_64 random(7);
  const auto some_request = [&](int turn) {
    GenerationRequest request =
        request_of(std::string(200 + random() % 200, static_cast<char>('a' + random() % 3)), 20, random());
    request.cache_salt = std::to_string(random());  // nothing is found in the prefix cache
    request.tenant = std::string(1, static_cast<char>('A' + turn % 3));
    request.sampling.temperature = random() % 2 == 0 ? 0.0 : 0.8;
    return request;
  };
  const auto alone = [&](const GenerationRequest& request) {
    Timed timed(shape, options);
    timed.all_there.set_value();
    const auto recorder = timed.submit(request, request.tenant);
    EXPECT_TRUE(recorder->wait_done());
    return recorder->answer();
  };
  Timed timed(shape, options);
  timed.all_there.set_value();
  for (int turn = 0; turn < 40; ++turn) {
    std::vector<GenerationRequest> requests;
    for (int i = 0; i < 5; ++i) requests.push_back(some_request(i < 4 ? turn : turn + 1));
    std::vector<std::shared_ptr<Recorder>> recorders(5);
    std::promise<void> came;
    const auto layer = static_cast<int64_t>(1 + random() % 7);
    const double begin = timed.ms();
    timed.in_layer = [&](int64_t tokens) {
      if (recorders[4] != nullptr || timed.layer != layer || tokens < 20 || timed.ms() < begin + 1100) return;
      recorders[4] = timed.submit(requests[4], requests[4].tenant);
      came.set_value();
    };
    for (size_t i = 0; i < 4; ++i) recorders[i] = timed.submit(requests[i], requests[i].tenant);
    came.get_future().wait();
    for (size_t i = 0; i < 5; ++i) {
      ASSERT_TRUE(recorders[i]->wait_done());
      EXPECT_EQ(recorders[i]->answer(), alone(requests[i])) << turn << " " << i;
    }
  }
  const EngineStats stats = timed.engine->stats();
  EXPECT_GE(stats.given_up_tokens, 1000u);
  EXPECT_GE(stats.accepted_draft_tokens, 100u);
  EXPECT_EQ(stats.cache_blocks_held, 0);
}

}  // namespace
}  // namespace redoubt
