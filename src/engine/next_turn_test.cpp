// A conversation's next turn: what of the last answer is computed again.
#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace redoubt {
namespace {

using test::Fixture;
using test::request_of;

// Rows of drafted tokens, right or wrong, never become part of the prefix cache.
TEST(NextTurn, ComputesTheAnswerAsPrompt) {
  Fixture on({.speculation = {.max_depth = 7, .adaptive = false}}, {.habit = 9});
  Fixture off({.prefix_cache = false, .speculation = {.mode = Speculation::off}}, {.habit = 9});
  GenerationRequest turn = request_of(std::string(20, 'p'), 60);
  int64_t computed_as_prompt = 0;
  for (int i = 0; i < 3; ++i) {
    const auto found = on.run(turn);
    EXPECT_EQ(found->answer(), off.run(turn)->answer());
    EXPECT_EQ(found->usage().cached_tokens, computed_as_prompt / 16 * 16);
    computed_as_prompt = static_cast<int64_t>(turn.prompt.size());
    const std::vector<int32_t> answer = found->answer().ids();
    turn.prompt.insert(turn.prompt.end(), answer.begin(), answer.end());
    turn.prompt.push_back('.');
  }
}

// Where a token has the same bits however it was computed.
TEST(NextTurn, FindsTheAnswerInTheCacheWhereTheFormsAgree) {
  Fixture on({.speculation = {.max_depth = 7, .adaptive = false}}, {.forms_agree = true, .habit = 9});
  Fixture plain({.speculation = {.mode = Speculation::off}}, {.forms_agree = true, .habit = 9});
  Fixture off({.prefix_cache = false, .speculation = {.mode = Speculation::off}}, {.forms_agree = true, .habit = 9});
  GenerationRequest turn = request_of(std::string(20, 'p'), 60);
  int64_t computed = 0;  // all but the answer's last token, which no step has seen
  for (int i = 0; i < 3; ++i) {
    const auto expected = off.run(turn), drafted = on.run(turn), found = plain.run(turn);
    EXPECT_EQ(found->answer(), expected->answer());
    EXPECT_EQ(drafted->answer(), expected->answer());
    EXPECT_EQ(found->usage().cached_tokens, computed / 16 * 16);
    EXPECT_GE(drafted->usage().cached_tokens, (computed - 7) / 16 * 16);  // the last step's drafts are not kept
    const std::vector<int32_t> answer = found->answer().ids();
    turn.prompt.insert(turn.prompt.end(), answer.begin(), answer.end());
    computed = static_cast<int64_t>(turn.prompt.size()) - 1;
    turn.prompt.push_back('.');
  }
}

}  // namespace
}  // namespace redoubt
