#include "governance/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "governance/api_keys.h"
#include "governance/directory_fixture.h"
#include "governance/hash_key.h"

namespace redoubt {
namespace {

class DirectoryTest : public test::DirectoryFixture, public testing::WithParamInterface<DatabaseKind> {
 protected:
  DirectoryTest() : DirectoryFixture(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(Databases, DirectoryTest, test::both_databases(), test::database_test_name);

TEST(ApiKeys, ArePrefixAnd256RandomBits) {
  const KeyText a = draw_key(), b = draw_key();
  EXPECT_EQ(a.text.size(), 3u + 8 + 1 + 43);
  EXPECT_EQ(a.text.substr(0, 12), "rk_" + a.id + "_");
  EXPECT_NE(a.text, b.text);
  EXPECT_NE(a.id, b.id);
}

TEST(HashKey, IsMadeOnceForItsOwnerAloneAndReadAgain) {
  const test::TestDatabase files(DatabaseKind::sqlite);
  const auto path = files.folder() / "hash.key";
  const auto made = open_hash_key(path), read = open_hash_key(path);
  ASSERT_TRUE(made && read);
  EXPECT_EQ(made->hash("a", "b"), read->hash("a", "b"));
  std::filesystem::permissions(path, std::filesystem::perms::group_read, std::filesystem::perm_options::add);
  EXPECT_FALSE(open_hash_key(path));
  std::filesystem::remove(path);
  std::ofstream(path) << "short\n";
  std::filesystem::permissions(path, std::filesystem::perms::owner_read);
  EXPECT_FALSE(open_hash_key(path));
}

TEST_P(DirectoryTest, TheFirstStartMakesTwoKeysOnce) {
  ASSERT_FALSE(first_.user.empty());
  ASSERT_FALSE(first_.appointing.empty());
  const auto snapshot = directory_->snapshot();
  const KeyPtr user = snapshot->keys_by_hash.at(key_hash(directory_->hash(), first_.user));
  EXPECT_EQ(user->who->id, "first");
  EXPECT_EQ(user->who->tenant, "default");
  EXPECT_THAT(user->who->roles, testing::ElementsAre("user"));
  EXPECT_EQ(user->who->auth_method, "api_key");
  const KeyPtr appointing = snapshot->keys_by_hash.at(key_hash(directory_->hash(), first_.appointing));
  EXPECT_EQ(appointing->who->kind, PrincipalKind::appointer);
  EXPECT_TRUE(appointing->who->roles.empty());

  const auto again = directory_->first_start("");
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->user.empty() && again->appointing.empty());
  EXPECT_EQ(directory_->snapshot()->keys.size(), 2u);
}

TEST_P(DirectoryTest, NoKeyIsInTheDatabase) {
  const auto rows = database_->read([](Transaction& tx) {
    return tx.rows<std::string, Blob, std::string, std::string>("SELECT id, hash, name, principal FROM api_keys");
  });
  for (const auto& [id, hash, name, principal] : *rows) {
    EXPECT_EQ(hash.size(), 32u);
    for (const std::string& text : {id, name, principal, std::string(hash.begin(), hash.end())}) {
      EXPECT_EQ(text.find(first_.user.substr(12)), std::string::npos);
      EXPECT_EQ(text.find(first_.appointing.substr(12)), std::string::npos);
    }
  }
}

TEST_P(DirectoryTest, ABootstrapKeyIsTheUsersAndFollowsWhatIsSet) {
  const std::string one = "bootstrap-key-number-one", two = "bootstrap-key-number-two";
  ASSERT_TRUE(directory_->first_start(one));
  ASSERT_TRUE(directory_->first_start(one));
  const auto by_key = [&](const std::string& text) {
    const auto snapshot = directory_->snapshot();
    const auto found = snapshot->keys_by_hash.find(key_hash(directory_->hash(), text));
    return found == snapshot->keys_by_hash.end() ? nullptr : found->second;
  };
  ASSERT_NE(by_key(one), nullptr);
  EXPECT_EQ(by_key(one)->who->id, "first");
  ASSERT_TRUE(directory_->first_start(two));
  EXPECT_EQ(by_key(one)->who, nullptr);
  ASSERT_NE(by_key(two)->who, nullptr);
  // Set back, it comes back.
  ASSERT_TRUE(directory_->first_start(one));
  ASSERT_NE(by_key(one)->who, nullptr);
  EXPECT_EQ(by_key(one)->id, "bootstrap");
  EXPECT_EQ(by_key(two)->who, nullptr);
  ASSERT_TRUE(directory_->first_start(two));
  EXPECT_EQ(code(directory_->first_start("too short")), ErrorCode::invalid_argument);
  // Revoked means revoked: the next start with the same key does not bring it back.
  ASSERT_TRUE(directory_->revoke_key(security_, "bootstrap"));
  ASSERT_TRUE(directory_->first_start(two));
  EXPECT_EQ(by_key(two)->who, nullptr);
  // Nor does it after another one; which is not left beside it either.
  ASSERT_TRUE(directory_->first_start(one));
  ASSERT_NE(by_key(one)->who, nullptr);
  ASSERT_TRUE(directory_->first_start(two));
  EXPECT_EQ(by_key(two)->who, nullptr);
  EXPECT_EQ(by_key(one)->who, nullptr);
}

TEST_P(DirectoryTest, ABootstrapKeyThatWasRotatedAwayDoesNotComeBack) {
  const std::string one = "bootstrap-key-number-one";
  ASSERT_TRUE(directory_->first_start(one));
  ASSERT_TRUE(directory_->rotate_key(security_, "bootstrap", 0));
  ASSERT_TRUE(directory_->first_start("bootstrap-key-number-two"));
  EXPECT_TRUE(directory_->first_start(one).value().bootstrap_is_ended);
  EXPECT_EQ(directory_->snapshot()->keys_by_hash.at(key_hash(directory_->hash(), one))->who, nullptr);
}

TEST_P(DirectoryTest, UsersLiveInTenantsAndTeams) {
  ASSERT_TRUE(directory_->create_tenant(system_, "acme", {.name = "Acme", .labels = LabelChange{{"tier", "gold"}}}));
  ASSERT_TRUE(directory_->create_team(system_, "acme", "research", {}));
  ASSERT_TRUE(directory_->create_principal(
      system_, {.id = "alice@acme",
                .tenant = "acme",
                .fields = {.teams = {{"research"}}, .labels = LabelChange{{"site", "x"}}}}));
  PrincipalRecord alice = record("alice@acme");
  EXPECT_THAT(alice.teams, testing::ElementsAre("research"));
  EXPECT_THAT(alice.roles, testing::ElementsAre("user"));
  ASSERT_TRUE(directory_->change_principal(system_, "alice@acme",
                                           {.teams = std::vector<std::string>(), .roles = {{"user", "trader"}}}));
  alice = record("alice@acme");
  EXPECT_TRUE(alice.teams.empty());
  EXPECT_THAT(alice.roles, testing::ElementsAre("trader", "user"));
  EXPECT_EQ(alice.labels.at("site"), "x");

  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "alice@acme", .tenant = "acme"})), ErrorCode::conflict);
  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "bob", .tenant = "nowhere"})), ErrorCode::not_found);
  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "bob", .fields = {.teams = {{"research"}}}})),
            ErrorCode::not_found);
  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "b ob"})), ErrorCode::invalid_argument);
  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "b", .kind = PrincipalKind::appointer})),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code(directory_->create_team(system_, "acme", "research", {})), ErrorCode::conflict);
  EXPECT_EQ(code(directory_->remove_tenant(system_, "acme")), ErrorCode::conflict);
  ASSERT_TRUE(directory_->remove_team(system_, "acme", "research"));
  EXPECT_TRUE(directory_->snapshot()->teams.empty());
  ASSERT_TRUE(directory_->create_tenant(system_, "empty", {}));
  ASSERT_TRUE(directory_->remove_tenant(system_, "empty"));
}

