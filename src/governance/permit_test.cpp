#include "governance/permit.h"

#include <gtest/gtest.h>

namespace redoubt {
namespace {

// Permits what is in the set, forbids what is in the other; everything may change under way.
class Rules final : public Authority {
 public:
  Verdict decide(const Principal&, const AccessQuestion& question) const override {
    Verdict verdict = Verdict::not_permitted;
    {
      const std::lock_guard lock(mutex);
      if (permitted.contains(question.resource_id)) verdict = Verdict::permitted;
      if (forbidden.contains(question.resource_id)) verdict = Verdict::forbidden;
      if (away) verdict = Verdict::unknown;
    }
    if (const auto then = after_deciding) then();
    return verdict;
  }
  PrincipalPtr current(const PrincipalPtr& principal) const override {
    const std::lock_guard lock(mutex);
    return replaced != nullptr ? replaced : principal;
  }
  void replace(PrincipalPtr by) {
    {
      const std::lock_guard lock(mutex);
      replaced = std::move(by);
    }
    ++version_;
  }
  Status still_valid(const Principal& principal) const override {
    const std::lock_guard lock(mutex);
    if (away) return unavailable("the database is away");
    if (gone.contains(principal.key_id)) return Error{ErrorCode::denied, "the key was revoked", {}};
    return ok();
  }
  uint64_t version() const override { return version_; }
  void change(std::map<std::string, int>& set, const std::string& id, bool in) {
    {
      const std::lock_guard lock(mutex);
      in ? static_cast<void>(set.emplace(id, 1)) : static_cast<void>(set.erase(id));
    }
    ++version_;
  }
  std::map<std::string, int> permitted, forbidden, gone;
  std::function<void()> after_deciding;  // null: nothing
  std::atomic<bool> away{false};         // nothing can be told

