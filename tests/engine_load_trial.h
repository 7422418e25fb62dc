// Many random requests at once, each compared to the bit with the same request alone; for any Model.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "engine/recorder.h"
#include "text/grammar.h"

namespace redoubt::test {

struct LoadTrial {
  int requests = 1000;
  uint64_t seed = 1;
  int64_t max_prompt = 160;
  int64_t max_answer = 60;
  int submitters = 3;            // threads
  std::vector<int32_t> letters;  // ids prompts are made of
  std::vector<std::string> stop_strings;
  std::vector<int32_t> eos_ids;
  bool has_think_marks = false;
};

struct TrialRequest {
  GenerationRequest request;
  int64_t cancel_after = 0;  // events; 0: never
  int64_t pause_after = 0;
};

inline std::vector<TrialRequest> make_requests(const LoadTrial& trial) {
  std::mt19937_64 random(trial.seed);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  const auto one_in = [&](int64_t n) { return below(n) == 0; };
  const auto letters = [&](int64_t count) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < count; ++i)
      ids.push_back(trial.letters[static_cast<size_t>(below(static_cast<int64_t>(trial.letters.size())))]);
    return ids;
  };
  std::vector<std::vector<int32_t>> beginnings;
  for (int i = 0; i < 8; ++i) beginnings.push_back(letters(trial.max_prompt * i / 10));
  const std::vector<std::string> choices{"yes", "no", "maybe so"};
  const std::vector<GrammarPtr> grammars{grammar_from_regex("[a-z]{3,12}(,[0-9]{1,4})*").value(),
                                         grammar_from_choice(choices).value(), grammar_for_json_object().value()};

  std::vector<TrialRequest> all;
  for (int i = 0; i < trial.requests; ++i) {
    TrialRequest each;
    GenerationRequest& request = each.request;
    request.id = std::to_string(i);
    request.prompt = beginnings[static_cast<size_t>(below(8))];
    const std::vector<int32_t> tail = letters(1 + below(trial.max_prompt / 5));
    request.prompt.insert(request.prompt.end(), tail.begin(), tail.end());
    request.stop.max_tokens = 1 + below(trial.max_answer);
    request.stop.min_tokens = one_in(5) ? below(request.stop.max_tokens) : 0;
    request.stop.ignore_eos = one_in(4);
    if (one_in(3))
      request.stop.strings.push_back(
          trial.stop_strings[static_cast<size_t>(below(static_cast<int64_t>(trial.stop_strings.size())))]);
    request.stop.include_stop_string = one_in(2);
    if (one_in(6)) request.stop.token_ids = letters(2);
    SamplingParams& sampling = request.sampling;
    sampling.seed = random();
    sampling.temperature = one_in(4) ? 0.0 : 0.3 + 0.1 * static_cast<double>(below(10));
    sampling.top_k = one_in(3) ? static_cast<int>(1 + below(50)) : 0;
    sampling.top_p = one_in(2) ? 0.05 * static_cast<double>(1 + below(19)) : 1.0;
    sampling.min_p = one_in(5) ? 0.01 * static_cast<double>(below(20)) : 0.0;
    sampling.repetition_penalty = one_in(5) ? 1.2 : 1.0;
    sampling.presence_penalty = one_in(5) ? 0.5 : 0.0;
    sampling.frequency_penalty = one_in(5) ? 0.25 : 0.0;
    if (one_in(6)) sampling.logit_bias = {{letters(1)[0], 4.0f}};
    if (one_in(5)) sampling.logit_bias = {{letters(1)[0], 40.0f}, {letters(1)[0], 38.0f}};  // an answer that repeats
    if (one_in(6)) request.grammar = grammars[static_cast<size_t>(below(3))];
    if (trial.has_think_marks && one_in(4)) {
      request.thinking.starts_in_reasoning = one_in(2);
      if (!one_in(3)) request.thinking.budget_tokens = below(20);
    }
    request.n = one_in(6) ? 2 + static_cast<int>(below(2)) : 1;
    request.logprobs = one_in(3);
    request.top_logprobs = one_in(2) ? static_cast<int>(below(6)) : 0;
    request.prompt_logprobs = one_in(12);
    request.tenant = "tenant " + std::to_string(below(2));
    request.cache_salt = one_in(10) ? "salt" : "";
    request.priority = static_cast<int>(below(3));
    if (one_in(8)) each.cancel_after = 1 + below(20);
    if (one_in(8)) each.pause_after = 1 + below(20);
    all.push_back(std::move(each));
  }
  return all;
}

inline std::vector<std::vector<std::pair<int32_t, uint32_t>>> prompt_bits(const GenerationUsage& usage) {
  std::vector<std::vector<std::pair<int32_t, uint32_t>>> bits;
  for (const std::optional<TokenLogprob>& logprob : usage.prompt_logprobs) bits.push_back(logprob_bits(logprob));
  return bits;
}

