#include "engine/thinking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "engine/engine_fixture.h"
#include "text/grammar.h"

namespace redoubt {
namespace {

using test::Fixture;
using test::kEndThink;
using test::kThink;
using test::request_of;

// What an answer's tokens say of its thinking, told from the marks alone.
struct Read {
  int64_t reasoning = 0;  // tokens inside a block
  int64_t reopened = 0;   // marks that open, outside the block and behind the first token
};
Read read(const std::vector<int32_t>& ids, bool inside) {
  Read found;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (inside && ids[i] == kEndThink) {
      inside = false;
    } else if (!inside && ids[i] == kThink) {
      if (i == 0)
        inside = true;
      else
        ++found.reopened;
    } else if (inside) {
      ++found.reasoning;
    }
  }
  return found;
}

// One that would open the block again and again, now and then with its first token.
GenerationRequest eager(uint64_t seed) {
  GenerationRequest request = request_of("think", 60, seed);
  request.sampling.logit_bias = {{kThink, 8.0f}, {kEndThink, 3.0f}};
  return request;
}

TEST(Thinking, ALimitedAnswerOpensNoSecondBlock) {
  Fixture fixture;
  int64_t thought = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    for (const int64_t budget : {0, 1, 5, 1000}) {
      SCOPED_TRACE(budget);
      GenerationRequest request = eager(seed);
      request.thinking = {.starts_in_reasoning = seed % 2 == 0, .budget_tokens = budget};
      const auto recorder = fixture.run(request);
      const Read found = read(recorder->answer().ids(), request.thinking.starts_in_reasoning);
      EXPECT_EQ(found.reopened, 0);
      EXPECT_EQ(recorder->usage().reasoning_tokens, found.reasoning);
      EXPECT_LE(found.reasoning, budget);
      EXPECT_EQ(recorder->answer().ids().size(), 60u);
      thought += found.reasoning;
    }
  }
  EXPECT_GT(thought, 100);
}

// A day's quota has no budget: what is inside the block is counted against its grant.
TEST(Thinking, NeitherDoesOneThatIsLimitedByAGrantAlone) {
  Fixture fixture;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(seed);
    GenerationRequest request = eager(seed);
    request.thinking.starts_in_reasoning = seed % 2 == 0;
    request.allowance = std::make_shared<Allowance>(Allowance::Tokens{.thinking = 30});
    request.allowance->close("thinking_tokens_per_day of user u");
    const auto recorder = fixture.run(request);
    const Read found = read(recorder->answer().ids(), request.thinking.starts_in_reasoning);
    EXPECT_EQ(found.reopened, 0);
    EXPECT_EQ(recorder->usage().reasoning_tokens, found.reasoning);
    EXPECT_LE(found.reasoning, 30);
  }
}

// Behind the block the token is text like another, with a limit of tokens too.
TEST(Thinking, WithoutALimitOfThinkingTheMarkIsTextBehindTheBlock) {
  Fixture fixture;
  int64_t reopened = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    GenerationRequest request = eager(seed);
    request.thinking.starts_in_reasoning = seed % 2 == 0;
    const auto free = fixture.run(request);
    const Read found = read(free->answer().ids(), request.thinking.starts_in_reasoning);
    reopened += found.reopened;
    EXPECT_EQ(free->usage().reasoning_tokens, found.reasoning);
    request.allowance = std::make_shared<Allowance>(Allowance::Tokens{.answer = 1000});
    EXPECT_EQ(fixture.run(request)->answer(), free->answer());
  }
  EXPECT_GT(reopened, 20);
}

// Who has to write of the tag can: in characters.
TEST(Thinking, ALimitedAnswerCanSpellTheMark) {
  Fixture fixture;
  GenerationRequest request = request_of("quote", 60);
  const std::string said = "say <think> first, then </think>.";
  request.grammar = grammar_from_choice(std::vector<std::string>{said}).value();
  request.stop.ignore_eos = false;
  request.thinking.budget_tokens = 0;
  request.sampling.logit_bias = {{kThink, -100.0f}};  // no empty block before it
  const auto recorder = fixture.run(request);
  EXPECT_EQ(recorder->answer().text(), said);
  EXPECT_EQ(recorder->usage().reasoning_tokens, 0);
}

// Drafts of the forbidden token are drafts that do not hold, whoever else is under way.
TEST(Thinking, NoDraftAndNoNeighbourChangesThat) {
  Fixture alone({.prefix_cache = false, .speculation = {.mode = Speculation::off}}, {.has_mtp = true, .habit = 12});
  for (const Speculation mode : {Speculation::ngram, Speculation::mtp}) {
    Fixture loaded({.speculation = {.mode = mode, .max_depth = 5, .adaptive = false}}, {.has_mtp = true, .habit = 12});
    std::vector<GenerationRequest> requests;
    std::vector<std::shared_ptr<test::Recorder>> recorders;
    std::vector<std::shared_ptr<Generation>> generations;
    for (uint64_t seed = 0; seed < 24; ++seed) {
      GenerationRequest request = eager(seed);
      request.prompt.insert(request.prompt.end(), {kThink, 'a', kEndThink, 'b', kThink, 'a', kEndThink, 'b'});
      request.thinking.starts_in_reasoning = seed % 3 == 0;
      if (seed % 4 != 0) request.thinking.budget_tokens = static_cast<int64_t>(seed % 4) * 3;
      requests.push_back(request);
    }
    for (const GenerationRequest& request : requests) {
      recorders.push_back(std::make_shared<test::Recorder>());
      generations.push_back(loaded.engine->submit(request, recorders.back()).value());
    }
    int64_t drafted = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_TRUE(recorders[i]->wait_done());
      drafted += recorders[i]->usage().draft_tokens;
      const auto same = alone.run(requests[i]);
      EXPECT_EQ(recorders[i]->answer(), same->answer()) << i;
      EXPECT_EQ(recorders[i]->usage().reasoning_tokens, same->usage().reasoning_tokens) << i;
      if (!requests[i].thinking.budget_tokens.has_value()) continue;
      EXPECT_EQ(read(same->answer().ids(), requests[i].thinking.starts_in_reasoning).reopened, 0) << i;
    }
    EXPECT_GT(drafted, 100);
  }
}

}  // namespace
}  // namespace redoubt
