// Policies in the database, on SQLite and PostgreSQL: versions, the file at start, changes that reach other nodes.
#include "governance/policy_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "governance/default_policies.h"
#include "test_database.h"

namespace redoubt {
namespace {

using testing::HasSubstr;

constexpr const char* kAll = "permit (principal, action, resource);";
constexpr const char* kNone = "// nothing\n";

class PolicyStoreTest : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    other_database_ = files_.open();
  }
  std::unique_ptr<PolicyStore> node(Database& database, std::optional<PolicyFile> file = {}, int period_ms = 0) {
    auto store = PolicyStore::open(database, file, clock_, wall_, {}, period_ms);
    EXPECT_TRUE(store) << store.error().message;
    return std::move(*store);
  }
  static bool generates(const PolicyStore& store, std::string_view role = "user") {
    const Principal who{.id = "alice", .tenant = "default", .roles = {std::string(role)}};
    return store.engine()->decide(AuthorizationRequest(who, "generate", "Model", "r1", {})).allowed;
  }
  test::TestDatabase files_{GetParam()};
  std::unique_ptr<Database> database_, other_database_;
  SteadyClock clock_;
  ManualWallClock wall_;
};
INSTANTIATE_TEST_SUITE_P(Databases, PolicyStoreTest, test::both_databases(), test::database_test_name);

TEST_P(PolicyStoreTest, AFirstStartHasTheDefaultPolicies) {
  const auto store = node(*database_);
  EXPECT_TRUE(generates(*store));
  EXPECT_FALSE(generates(*store, "none"));
  const auto newest = store->newest();
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->version, 1);
  EXPECT_EQ(newest->author, "first start");
  EXPECT_EQ(newest->text, default_policy_text());
}

TEST_P(PolicyStoreTest, ConfiguredLabelsHoldWhereTheDatabaseDescribesNothing) {
  const auto model = [](const char* id, const char* label) {
    return Json{{"uid", {{"type", "Redoubt::Model"}, {"id", id}}}, {"attrs", {{"label", label}}}};
  };
  auto opened = PolicyStore::open(*database_, {}, clock_, wall_,
                                  {.node = "a", .entities = Json::array({model("r1", "open")})}, 0);
  ASSERT_TRUE(opened) << opened.error().message;
  const auto store = *std::move(opened);
  const std::string text =
      "permit (principal, action, resource) when { resource has label && resource.label == \"open\" };";
  ASSERT_TRUE(store->change({.text = text, .author = "sue"}));
  EXPECT_TRUE(generates(*store));
  ASSERT_TRUE(store->change({.text = text, .entities = Json::array({model("r2", "x")}), .author = "sue"}));
  EXPECT_TRUE(generates(*store));
  ASSERT_TRUE(store->change({.text = text, .entities = Json::array({model("r1", "secret")}), .author = "sue"}));
  EXPECT_FALSE(generates(*store)) << "what the database describes wins";
  EXPECT_EQ(store->newest()->entities.size(), 1u) << "the configuration is no version's";
}

// For the owner's commands, which see no configuration.
TEST_P(PolicyStoreTest, WhatNodesAreConfiguredWithIsKeptBesideTheVersions) {
  const auto open = [&](NodeModels models) {
    auto store = PolicyStore::open(*database_, {}, clock_, wall_, std::move(models), 0);
    EXPECT_TRUE(store) << store.error().message;
    wall_.advance_ms(1);
    return std::move(*store);
  };
  const auto told = [](const char* node, const char* model, const char* stage) {
    const Json entity = {{"uid", {{"type", "Redoubt::Model"}, {"id", model}}}, {"attrs", {{"label", node}}}};
    return NodeModels{.node = node, .entities = Json::array({entity}), .stages = {{model, stage}}};
  };
  open(told("a", "old", ""));
  open(told("a", "r1", "pilot"));
  open(told("b", "r1", ""));
  const auto kept = kept_models(*database_, wall_);
  ASSERT_TRUE(kept) << kept.error().message;
  EXPECT_EQ(kept->stages, (ModelStages{{"r1", ""}})) << "of a node its last start; of two nodes the last to start";
  ASSERT_EQ(kept->entities.size(), 1u);
  EXPECT_EQ(kept->entities[0]["attrs"]["label"], "b");
  const auto beside = open({});
  EXPECT_EQ(beside->configured().stages, kept->stages);
  EXPECT_EQ(beside->engine()->snapshot()->stages, kept->stages);
}