 private:
  PrincipalPtr replaced;
  mutable std::mutex mutex;
  std::atomic<uint64_t> version_{0};
};

AccessQuestion use(std::string id) {
  return {.action = "generate", .resource_kind = "Model", .resource_id = std::move(id)};
}

PrincipalPtr key(std::string id) { return std::make_shared<Principal>(Principal{.key_id = std::move(id)}); }

bool within_a_second(const std::function<bool()>& condition) {
  for (int i = 0; i < 100; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST(Permit, DeniesWhatNothingPermitsAndWhatSomethingForbids) {
  const auto rules = std::make_shared<Rules>();
  rules->permitted["r1"] = 1;
  rules->permitted["both"] = rules->forbidden["both"] = 1;
  Permit permit(key("k"), rules);
  EXPECT_FALSE(permit.check(use("other")));
  EXPECT_FALSE(permit.check(use("both")));
  EXPECT_TRUE(permit.check_not_forbidden(use("other")));
  EXPECT_FALSE(permit.check_not_forbidden(use("both")));
  EXPECT_FALSE(permit.cleared()) << "nothing was permitted yet";
  EXPECT_TRUE(permit.check(use("r1")));
  EXPECT_TRUE(permit.cleared());
}

TEST(Permit, IsTakenBackWithinASecondOfAChange) {
  const auto rules = std::make_shared<Rules>();
  rules->permitted["r1"] = rules->permitted["r2"] = 1;
  PermitRegister permits(rules, {});
  const auto one = permits.issue(key("one")), two = permits.issue(key("two")), three = permits.issue(key("three"));
  for (const auto& permit : {one, two, three}) ASSERT_TRUE(permit->check(use(permit == two ? "r2" : "r1")));
  std::atomic<int> told{0};
  std::string reason;
  one->on_revoked([&](const Error& why) {
    reason = why.message;
    ++told;
  });
  rules->change(rules->gone, "one", true);
  ASSERT_TRUE(within_a_second([&] { return told == 1; }));
  EXPECT_EQ(reason, "access was revoked: the key was revoked");
  EXPECT_FALSE(two->revoked() || three->revoked());
  EXPECT_FALSE(one->check(use("r1"))) << "a permit that was taken back permits nothing more";

  rules->change(rules->permitted, "r2", false);
  ASSERT_TRUE(within_a_second([&] { return two->revoked(); }));
  std::string late;
  two->on_revoked([&](const Error& why) { late = why.message; });
  EXPECT_NE(late.find("generate on Model r2: no policy permits it"), std::string::npos) << late;

  rules->change(rules->forbidden, "r1", true);
  EXPECT_TRUE(within_a_second([&] { return three->revoked(); }));
  rules->change(rules->forbidden, "r1", false);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(three->revoked()) << "taken back is taken back";
  EXPECT_EQ(told, 1);
}

// Nobody was refused anything: it cannot be told.
TEST(Permit, AnOutageIsNoRevocation) {
  const auto rules = std::make_shared<Rules>();
  rules->permitted["r1"] = 1;
  Permit under_way(key("a"), rules), is_new(key("b"), rules);
  ASSERT_TRUE(under_way.check(use("r1")));
  std::optional<Error> reason;
  under_way.on_revoked([&](const Error& why) { reason = why; });
  rules->away = true;
  for (const Status& may : {is_new.check(use("r1")), is_new.check_not_forbidden(use("r1"))}) {
    ASSERT_FALSE(may);
    EXPECT_EQ(may.error().code, ErrorCode::unavailable);
  }
  under_way.ask_again();
  ASSERT_TRUE(reason);
  EXPECT_EQ(reason->code, ErrorCode::unavailable);
  EXPECT_EQ(reason->message, "the database is away");
  EXPECT_TRUE(under_way.ended_by_outage());
  EXPECT_EQ(under_way.check(use("r1")).error().code, ErrorCode::unavailable);
  EXPECT_FALSE(is_new.revoked()) << "it had nothing to lose";
}

// The change falls between the judging of a question and its being among those that are asked again.
TEST(Permit, AChangeWhileAQuestionIsJudgedIsNotMissed) {
  const auto rules = std::make_shared<Rules>();
  rules->permitted["r1"] = 1;
  PermitRegister permits(rules, {.look_ms = 1 << 30, .ask_all_ms = 1 << 30});
  const auto permit = permits.issue(key("k"));
  rules->after_deciding = [&] {
    rules->after_deciding = nullptr;
    rules->change(rules->permitted, "r1", false);
    permits.ask_all_again();
  };
  EXPECT_FALSE(permit->check(use("r1")));
  EXPECT_TRUE(permit->revoked());
  EXPECT_FALSE(permit->cleared());
}

TEST(Permit, AScopeThatTheKeyHasLostTakesItBack) {
  const auto rules = std::make_shared<Rules>();
  PermitRegister permits(rules, {.look_ms = 10});
  const auto narrowed = [](std::vector<std::string> scopes) {
    return std::make_shared<Principal>(Principal{.key_id = "k", .scopes = std::move(scopes)});
  };
  EXPECT_TRUE(permits.issue(key("k"))->need_scope("generate", "generate")) << "a key that is not narrowed";
  EXPECT_FALSE(permits.issue(narrowed({"models"}))->need_scope("generate", "generate"));
  EXPECT_TRUE(permits.issue(narrowed({"tokenize"}))->need_scope("generate", "tokenize")) << "an action alone";
  const auto permit = permits.issue(narrowed({"generate", "models"}));
  ASSERT_TRUE(permit->need_scope("generate", "generate"));
  rules->replace(narrowed({"generate"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(permit->revoked());
  rules->replace(narrowed({"models"}));
  EXPECT_TRUE(within_a_second([&] { return permit->revoked(); }));
}

TEST(Permit, ATimeThatIsOverAsksAgain) {
  const auto clock = std::make_shared<ManualWallClock>(1000);
  const auto rules = std::make_shared<Rules>();
  PermitRegister permits(rules, {.look_ms = 10, .ask_all_ms = 1 << 30}, clock);
  const auto permit = permits.issue(std::make_shared<Principal>(Principal{.key_id = "k", .expires_at_s = 2000}));
  rules->gone["k"] = 1;  // without a version: only time tells
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(permit->revoked());
  clock->advance_ms(1'000'000);
  EXPECT_TRUE(within_a_second([&] { return permit->revoked(); }));
}

TEST(PermitRegister, ForgetsWhatEnded) {
  auto permits = std::make_unique<PermitRegister>(std::make_shared<Rules>(), PermitRegister::Options{});
  auto kept = permits->issue(key("k"));
  { const auto gone = permits->issue(key("k")); }
  EXPECT_EQ(permits->under_way(), 1u);
  permits.reset();
  kept.reset();  // outlives its register
}

}  // namespace
}  // namespace redoubt
