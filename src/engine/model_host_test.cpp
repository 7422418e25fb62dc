#include "engine/model_host.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/recorder.h"
#include "npz.h"
#include "temporary_folder.h"

namespace redoubt {
namespace {

std::filesystem::path models_folder() {
  const std::filesystem::path data = test::test_data();
  return data.empty() ? data : data / "golden/models";
}

class Host : public testing::Test {
 protected:
  void SetUp() override {
    if (models_folder().empty()) GTEST_SKIP() << "no test data: set REDOUBT_TEST_DATA";
    for (const auto& folder : std::filesystem::directory_iterator(models_folder()))
      if (folder.is_directory()) options.models.push_back({folder.path().filename().string(), folder.path()});
    std::ranges::sort(options.models, {}, &ModelEntry::name);
    ASSERT_GE(options.models.size(), 3u);
    first = options.models[0].name;
    second = options.models[1].name;
    options.model.threads = 1;
    options.available_memory_bytes = [this] { return available.load(); };
  }
  std::unique_ptr<ModelHost> make() { return ModelHost::create(options, clock).value(); }

  ManualClock clock;
  ModelHostOptions options;
  std::string first, second;
  std::atomic<int64_t> available{int64_t{2} << 30};
};

TEST_F(Host, LoadsOnDemandAndOnce) {
  const auto host = make();
  EXPECT_TRUE(host->loaded().empty());
  std::vector<std::shared_ptr<LoadedModel>> held(4);
  std::vector<std::thread> threads;
  for (auto& model : held) threads.emplace_back([&] { model = host->acquire(second).value(); });
  for (std::thread& thread : threads) thread.join();
  for (const auto& model : held) EXPECT_EQ(model, held[0]);
  EXPECT_EQ(host->loaded().size(), 1u);
  EXPECT_EQ(held[0]->name, second);
  EXPECT_EQ(host->acquire("").value()->name, first);  // the default
  EXPECT_EQ(host->loaded().size(), 2u);

  const auto unknown = host->acquire("nobody");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
  EXPECT_EQ(unknown.error().param, "model");
}

// Three tokens in, five out.
void answer_once(LoadedModel& model) {
  GenerationRequest request;
  request.prompt = {5, 6, 7};
  request.stop.max_tokens = 5;
  request.stop.ignore_eos = true;
  const auto recorder = std::make_shared<test::Recorder>();
  ASSERT_TRUE(model.engine->submit(request, recorder));
  ASSERT_TRUE(recorder->wait_done());
  EXPECT_EQ(recorder->answer().ids().size(), 5u);
}

TEST_F(Host, ALoadedModelAnswers) {
  const auto model = make()->acquire("").value();
  EXPECT_FALSE(model->stop_ids.empty());
  answer_once(*model);
}

TEST_F(Host, UnloadsWhatIsIdleAndNeverWhatIsHeld) {
  options.unload_idle_s = 60;
  const auto host = make();
  auto held = host->acquire(first).value();
  host->acquire(second).value();
  clock.advance_ns(61'000'000'000);
  host->unload_idle();
  ASSERT_EQ(host->loaded().size(), 1u);
  EXPECT_EQ(host->loaded()[0]->name, first);
  held.reset();
  host->unload_idle();  // it was in use until just now
  EXPECT_EQ(host->loaded().size(), 1u);
  clock.advance_ns(61'000'000'000);
  host->unload_idle();
  EXPECT_TRUE(host->loaded().empty());
}

// A time of its own holds until the model is unloaded, and over the server's.
TEST_F(Host, AModelStaysAsLongAsItWasTold) {
  options.unload_idle_s = 60;
  const auto host = make();
  const auto pass = [&](int64_t seconds) {
    clock.advance_ns(seconds * 1'000'000'000);
    host->unload_idle();
    return host->loaded().size();
  };
  EXPECT_EQ(host->unloads_in_s(first), std::nullopt);  // not loaded
  host->set_stay(first, {.idle_s = 5});                // nothing
  ASSERT_TRUE(host->acquire(first));
  EXPECT_EQ(host->unloads_in_s(first), 60);
  host->set_stay(first, {.idle_s = 300});
  EXPECT_EQ(pass(61), 1u);
  EXPECT_EQ(host->unloads_in_s(first), 239);
  host->set_stay(first, {});  // for ever
  EXPECT_EQ(host->unloads_in_s(first), std::nullopt);
  EXPECT_EQ(pass(100'000'000), 1u);

  auto held = host->acquire(first).value();
  host->set_stay(first, {.idle_s = 0});
  EXPECT_EQ(pass(10), 1u);  // an answer is under way
  EXPECT_EQ(host->unloads_in_s(first), 0);
  held.reset();
  EXPECT_EQ(pass(0), 0u);
  ASSERT_TRUE(host->acquire(first));
  EXPECT_EQ(host->unloads_in_s(first), 60);  // the server's again
}

// A pin is no claim on memory that another model needs.
TEST_F(Host, APinnedModelMakesRoomAllTheSame) {
  options.max_loaded = 1;
  const auto host = make();
  ASSERT_TRUE(host->acquire(first));
  host->set_stay(first, {});
  EXPECT_TRUE(host->acquire(second));
  EXPECT_EQ(host->loaded().size(), 1u);
}

TEST_F(Host, TellsOfModelsThatAreNotLoaded) {
  options.models.push_back({"broken", "/nonexistent/model"});
  const auto host = make();
  for (const ModelEntry& entry : host->entries()) {
    const auto facts = host->facts(entry.name);
    if (entry.name == "broken") {
      EXPECT_FALSE(facts);
      continue;
    }
    ASSERT_TRUE(facts) << entry.name;
    EXPECT_TRUE(host->loaded().empty());
    EXPECT_GT(facts->weights_bytes, 0);
    EXPECT_GT(facts->modified_unix, 0);
  }
  EXPECT_FALSE(host->facts("nobody"));
  const auto before = host->facts(second);
  const auto model = host->acquire(second).value();
  EXPECT_EQ(before->context_tokens, model->checkpoint.config().max_position_embeddings);
  EXPECT_EQ(before->weights_bytes, model->checkpoint.weights_bytes());
  EXPECT_EQ(before->model_type, model->checkpoint.config().model_type);

  options.engine.max_context = 7;
  EXPECT_EQ(make()->facts(first)->context_tokens, 7);
}

// Files that were not there are found once they are, a minute later.
TEST(KnownModelFacts, WhatCouldNotBeReadIsTriedAgain) {
  if (models_folder().empty()) GTEST_SKIP() << "no test data: set REDOUBT_TEST_DATA";
  std::filesystem::path whole;
  for (const auto& folder : std::filesystem::directory_iterator(models_folder()))
    if (folder.is_directory()) whole = folder.path();
  const test::TemporaryFolder folder;
  const std::filesystem::path model = folder.path() / "model";
  KnownModelFacts known;
  EXPECT_FALSE(known.find(model, 0));
  std::filesystem::copy(whole, model, std::filesystem::copy_options::recursive);
  EXPECT_FALSE(known.find(model, 59'000'000'000));
  EXPECT_TRUE(known.find(model, 61'000'000'000));
  std::filesystem::remove_all(model);
  EXPECT_TRUE(known.find(model, 200'000'000'000));  // read once
}

TEST_F(Host, KeepsTheCountsOfWhatIsUnloaded) {
  options.max_loaded = 1;
  options.engine.speculation.mode = Speculation::off;  // drafted tokens would be in the steps too
  const auto host = make();
  answer_once(*host->acquire(first).value());
  EXPECT_EQ(host->retired(first).prompt_tokens, 0u);  // it is loaded, and says so itself
  for (uint64_t times = 1; times <= 2; ++times) {
    ASSERT_TRUE(host->acquire(second));  // unloads the first
    const EngineStats gone = host->retired(first);
    EXPECT_EQ(gone.prompt_tokens, 3 * times);
    EXPECT_EQ(gone.generation_tokens, 5 * times);
    EXPECT_EQ(gone.step_tokens, 7 * times);  // the last token is never computed
    uint64_t steps = 0;
    for (const uint64_t count : gone.steps_of_size) steps += count;
    EXPECT_EQ(steps, gone.steps);
    EXPECT_EQ(gone.running, 0);
    if (times < 2) answer_once(*host->acquire(first).value());
  }
}

TEST_F(Host, MakesRoomFromTheLeastRecentlyUsed) {
  options.max_loaded = 1;
  const auto host = make();
  auto held = host->acquire(first).value();
  const auto refused = host->acquire(second);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  held.reset();
  EXPECT_TRUE(host->acquire(second));
  ASSERT_EQ(host->loaded().size(), 1u);
  EXPECT_EQ(host->loaded()[0]->name, second);
}

TEST_F(Host, RefusesWeightsLargerThanTheMemoryWithARemedy) {
  available = 10'000'000;
  const auto refused = make()->acquire(first);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::io);
  EXPECT_NE(refused.error().message.find("10 MB"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("quantize"), std::string::npos);
}

TEST_F(Host, SaysWhyALoadFailedEachTime) {
  options.models = {{"absent", "/nonexistent/model"}};
  const auto host = make();
  for (int i = 0; i < 2; ++i) {
    const auto failed = host->acquire("");
    ASSERT_FALSE(failed);
    EXPECT_NE(failed.error().message.find("absent"), std::string::npos) << failed.error().message;
  }
}

TEST_F(Host, DrainsEveryEngineAndLoadsNoMore) {
  const auto host = make();
  const auto model = host->acquire(first).value();
  host->drain();
  GenerationRequest request;
  request.prompt = {5};
  const auto refused = model->engine->submit(request, std::make_shared<test::Recorder>());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::overloaded);
  EXPECT_FALSE(host->acquire(second));
}

// The host's own thread stands in a load until the test lets it go on.
class HeldLoad : public Host {
 protected:
  void SetUp() override {
    Host::SetUp();
    options.available_memory_bytes = [this] {
      std::unique_lock lock(mutex_);
      ++asked_;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !held_; });
      return available.load();
    };
  }
  void hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
    asked_ = 0;
  }
  void let_go() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  void wait_until_it_loads() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return asked_ > 0; });
  }
  // What it is told comes to the end of `told`.
  std::shared_ptr<ModelWait> wait_for(ModelHost& host, const std::string& name) {
    auto wait = std::make_shared<ModelWait>([this](ModelWait::Loaded loaded) {
      const std::lock_guard lock(mutex_);
      told_.push_back(std::move(loaded));
      changed_.notify_all();
    });
    host.when_loaded(name, wait);
    return wait;
  }
  std::vector<ModelWait::Loaded> told(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(30), [&] { return told_.size() >= count; });
    return std::exchange(told_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  int asked_ = 0;
  std::vector<ModelWait::Loaded> told_;
};

TEST_F(HeldLoad, WhoeverWaitsIsToldAndNobodyElseIsHeldUp) {
  const auto host = make();
  ASSERT_TRUE(host->acquire(first));
  hold();
  EXPECT_EQ(host->find_loaded(second).value(), nullptr);
  EXPECT_EQ(host->find_loaded("nobody").error().code, ErrorCode::not_found);
  std::vector<std::shared_ptr<ModelWait>> waits(8);
  for (auto& wait : waits) wait = wait_for(*host, second);
  wait_until_it_loads();
  EXPECT_TRUE(host->is_loading());
  waits[3]->leave();
  answer_once(*host->find_loaded(first).value());
  wait_for(*host, first);  // is loaded: told at once
  ASSERT_EQ(told(1).size(), 1u);
  let_go();
  const auto all = told(7);
  ASSERT_EQ(all.size(), 7u);
  for (const auto& loaded : all) EXPECT_EQ(loaded.value()->name, second);
  EXPECT_FALSE(host->is_loading());
  EXPECT_EQ(host->find_loaded(second).value(), all.front().value());
}

TEST_F(HeldLoad, AFailedLoadIsToldToEachAndTheNextOneIsTried) {
  const auto host = make();
  hold();
  for (int i = 0; i < 3; ++i) wait_for(*host, first);
  wait_until_it_loads();
  available = 10'000'000;
  let_go();
  const auto all = told(3);
  ASSERT_EQ(all.size(), 3u);
  for (const auto& loaded : all) EXPECT_EQ(loaded.error().code, ErrorCode::io);
  available = int64_t{2} << 30;
  EXPECT_TRUE(host->acquire(first));
}

TEST_F(HeldLoad, DrainingEndsThoseWhoWaitAtOnce) {
  const auto host = make();
  hold();
  for (const std::string& name : {first, first, second}) wait_for(*host, name);
  wait_until_it_loads();
  host->drain();
  const auto all = told(3);
  ASSERT_EQ(all.size(), 3u);
  for (const auto& loaded : all) EXPECT_EQ(loaded.error().code, ErrorCode::overloaded);
  wait_for(*host, second);
  EXPECT_EQ(told(1).at(0).error().code, ErrorCode::overloaded);
  let_go();
}

TEST_F(HeldLoad, AsManyWaitAsTheQueueHolds) {
  options.engine.max_queue = 2;
  const auto host = make();
  hold();
  const auto leaving = wait_for(*host, first);
  wait_for(*host, first);
  wait_for(*host, first);  // is one too many
  const auto refused = told(1);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].error().code, ErrorCode::overloaded);
  EXPECT_NE(refused[0].error().message.find("queue is full"), std::string::npos) << refused[0].error().message;
  EXPECT_EQ(host->num_waiting(first), 2);
  leaving->leave();
  EXPECT_EQ(host->num_waiting(first), 1);
  wait_for(*host, first);  // takes the place
  let_go();
  EXPECT_EQ(told(2).size(), 2u);
  EXPECT_EQ(host->num_waiting(first), 0);
}

TEST_F(HeldLoad, WhatNobodyWaitsForAnyMoreIsNotLoaded) {
  const auto host = make();
  hold();
  wait_for(*host, first);
  wait_until_it_loads();
  wait_for(*host, second)->leave();
  let_go();
  EXPECT_EQ(told(1).size(), 1u);
  const std::string third = options.models[2].name;
  EXPECT_TRUE(host->acquire(third));  // comes after both
  ASSERT_EQ(host->loaded().size(), 2u);
  for (const auto& model : host->loaded()) EXPECT_NE(model->name, second);
}

TEST(ModelHost, RefusesNoModelsAndDoubleNames) {
  SteadyClock clock;
  EXPECT_FALSE(ModelHost::create({}, clock));
  EXPECT_FALSE(ModelHost::create({.models = {{"a", "/x"}, {"a", "/y"}}}, clock));
}

}  // namespace
}  // namespace redoubt