struct TrialAnswer {
  std::map<int, RecordedAnswer> answers;
  GenerationUsage usage;
};

// One at a time, each on an engine that does nothing else.
inline std::vector<TrialAnswer> answer_alone(Engine& engine, const std::vector<TrialRequest>& requests) {
  std::vector<TrialAnswer> all;
  for (const TrialRequest& each : requests) {
    const auto recorder = std::make_shared<Recorder>();
    auto generation = engine.submit(each.request, recorder);
    if (!generation) ADD_FAILURE() << generation.error().message;
    EXPECT_TRUE(recorder->wait_done());
    all.push_back({recorder->answers(), recorder->usage()});
  }
  return all;
}

struct Submitted {
  std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  std::mutex mutex;
  std::shared_ptr<Generation> generation;

  std::shared_ptr<Generation> handle() {
    const std::lock_guard lock(mutex);
    return generation;
  }
};

// All at once from several threads, with readers that leave and readers that stop reading for a while.
inline std::vector<std::unique_ptr<Submitted>> answer_under_load(Engine& engine, const LoadTrial& trial,
                                                                 const std::vector<TrialRequest>& requests) {
  std::vector<std::unique_ptr<Submitted>> all;
  for (size_t i = 0; i < requests.size(); ++i) all.push_back(std::make_unique<Submitted>());
  std::vector<std::thread> threads;
  for (int t = 0; t < trial.submitters; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(trial.seed + static_cast<uint64_t>(t));
      for (size_t i = static_cast<size_t>(t); i < requests.size(); i += static_cast<size_t>(trial.submitters)) {
        const TrialRequest& each = requests[i];
        Submitted& submitted = *all[i];
        submitted.recorder->on_event = [&each, &submitted](int64_t heard) {
          const std::shared_ptr<Generation> handle = submitted.handle();
          if (handle == nullptr) return;
          if (heard == each.cancel_after) handle->cancel();
          if (heard == each.pause_after) handle->pause();
        };
        auto generation = engine.submit(each.request, submitted.recorder);
        ASSERT_TRUE(generation) << generation.error().message;
        {
          const std::lock_guard lock(submitted.mutex);
          submitted.generation = *generation;
        }
        if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  // The readers that had stopped go on, again and again: a pause may come after any look.
  for (size_t waiting = requests.size(); waiting > 0;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    waiting = 0;
    for (const std::unique_ptr<Submitted>& submitted : all) {
      if (submitted->recorder->dones() > 0) continue;
      ++waiting;
      submitted->handle()->resume();
    }
  }
  return all;
}

inline void expect_same(const TrialRequest& each, const TrialAnswer& alone, Recorder& loaded) {
  EXPECT_EQ(loaded.dones(), 1);
  std::map<int, RecordedAnswer> answers = loaded.answers();
  ASSERT_EQ(answers.size(), alone.answers.size());
  for (const auto& [choice, expected] : alone.answers) {
    const RecordedAnswer& found = answers[choice];
    EXPECT_EQ(found.finishes, 1);
    if (found.finish == FinishReason::abort) {  // what it got to say is the beginning of the same answer
      EXPECT_GT(each.cancel_after, 0);
      const std::vector<int32_t> ids = found.ids(), all = expected.ids();
      ASSERT_LE(ids.size(), all.size());
      EXPECT_TRUE(std::equal(ids.begin(), ids.end(), all.begin()));
      continue;
    }
    EXPECT_TRUE(found == expected) << "choice " << choice << ": '" << found.text() << "' is not '" << expected.text()
                                   << "'";
    if (each.request.prompt_logprobs && each.cancel_after == 0) {
      EXPECT_EQ(prompt_bits(loaded.usage()), prompt_bits(alone.usage));
    }
  }
}

// `alone` and `loaded` are engines over two models with equal weights.
inline void run_load_trial(const LoadTrial& trial, Engine& alone, Engine& loaded) {
  const std::vector<TrialRequest> requests = make_requests(trial);
  const std::vector<TrialAnswer> expected = answer_alone(alone, requests);
  const std::vector<std::unique_ptr<Submitted>> found = answer_under_load(loaded, trial, requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    SCOPED_TRACE("request " + std::to_string(i));
    expect_same(requests[i], expected[i], *found[i]->recorder);
    if (testing::Test::HasFatalFailure()) return;
  }
  const EngineStats stats = loaded.stats();
  EXPECT_EQ(stats.cache_blocks_held, 0);
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_FALSE(stats.has_work);
  std::printf(
      "%d requests: %llu steps, %llu preemptions, %llu of %llu prompt tokens from the prefix cache, %llu aborted\n",
      trial.requests, static_cast<unsigned long long>(stats.steps), static_cast<unsigned long long>(stats.preemptions),
      static_cast<unsigned long long>(stats.prefix_hits), static_cast<unsigned long long>(stats.prefix_queries),
      static_cast<unsigned long long>(stats.finished_abort));
}

}  // namespace redoubt::test