// A node that is there stays, however long ago it started; one that is gone, or has another name now, is forgotten.
TEST_P(PolicyStoreTest, WhatANodeThatIsGoneWasConfiguredWithIsForgotten) {
  const auto open = [&](const char* node, const char* model) {
    auto store = PolicyStore::open(*database_, {}, clock_, wall_, {.node = node, .stages = {{model, node}}}, 0);
    EXPECT_TRUE(store) << store.error().message;
    wall_.advance_ms(1);
    return std::move(*store);
  };
  const auto kept = [&] {
    const auto models = kept_models(*database_, wall_);
    EXPECT_TRUE(models) << models.error().message;
    return models->stages;
  };
  constexpr int64_t kDayMs = 86'400'000;
  open("gone", "old");
  const auto here = open("here", "r1");
  for (int day = 1; day < 30; ++day) {
    wall_.advance_ms(kDayMs);
    ASSERT_TRUE(here->note_running());
  }
  EXPECT_EQ(kept(), (ModelStages{{"old", "gone"}, {"r1", "here"}}));
  wall_.advance_ms(2 * kDayMs);
  const auto other = open("other", "r1");
  EXPECT_EQ(kept(), (ModelStages{{"r1", "other"}})) << "of two the last to start, not the last to be seen";
  wall_.advance_ms(31 * kDayMs);
  ASSERT_TRUE(here->note_running()) << "slept for a month: it is there again, and started when it did";
  EXPECT_EQ(kept(), (ModelStages{{"r1", "here"}}));
  ASSERT_TRUE(other->note_running());
  EXPECT_EQ(kept(), (ModelStages{{"r1", "other"}}));
}

TEST_P(PolicyStoreTest, AChangeIsAVersionAndReachesTheOtherNode) {
  const auto here = node(*database_);
  const auto there = node(*other_database_, {}, 50);
  ASSERT_TRUE(generates(*there));
  const auto version = here->change({.text = kNone, .author = "sam", .note = "closed for the audit", .expected = 1});
  ASSERT_TRUE(version) << version.error().message;
  EXPECT_EQ(*version, 2);
  EXPECT_FALSE(generates(*here));
  const auto begin = std::chrono::steady_clock::now();
  while (generates(*there) && std::chrono::steady_clock::now() - begin < std::chrono::seconds(20)) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_FALSE(generates(*there));
  EXPECT_EQ(there->engine()->version(), 2u);
  const auto history = there->history(10);
  ASSERT_TRUE(history);
  ASSERT_EQ(history->size(), 2u);
  EXPECT_EQ(history->front().author, "sam");
  EXPECT_EQ(history->front().note, "closed for the audit");
  EXPECT_EQ(there->version(1)->text, default_policy_text());
  EXPECT_EQ(there->version(9).error().code, ErrorCode::not_found);
}

TEST_P(PolicyStoreTest, TwoWhoChangeTheSameVersionDoNotBothWin) {
  const auto store = node(*database_);
  ASSERT_TRUE(store->change({.text = kAll, .author = "a", .expected = 1}));
  const auto second = store->change({.text = kNone, .author = "b", .expected = 1});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::conflict);
  EXPECT_TRUE(generates(*store, "none"));
}

TEST_P(PolicyStoreTest, ATextThatCannotBeParsedIsNotStored) {
  const auto store = node(*database_);
  const auto wrong = store->change({.text = "permit (principal, action);", .author = "a"});
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("line 1, column 26"));
  EXPECT_EQ(store->newest()->version, 1);
}

TEST_P(PolicyStoreTest, AFileBecomesAVersionWhenItIsAnotherOne) {
  EXPECT_FALSE(generates(*node(*database_, PolicyFile{"p.cedar", kNone})));
  {
    const auto store = node(*database_, PolicyFile{"p.cedar", kNone});
    ASSERT_TRUE(store->change({.text = kAll, .author = "sam"}));
  }
  // The same file: what was changed since stays.
  EXPECT_TRUE(generates(*node(*database_, PolicyFile{"p.cedar", kNone})));
  EXPECT_TRUE(generates(*node(*database_)));
  // Another file, then the first one again: each is news.
  EXPECT_TRUE(generates(*node(*database_, PolicyFile{"p.cedar", std::string(default_policy_text())})));
  const auto back = node(*database_, PolicyFile{"p.cedar", kNone});
  EXPECT_FALSE(generates(*back));
  EXPECT_EQ(back->newest()->version, 4);
  EXPECT_EQ(back->newest()->author, "file p.cedar");
  const auto wrong = PolicyStore::open(*database_, PolicyFile{"q.cedar", "permit"}, clock_, wall_, {}, 0);
  EXPECT_THAT(wrong.error().message, testing::StartsWith("q.cedar: line 1, column 7"));
}

TEST_P(PolicyStoreTest, DescribedEntitiesStayUntilTheyAreReplaced) {
  const auto store = node(*database_);
  const Json models = Json::parse(R"([{"uid": {"type": "Redoubt::Model", "id": "r1"}, "attrs": {"label": "open"}}])");
  ASSERT_TRUE(store->change({.text = "permit (principal, action, resource) when { resource.label == \"open\" };",
                             .entities = models,
                             .author = "a"}));
  EXPECT_TRUE(generates(*store));
  ASSERT_TRUE(store->change(
      {.text = "permit (principal, action, resource) unless { resource.label == \"shut\" };", .author = "a"}));
  EXPECT_TRUE(generates(*store));
  ASSERT_TRUE(store->change({.text = store->newest()->text, .entities = Json::array(), .author = "a"}));
  EXPECT_FALSE(generates(*store));
}

}  // namespace
}  // namespace redoubt