TEST_P(DirectoryTest, KeysCarryTheirPrincipalAndEndWithIt) {
  ASSERT_TRUE(directory_->create_principal(system_, {.id = "bot", .kind = PrincipalKind::service}));
  const auto made = directory_->create_key(
      security_, {.principal = "bot", .name = "ci", .scopes = {"tokenize", "generate"}, .expires_in_s = 100});
  ASSERT_TRUE(made) << made.error().message;
  KeyPtr found = key(made->id);
  EXPECT_EQ(found->hash, key_hash(directory_->hash(), made->text));
  EXPECT_THAT(found->who->scopes, testing::ElementsAre("generate", "tokenize"));
  EXPECT_EQ(found->who->kind, PrincipalKind::service);
  EXPECT_TRUE(found->valid_at(wall_.now_s() + 99));
  EXPECT_FALSE(found->valid_at(wall_.now_s() + 100));
  EXPECT_EQ(found->created_by, "sec");
  EXPECT_EQ(to_json(*found, wall_.now_s() + 100)["state"], "expired");
  EXPECT_EQ(dump_json(to_json(*found, 0)).find(made->text.substr(12)), std::string::npos);

  ASSERT_TRUE(directory_->change_principal(system_, "bot", {.disabled = true}));
  EXPECT_EQ(key(made->id)->who, nullptr);
  ASSERT_TRUE(directory_->change_principal(system_, "bot", {.disabled = false}));
  EXPECT_NE(key(made->id)->who, nullptr);
  ASSERT_TRUE(directory_->change_tenant(system_, "default", {.disabled = true}));
  EXPECT_EQ(key(made->id)->who, nullptr);
  ASSERT_TRUE(directory_->change_tenant(system_, "default", {.disabled = false}));
  ASSERT_TRUE(directory_->remove_principal(system_, "bot"));
  EXPECT_EQ(key(made->id), nullptr);
  EXPECT_EQ(code(directory_->create_principal(system_, {.id = "bot"})), ErrorCode::conflict);  // never used again

  EXPECT_EQ(code(directory_->create_key(security_, {.principal = "nobody"})), ErrorCode::not_found);
  EXPECT_EQ(code(directory_->create_key(security_, {.principal = "first", .scopes = {"fly"}})),
            ErrorCode::invalid_argument);
  EXPECT_TRUE(
      directory_->create_key(security_, {.principal = "first", .scopes = {"models", "metrics", "admin", "generate"}}));
  EXPECT_EQ(code(directory_->create_key(security_, {.principal = "first", .expires_in_s = -1})),
            ErrorCode::invalid_argument);
}

