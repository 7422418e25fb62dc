// For tests: an engine over the fake model, and a gate that holds its thread.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <string_view>

#include "engine/byte_vocabulary.h"
#include "engine/engine.h"
#include "engine/fake_model.h"
#include "engine/recorder.h"

namespace redoubt::test {

inline std::vector<int32_t> ids_of(std::string_view text) { return {text.begin(), text.end()}; }

// An engine over a fake model. `gate`, when armed, holds the engine thread at the beginning of a step.
struct Fixture {
  explicit Fixture(EngineOptions options = {}, FakeModel::Shape shape = {}) : model(shape) {
    if (options.cache_bytes == 0) options.cache_bytes = 64 * model.cache_block_bytes();
    if (options.eos_ids.empty()) options.eos_ids = {kEos};
    engine = Engine::create(model, tokenizer, options, clock).value();
  }
  std::shared_ptr<Recorder> run(GenerationRequest request) {
    const auto recorder = std::make_shared<Recorder>();
    auto generation = engine->submit(std::move(request), recorder);
    EXPECT_TRUE(generation) << generation.error().message;
    if (generation) {
      EXPECT_TRUE(recorder->wait_done());
    }
    return recorder;
  }
  Error error_of(GenerationRequest request) {
    auto generation = engine->submit(std::move(request), std::make_shared<Recorder>());
    return generation ? Error{ErrorCode::internal, "accepted", {}} : generation.error();
  }
  SteadyClock clock;
  Tokenizer tokenizer = byte_tokenizer();
  FakeModel model;
  std::unique_ptr<Engine> engine;
};

inline GenerationRequest request_of(std::string_view prompt, int64_t max_tokens, uint64_t seed = 1) {
  GenerationRequest request;
  request.prompt = ids_of(prompt);
  request.stop.max_tokens = max_tokens;
  request.stop.ignore_eos = true;
  request.sampling.seed = seed;
  return request;
}

// Holds the engine thread inside its next step until released.
struct Gate {
  explicit Gate(FakeModel& model) {
    model.on_step = [this](std::span<const SequenceChunk> chunks) {
      if (!armed.exchange(false)) return;
      num_chunks = chunks.size();
      inside.set_value();
      go_on.get_future().wait();
    };
  }
  std::atomic<bool> armed{false};
  std::atomic<size_t> num_chunks{0};
  std::promise<void> inside, go_on;
};

}  // namespace redoubt::test
