#include "engine/speculation.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

std::vector<DraftedToken> drafts_of(DraftKind kind, size_t count) {
  return std::vector<DraftedToken>(count, {7, kind});
}

Acceptance measured(DraftKind kind, double share) {
  Acceptance acceptance;
  for (int i = 0; i < 1000; ++i) acceptance.observe(kind, i * 37 % 100 < share * 100);
  return acceptance;
}

// Steps of `fixed` seconds and one for each token, around a batch of `batch`.
Speculator speculator_at(double fixed, double per_token, int64_t batch) {
  Speculator speculator({.max_depth = 8});
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t tokens = batch + i % 5;
    speculator.observe_step(tokens, fixed + per_token * static_cast<double>(tokens));
  }
  speculator.begin_step(batch);
  return speculator;
}

TEST(StepCost, FindsTheLineBehindTheSteps) {
  StepCost cost;
  for (int64_t i = 0; i < 300; ++i) cost.observe(1 + i % 9, 0.020 + 0.003 * static_cast<double>(1 + i % 9));
  EXPECT_NEAR(cost.seconds_per_token(), 0.003, 0.0002);
  EXPECT_NEAR(cost.seconds(1), 0.023, 0.001);
}

TEST(StepCost, OneSlowStepOfAnotherProcessIsBounded) {
  StepCost cost;
  for (int i = 0; i < 100; ++i) cost.observe(1, 0.010);
  cost.observe(1, 30.0);
  EXPECT_LT(cost.seconds(1), 0.012);
}

TEST(Speculator, DraftsAsDeepAsAcceptancePays) {
  const auto drafts = drafts_of(DraftKind::match_4_7, 8);
  Speculator cheap = speculator_at(0.010, 0.0001, 1);
  EXPECT_EQ(cheap.depth(measured(DraftKind::match_4_7, 1.0), drafts, 100), 8);
  cheap.begin_step(1);
  const int64_t half = cheap.depth(measured(DraftKind::match_4_7, 0.5), drafts, 100);
  EXPECT_GT(half, 1);
  EXPECT_LT(half, 8);
  cheap.begin_step(1);
  EXPECT_EQ(cheap.depth(measured(DraftKind::match_4_7, 0.0), drafts, 100), 0);
  cheap.begin_step(1);
  EXPECT_EQ(cheap.depth(measured(DraftKind::match_4_7, 1.0), drafts, 3), 3);
}

TEST(Speculator, StopsWhereTheBatchIsLargeOrATokenIsAsDearAsAStep) {
  const auto drafts = drafts_of(DraftKind::match_8_15, 8);
  const Acceptance good = measured(DraftKind::match_8_15, 0.8);
  EXPECT_GT(speculator_at(0.010, 0.001, 2).depth(good, drafts, 100), 0);
  EXPECT_EQ(speculator_at(0.010, 0.001, 60).depth(good, drafts, 100), 0);
  EXPECT_EQ(speculator_at(0.0001, 0.010, 1).depth(good, drafts, 100), 0);
}

TEST(Speculator, NoTimeMeasuredYetNoDraft) {
  Speculator speculator({.max_depth = 8});
  speculator.begin_step(1);
  EXPECT_EQ(speculator.depth(Acceptance(), drafts_of(DraftKind::match_16, 8), 8), 0);
}

}  // namespace
}  // namespace redoubt