TEST_P(DirectoryTest, ARotatedKeyGoesOnForTheOverlap) {
  const auto old = directory_->create_key(
      security_, {.principal = "first", .name = "app", .scopes = {"generate"}, .expires_in_s = 10'000});
  wall_.advance_ms(1'000'000);
  const auto next = directory_->rotate_key(security_, old->id, 60);
  ASSERT_TRUE(next) << next.error().message;
  const int64_t now_s = wall_.now_s();
  EXPECT_TRUE(key(old->id)->valid_at(now_s + 59));
  EXPECT_FALSE(key(old->id)->valid_at(now_s + 60));
  EXPECT_EQ(key(old->id)->replaced_by, next->id);
  EXPECT_EQ(key(next->id)->name, "app");
  EXPECT_THAT(key(next->id)->scopes, testing::ElementsAre("generate"));
  EXPECT_EQ(key(next->id)->expires_at_s, now_s + 10'000);
  EXPECT_EQ(code(directory_->rotate_key(security_, old->id, 60)), ErrorCode::conflict);
  // An overlap does not make a key live longer than it would have.
  const auto later = directory_->rotate_key(security_, next->id, 20'000);
  EXPECT_EQ(key(next->id)->expires_at_s, now_s + 10'000);
  ASSERT_TRUE(directory_->revoke_key(security_, later->id));
  EXPECT_EQ(code(directory_->rotate_key(security_, later->id)), ErrorCode::conflict);
  EXPECT_EQ(code(directory_->rotate_key(security_, "absent")), ErrorCode::not_found);
}

TEST_P(DirectoryTest, KeysKnowTheFirstOfTheirRotations) {
  const auto first = directory_->create_key(security_, {.principal = "first"});
  EXPECT_EQ(key(first->id)->who->first_key, first->id);
  const auto second = directory_->rotate_key(security_, first->id, 0);
  const auto third = directory_->rotate_key(security_, second->id, 0);
  EXPECT_EQ(key(third->id)->who->key_id, third->id);
  EXPECT_EQ(key(third->id)->who->first_key, first->id);
  wall_.advance_ms(int64_t{200} * 86'400'000);  // those before are no longer read
  ASSERT_TRUE(directory_->create_tenant(system_, "t", {}));
  EXPECT_EQ(key(first->id), nullptr);
  EXPECT_EQ(key(third->id)->who->first_key, first->id);
}

// Else a key of a minute would be one for ever.
TEST_P(DirectoryTest, AKeyMakesNoneForItselfThatOutlastsIt) {
  const auto as = [&](const std::string& id) { return key(id)->who; };
  const auto minute = directory_->create_key(security_, {.principal = "first", .expires_in_s = 60});
  const auto lasting = directory_->create_key(security_, {.principal = "first"});
  const int64_t ends_s = wall_.now_s() + 60;
  const Actor self = as(minute->id);
  EXPECT_EQ(code(directory_->create_key(self, {.principal = "first"})), ErrorCode::denied);
  EXPECT_EQ(code(directory_->create_key(self, {.principal = "first", .expires_in_s = 61})), ErrorCode::denied);
  EXPECT_TRUE(directory_->create_key(self, {.principal = "first", .expires_in_s = 60}));
  EXPECT_EQ(code(directory_->rotate_key(self, lasting->id)), ErrorCode::denied);
  EXPECT_TRUE(directory_->create_key(as(lasting->id), {.principal = "first"}));
  ASSERT_TRUE(directory_->create_principal(system_, {.id = "other"}));
  EXPECT_TRUE(directory_->create_key(self, {.principal = "other"})) << "that is what policies say";
  wall_.advance_ms(40'000);
  const auto next = directory_->rotate_key(self, minute->id);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_EQ(key(next->id)->expires_at_s, ends_s) << "by itself: to the same end";
  const auto renewed = directory_->rotate_key(security_, next->id);
  ASSERT_TRUE(renewed);
  EXPECT_EQ(key(renewed->id)->expires_at_s, wall_.now_s() + 20) << "by another: as long as it was made for";
  const auto own = directory_->rotate_key(as(lasting->id), lasting->id);
  ASSERT_TRUE(own);
  EXPECT_EQ(key(own->id)->expires_at_s, 0);
}

TEST_P(DirectoryTest, TheAppointingKeyNamesThreeAdministratorsOnce) {
  const KeyPtr appointing = directory_->snapshot()->keys_by_hash.at(key_hash(directory_->hash(), first_.appointing));
  const Actor appointer = appointing->who;
  EXPECT_EQ(code(directory_->appoint(system_, {"a", "b", "c"})), ErrorCode::denied);
  EXPECT_EQ(code(directory_->appoint(appointer, {"a", "a", "c"})), ErrorCode::invalid_argument);
  const auto keys = directory_->appoint(appointer, {"first", "bea", "cy"});
  ASSERT_TRUE(keys) << keys.error().message;
  EXPECT_THAT(record("first").roles, testing::ElementsAre("system_admin", "user"));
  EXPECT_THAT(record("bea").roles, testing::ElementsAre("security_admin"));
  EXPECT_THAT(record("cy").roles, testing::ElementsAre("audit_admin"));
  EXPECT_EQ(key(keys->audit.id)->who->id, "cy");
  EXPECT_EQ(key(appointing->id)->who, nullptr);
  EXPECT_EQ(code(directory_->appoint(appointer, {"d", "e", "f"})), ErrorCode::denied);
}

TEST_P(DirectoryTest, NoAdministratorBecomesAnother) {
  ASSERT_TRUE(directory_->appoint(owner_, {"sys", "sec", "aud"}));
  for (const Actor& actor : {system_, security_, audit_}) {
    for (const char* role : {"system_admin", "security_admin", "audit_admin"}) {
      EXPECT_EQ(code(directory_->create_principal(actor, {.id = "mallory", .fields = {.roles = {{role}}}})),
                ErrorCode::denied);
      EXPECT_EQ(code(directory_->change_principal(actor, "first", {.roles = {{"user", role}}})), ErrorCode::denied);
    }
    for (const char* admin : {"sys", "sec", "aud"}) {
      EXPECT_EQ(code(directory_->change_principal(actor, admin, {.disabled = true})), ErrorCode::denied);
      EXPECT_EQ(code(directory_->change_principal(actor, admin, {.roles = {{"user"}}})), ErrorCode::denied);
      EXPECT_EQ(
          code(directory_->change_principal(actor, admin, {.identities = {{{"oidc", "https://idp", "mallory"}}}})),
          ErrorCode::denied);
      EXPECT_EQ(code(directory_->remove_principal(actor, admin)), ErrorCode::denied);
      const auto made = directory_->create_key(actor, {.principal = admin});
      EXPECT_EQ(made.has_value(), actor->id == admin) << actor->id << " " << admin;
    }
    EXPECT_EQ(code(directory_->change_tenant(actor, "default", {.disabled = true})), ErrorCode::denied);
    EXPECT_EQ(code(directory_->create_key(actor, {.principal = "appointer"})), ErrorCode::denied);
    EXPECT_EQ(code(directory_->change_principal(actor, "appointer", {.roles = {{"user"}}})), ErrorCode::denied);
  }
  EXPECT_EQ(code(directory_->change_principal(owner_, "sys", {.roles = {{"system_admin", "audit_admin"}}})),
            ErrorCode::denied);
  EXPECT_TRUE(directory_->change_principal(owner_, "sys", {.disabled = true}));
}

TEST_P(DirectoryTest, WhoChangesPoliciesCannotSilenceTheAudit) {
  const auto keys = directory_->appoint(owner_, {"sys", "sec", "aud"});
  ASSERT_TRUE(keys);
  EXPECT_EQ(code(directory_->revoke_key(security_, keys->audit.id)), ErrorCode::denied);
  EXPECT_EQ(code(directory_->revoke_key(system_, keys->audit.id)), ErrorCode::denied);
  EXPECT_EQ(code(directory_->revoke_key(system_, keys->security.id)), ErrorCode::denied);
  EXPECT_EQ(code(directory_->rotate_key(security_, keys->audit.id)), ErrorCode::denied);
  EXPECT_TRUE(directory_->revoke_key(security_, keys->system.id));  // a stolen key of who runs the machine
  EXPECT_TRUE(directory_->rotate_key(audit_, keys->audit.id));
  EXPECT_TRUE(directory_->revoke_key(audit_, keys->audit.id));
  EXPECT_TRUE(directory_->revoke_key(security_, keys->security.id));
}

TEST_P(DirectoryTest, ANarrowKeyMakesNoWiderOne) {
  auto narrow = std::make_shared<Principal>(*test::actor_of("first", {"user"}));
  narrow->scopes = {"generate"};
  EXPECT_EQ(code(directory_->create_key(narrow, {.principal = "first"})), ErrorCode::denied);
  EXPECT_EQ(code(directory_->create_key(narrow, {.principal = "first", .scopes = {"tokenize"}})), ErrorCode::denied);
  EXPECT_TRUE(directory_->create_key(narrow, {.principal = "first", .scopes = {"generate"}}));
}

TEST_P(DirectoryTest, AnotherNodeKnowsAChangeWhenItLooks) {
  const auto other_database = files_.open();
  const auto other = open_directory(*other_database);
  const auto made = directory_->create_key(security_, {.principal = "first"});
  EXPECT_FALSE(other->snapshot()->keys.contains(made->id));
  const uint64_t before = other->version();
  ASSERT_TRUE(other->refresh());
  EXPECT_GT(other->version(), before);
  ASSERT_TRUE(other->snapshot()->keys.contains(made->id));
  ASSERT_TRUE(other->revoke_key(security_, made->id));
  ASSERT_TRUE(directory_->refresh());
  EXPECT_EQ(key(made->id)->who, nullptr);
  const auto wrong = Directory::open(*other_database, test::test_hash(2), clock_, wall_, {.period_ms = 0});
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("hash.key"), std::string::npos);
}

TEST_P(DirectoryTest, TheTimeOfLastUseReachesTheDatabaseAndTheOtherNodes) {
  const auto made = directory_->create_key(security_, {.principal = "first"});
  directory_->note_use(*key(made->id));
  const uint64_t before = directory_->version();
  ASSERT_TRUE(directory_->flush_uses());
  EXPECT_EQ(directory_->version(), before);  // nobody loads anything again for that
  const auto other_database = files_.open();
  const auto other = open_directory(*other_database);
  EXPECT_EQ(other->snapshot()->keys.at(made->id)->last_used_at_s->load(), wall_.now_s());
  // A later use survives the next load.
  wall_.advance_ms(5000);
  directory_->note_use(*key(made->id));
  ASSERT_TRUE(directory_->create_tenant(system_, "t", {}));
  EXPECT_EQ(key(made->id)->last_used_at_s->load(), wall_.now_s());
}

TEST_P(DirectoryTest, TheLimitOfKeysCountsThoseThatGoOn) {
  directory_ = open_directory(*database_, {.period_ms = 0, .max_keys = 4});  // two are there
  const auto ends = directory_->create_key(security_, {.principal = "first", .expires_in_s = 10});
  const auto stays = directory_->create_key(security_, {.principal = "first"});
  ASSERT_TRUE(ends && stays);
  EXPECT_EQ(code(directory_->create_key(security_, {.principal = "first"})), ErrorCode::conflict);
  EXPECT_EQ(code(directory_->rotate_key(security_, stays->id)), ErrorCode::conflict);
  wall_.advance_ms(10'000);
  const auto second = directory_->rotate_key(security_, stays->id, 0);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_TRUE(directory_->create_key(security_, {.principal = "first"})) << "the rotated one has ended";
  EXPECT_EQ(code(directory_->create_key(security_, {.principal = "first"})), ErrorCode::conflict);
  ASSERT_TRUE(directory_->revoke_key(security_, second->id));
  EXPECT_TRUE(directory_->create_key(security_, {.principal = "first"}));
}

TEST_P(DirectoryTest, AKeyThatLeakedIsReplacedAtTheLimitToo) {
  directory_ = open_directory(*database_, {.period_ms = 0, .max_keys = 3});  // two are there
  const auto leaked = directory_->create_key(security_, {.principal = "first"});
  ASSERT_TRUE(leaked);
  EXPECT_EQ(code(directory_->rotate_key(security_, leaked->id, 1)), ErrorCode::conflict) << "both would go on";
  const auto next = directory_->rotate_key(security_, leaked->id, 0);
  ASSERT_TRUE(next) << next.error().message;
  EXPECT_FALSE(key(leaked->id)->valid_at(wall_.now_s()));
  EXPECT_TRUE(key(next->id)->valid_at(wall_.now_s()));
}

TEST_P(DirectoryTest, AKeyThatEndedLongAgoIsNoLongerReadAndStaysEnded) {
  constexpr int64_t kDayMs = 86'400'000;
  const std::string bootstrap = "bootstrap-key-number-one";
  EXPECT_FALSE(directory_->first_start(bootstrap).value().bootstrap_is_ended);
  ASSERT_TRUE(directory_->revoke_key(security_, "bootstrap"));
  auto made = directory_->create_key(security_, {.principal = "first"});
  ASSERT_TRUE(made);
  for (int day = 0; day < 200; ++day) {  // a job that rotates daily
    directory_->note_use(*key(made->id));
    EXPECT_TRUE(directory_->flush_uses());
    made = directory_->rotate_key(security_, made->id, 3600);
    ASSERT_TRUE(made) << made.error().message;
    wall_.advance_ms(kDayMs);
  }
  ASSERT_TRUE(directory_->create_tenant(system_, "t", {}));
  EXPECT_LE(directory_->snapshot()->keys.size(), 2u + 1 + 90);
  EXPECT_GE(directory_->snapshot()->keys.size(), 2u + 1 + 89);
  EXPECT_TRUE(key(made->id)->valid_at(wall_.now_s()));
  EXPECT_EQ(key("bootstrap"), nullptr);
  const auto rows = database_->read([](Transaction& tx) { return tx.row<int64_t>("SELECT COUNT(*) FROM api_keys"); });
  EXPECT_EQ(std::get<0>(**rows), 2 + 1 + 201) << "records keep them";
  // Revoked means revoked, also once nothing in memory knows of it.
  EXPECT_TRUE(directory_->first_start(bootstrap).value().bootstrap_is_ended);
  EXPECT_EQ(key("bootstrap"), nullptr);
}
TEST_P(DirectoryTest, LabelsAndIdentitiesThatAreNotNamedStay) {
  const auto change = [&](const PrincipalChange& to) { return directory_->change_principal(system_, "first", to); };
  ASSERT_TRUE(change({.labels = {{"site", "graz"}, {"floor", "3"}},
                      .identities = {{{"mtls", "", "CN=a"}, {"oidc", "https://idp", "x1"}}}}));
  ASSERT_TRUE(change({.labels = {{"floor", std::nullopt}, {"never", std::nullopt}, {"desk", "9"}},
                      .identities = {{{"oidc", "https://idp", "x2"}}},
                      .identity_methods = {"oidc"}}));
  EXPECT_EQ(record("first").labels, (Labels{{"desk", "9"}, {"site", "graz"}}));
  EXPECT_THAT(record("first").identities, testing::ElementsAre(ExternalIdentity{"mtls", "", "CN=a"},
                                                               ExternalIdentity{"oidc", "https://idp", "x2"}));
  ASSERT_TRUE(change({.identities = std::vector<ExternalIdentity>(), .identity_methods = {"mtls"}}));
  EXPECT_THAT(record("first").identities, testing::ElementsAre(ExternalIdentity{"oidc", "https://idp", "x2"}));
  ASSERT_TRUE(change({.identities = std::vector<ExternalIdentity>()}));
  EXPECT_THAT(record("first").identities, testing::IsEmpty());

  EXPECT_EQ(code(change({.identities = {{{"mtls", "", "CN=a"}, {"mtls", "", "CN=a"}}}})), ErrorCode::invalid_argument);

  // The bound is one of what there is then, not of what a change names.
  LabelChange many;
  for (int i = 0; i < 62; ++i) many["l" + std::to_string(i)] = "";
  ASSERT_TRUE(change({.labels = many}));
  EXPECT_EQ(code(change({.labels = {{"one-more", ""}}})), ErrorCode::invalid_argument);
  EXPECT_TRUE(change({.labels = {{"one-more", ""}, {"desk", std::nullopt}}}));
}

TEST_P(DirectoryTest, ChangesOfTwoNodesAtOnceAllHappenOrAreRefused) {
  const auto other_database = files_.open();
  const auto other = open_directory(*other_database);
  std::atomic<int> made{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Directory& node = i % 2 == 0 ? *directory_ : *other;
      for (int k = 0; k < 5; ++k) {
        if (node.create_key(security_, {.principal = "first"})) ++made;
        // One name, four who want it.
        static_cast<void>(node.create_principal(system_, {.id = "wanted" + std::to_string(k)}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(directory_->refresh());
  EXPECT_EQ(static_cast<int>(directory_->snapshot()->keys.size()), made + 2);
  EXPECT_EQ(directory_->snapshot()->principals.size(), 2u + 5u);
}

}  // namespace
}  // namespace redoubt
