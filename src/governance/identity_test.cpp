#include "governance/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <set>
#include <thread>

#include "governance/directory_fixture.h"
#include "governance/jwks_keeper.h"
#include "token_signer.h"

namespace redoubt {
namespace {

using test::TokenSigner;

constexpr std::string_view kHere = "192.0.2.7";

class IdentityTest : public test::DirectoryFixture {
 protected:
  void SetUp() override {
    DirectoryFixture::SetUp();
    identity_ = std::make_unique<Identity>(*directory_, nullptr, clock_, wall_);
  }
  Result<PrincipalPtr> by_key(std::string_view key, std::string_view from = kHere) {
    return identity_->authenticate({.bearer = key, .source_address = from});
  }
  std::unique_ptr<Identity> identity_;
};

TEST_F(IdentityTest, AKeyIsItsPrincipalInEitherHeader) {
  const auto bearer = by_key(first_.user);
  ASSERT_TRUE(bearer) << bearer.error().message;
  EXPECT_EQ((*bearer)->id, "first");
  EXPECT_EQ((*bearer)->auth_method, "api_key");
  const auto header = identity_->authenticate({.api_key = first_.user, .source_address = kHere});
  ASSERT_TRUE(header);
  EXPECT_EQ(*header, *bearer);  // made once for the key
}

TEST_F(IdentityTest, EveryOtherTextIsRefusedInTheSameWords) {
  const auto expired = directory_->create_key(owner_, {.principal = "first", .expires_in_s = 1});
  const auto revoked = directory_->create_key(owner_, {.principal = "first"});
  ASSERT_TRUE(directory_->revoke_key(owner_, revoked->id));
  wall_.advance_ms(1000);
  std::vector<std::string> texts{
      expired->text,     revoked->text, "x", std::string(1 << 20, 'k'), "rk_" + revoked->id + "_x",
      first_.user + " ", "eyJ.x.y"};
  for (size_t i = 0; i < first_.user.size(); ++i) {
    texts.push_back(first_.user);
    texts.back()[i] ^= 1;
  }
  std::set<std::string> words;
  int from = 0;
  for (const std::string& text : texts) {
    const auto refused = by_key(text, "10.0.0." + std::to_string(from++));
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::unauthenticated);
    words.insert(refused.error().message);
  }
  EXPECT_EQ(words.size(), 1u);
  EXPECT_EQ(identity_->authenticate({.source_address = kHere}).error().code, ErrorCode::unauthenticated);
}

TEST_F(IdentityTest, AWrongKeyIsNotRescuedByACertificate) {
  ASSERT_TRUE(directory_->create_principal(
      owner_, {.id = "pump", .kind = PrincipalKind::service, .fields = {.identities = {{{"mtls", "", "DNS:pump"}}}}}));
  const ClientCertificate certificate{.subject = "CN=pump", .names = {"DNS:pump"}};
  EXPECT_TRUE(identity_->authenticate({.certificate = &certificate, .source_address = kHere}));
  EXPECT_FALSE(identity_->authenticate({.bearer = "wrong", .certificate = &certificate, .source_address = kHere}));
}

TEST_F(IdentityTest, ACertificateIsOfWhomTheDirectorySays) {
  ASSERT_TRUE(directory_->create_principal(
      owner_,
      {.id = "pump",
       .kind = PrincipalKind::service,
       .fields = {.identities = {{{"mtls", "", "CN=pump,O=Works"}, {"mtls", "", "URI:spiffe://works/pump"}}}}}));
  ASSERT_TRUE(
      directory_->create_principal(owner_, {.id = "valve", .fields = {.identities = {{{"mtls", "", "DNS:valve"}}}}}));
  const auto from = [&](ClientCertificate certificate) {
    return identity_->authenticate({.certificate = &certificate, .source_address = kHere});
  };
  const int64_t later = wall_.now_s() + 10;
  const auto subject = from({.subject = "CN=pump,O=Works", .expires_at_s = later});
  ASSERT_TRUE(subject);
  EXPECT_EQ((*subject)->id, "pump");
  EXPECT_EQ((*subject)->auth_method, "mtls");
  EXPECT_EQ((*subject)->expires_at_s, later);
  EXPECT_TRUE(from({.subject = "CN=other", .names = {"URI:spiffe://works/pump"}}));
  EXPECT_FALSE(from({.subject = "CN=pump"}));
  EXPECT_FALSE(from({.subject = "CN=pump,O=Works", .names = {"DNS:valve"}}));  // of two: of neither
  wall_.advance_ms(10'000);
  EXPECT_FALSE(from({.subject = "CN=pump,O=Works", .expires_at_s = later}));
  EXPECT_EQ(identity_->current(**subject), nullptr);
  const auto valve = from({.subject = "x", .names = {"DNS:valve"}});
  ASSERT_TRUE(valve);
  EXPECT_NE(identity_->current(**valve), nullptr);
  ASSERT_TRUE(directory_->change_principal(owner_, "valve", {.disabled = true}));
  EXPECT_FALSE(from({.subject = "x", .names = {"DNS:valve"}}));
  EXPECT_EQ(identity_->current(**valve), nullptr);
}

// Else whoever may tie names to users could shut administrators out.
TEST_F(IdentityTest, ACertificateOfAnAdministratorStaysTheirsWhoeverElseItNames) {
  const auto make = [&](const std::string& id, const std::string& role, const std::string& name) {
    ASSERT_TRUE(directory_->create_principal(
        owner_, {.id = id, .fields = {.roles = {{role}}, .identities = {{{"mtls", "", name}}}}}));
  };
  make("sue", "security_admin", "CN=sue");
  make("ann", "audit_admin", "CN=ann");
  make("mal", "user", "DNS:laptop");
  make("max", "user", "URI:sue");
  const auto of = [&](ClientCertificate certificate) {
    const auto who = identity_->authenticate({.certificate = &certificate, .source_address = kHere});
    return who ? (*who)->id : "nobody";
  };
  EXPECT_EQ(of({.subject = "CN=sue", .names = {"DNS:laptop", "URI:sue"}}), "sue");
  EXPECT_EQ(of({.subject = "CN=x", .names = {"DNS:laptop", "URI:sue"}}), "nobody");
  EXPECT_EQ(of({.subject = "CN=sue", .names = {"CN=ann"}}), "nobody") << "of two administrators";
  EXPECT_EQ(of({.subject = "CN=x", .names = {"DNS:laptop"}}), "mal");
}

// Whose a token or certificate is may change while a request with it is under way.
TEST_F(IdentityTest, ACertificateThatIsNobodysAnyMoreEndsWhatItBegan) {
  ASSERT_TRUE(
      directory_->create_principal(owner_, {.id = "valve", .fields = {.identities = {{{"mtls", "", "DNS:valve"}}}}}));
  const ClientCertificate certificate{.subject = "x", .names = {"DNS:valve"}};
  const auto who = identity_->authenticate({.certificate = &certificate, .source_address = kHere});
  ASSERT_TRUE(who);
  ASSERT_TRUE(directory_->change_principal(owner_, "valve", {.identities = std::vector<ExternalIdentity>{}}));
  EXPECT_EQ(identity_->current(**who), nullptr);
  ASSERT_TRUE(
      directory_->create_principal(owner_, {.id = "pump", .fields = {.identities = {{{"mtls", "", "DNS:valve"}}}}}));
  EXPECT_EQ(identity_->current(**who), nullptr) << "it is another's by now";
}

TEST_F(IdentityTest, WhatIsRevokedOrChangedIsToldToPermitsUnderWay) {
  const auto made = directory_->create_key(owner_, {.principal = "first"});
  const PrincipalPtr who = *by_key(made->text);
  EXPECT_EQ(identity_->current(*who), who);
  const uint64_t before = identity_->version();
  ASSERT_TRUE(directory_->change_principal(owner_, "first", {.roles = {{"user", "trader"}}}));
  EXPECT_GT(identity_->version(), before);
  EXPECT_TRUE(identity_->current(*who)->has_role("trader"));
  ASSERT_TRUE(directory_->revoke_key(owner_, made->id));
  EXPECT_EQ(identity_->current(*who), nullptr);
}

TEST_F(IdentityTest, GuessersWaitAndWhoHasAKeyNeverDoes) {
  std::vector<std::string> keys;
  for (int i = 0; i < 100; ++i) {
    const std::string id = "user" + std::to_string(i);
    ASSERT_TRUE(directory_->create_principal(owner_, {.id = id}));
    keys.push_back(directory_->create_key(owner_, {.principal = id})->text);
    EXPECT_TRUE(i >= 70 || by_key(keys.back()));  // the others come for the first time, later
  }
  Result<PrincipalPtr> last = by_key("guess");
  for (int i = 0; i < 30; ++i) last = by_key(keys[0].substr(0, 12) + std::to_string(i));
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().code, ErrorCode::overloaded);
  EXPECT_EQ(retry_after_s(last.error()), 60);
  for (const std::string& key : keys) EXPECT_TRUE(by_key(key));
  ASSERT_TRUE(directory_->create_principal(
      owner_, {.id = "pump", .kind = PrincipalKind::service, .fields = {.identities = {{{"mtls", "", "DNS:pump"}}}}}));
  const ClientCertificate certificate{.subject = "CN=pump", .names = {"DNS:pump"}};
  EXPECT_TRUE(identity_->authenticate({.certificate = &certificate, .source_address = kHere}));
  const ClientCertificate other{.subject = "CN=other"};
  EXPECT_EQ(code(identity_->authenticate({.certificate = &other, .source_address = kHere})), ErrorCode::overloaded);
  EXPECT_EQ(code(by_key("guess", "192.0.2.8")), ErrorCode::unauthenticated);
  clock_.advance_ns(61'000'000'000);
  ASSERT_TRUE(directory_->refresh());
  EXPECT_EQ(code(by_key("guess")), ErrorCode::unauthenticated);
}

// Where somebody holds an old key of hers, she comes in with her new one; who goes on with the old one waits.
TEST_F(IdentityTest, AnEndedKeysFailuresCountAgainstItsOwnerAndLockNobody) {
  const auto old = directory_->create_key(owner_, {.principal = "first"});
  ASSERT_TRUE(directory_->revoke_key(owner_, old->id));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(code(by_key(old->text)), ErrorCode::unauthenticated);
  EXPECT_EQ(code(by_key(old->text)), ErrorCode::overloaded);
  EXPECT_EQ(code(by_key("guess")), ErrorCode::unauthenticated) << "the address does not wait";
  EXPECT_TRUE(by_key(first_.user));
}

// Sixteen characters that a person chose might be guessed: there a wait hides what is right too.
TEST_F(IdentityTest, AChosenKeyWaitsButWhereItCameInBefore) {
  const std::string chosen = "correct horse battery";
  ASSERT_TRUE(directory_->first_start(chosen));
  EXPECT_TRUE(by_key(chosen, "192.0.2.1"));
  for (const std::string_view from : {"192.0.2.1", "192.0.2.2"})
    for (int i = 0; i < 20; ++i) EXPECT_FALSE(by_key("wrong horse battery " + std::to_string(i), from));
  EXPECT_TRUE(by_key(chosen, "192.0.2.1"));
  EXPECT_EQ(code(by_key(chosen, "192.0.2.2")), ErrorCode::overloaded);
  EXPECT_TRUE(by_key(chosen, "192.0.2.3"));
}

TEST_F(IdentityTest, NobodyNewComesInOnAnOldDirectory) {
  EXPECT_TRUE(by_key(first_.user));
  clock_.advance_ns(2'000'000'001);
  const auto refused = by_key(first_.user);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
  EXPECT_FALSE(identity_->fresh());
  ASSERT_TRUE(directory_->refresh());
  EXPECT_TRUE(by_key(first_.user));
}

TEST_F(IdentityTest, UseIsRemembered) {
  ASSERT_TRUE(by_key(first_.user));
  int used = 0;
  const auto there = directory_->snapshot();
  for (const auto& [id, key] : there->keys) used += key->last_used_at_s->load() == wall_.now_s();
  EXPECT_EQ(used, 1);
}

TEST_F(IdentityTest, ManyThreadsComeInWhileKeysComeAndGo) {
  std::atomic<bool> stop{false};
  std::atomic<int> admitted{0}, wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      while (!stop) {
        const auto who = by_key(first_.user);
        if (who && (*who)->id == "first")
          ++admitted;
        else
          ++wrong;
      }
    });
  }
  for (int i = 0; i < 20; ++i) {
    const auto made = directory_->create_key(owner_, {.principal = "first"});
    ASSERT_TRUE(by_key(made->text));
    ASSERT_TRUE(directory_->revoke_key(owner_, made->id));
    ASSERT_FALSE(by_key(made->text, "10.0.0." + std::to_string(i)));
  }
  while (admitted == 0 && wrong == 0) std::this_thread::yield();  // a busy machine may not have let them begin
  stop = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

// With the real clock and background work, over a server that is stopped and started.
TEST(IdentityOutage, TheNodeClosesWhileTheDatabaseIsAwayAndOpensAgainByItself) {
  const test::TestDatabase files(DatabaseKind::postgres, 500);
  if (!files.available()) GTEST_SKIP() << files.why_not();
  const SteadyClock clock;
  const SystemWallClock wall;
  const auto database = files.open();
  const auto directory = Directory::open(*database, test::test_hash(), clock, wall, {.period_ms = 50}).value();
  const auto first = directory->first_start("").value();
  Identity identity(*directory, nullptr, clock, wall, {.max_age_ms = 400});
  const auto ask = [&] { return identity.authenticate({.bearer = first.user, .source_address = kHere}); };
  const auto becomes = [&](bool admitted) {
    for (int i = 0; i < 1000; ++i) {
      const auto who = ask();
      if (who.has_value() == admitted) return true;
      if (!admitted || who.error().code == ErrorCode::unavailable)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  ASSERT_TRUE(becomes(true));
  test::postgres_server()->stop();
  ASSERT_TRUE(becomes(false));
  EXPECT_EQ(ask().error().code, ErrorCode::unavailable);
  ASSERT_TRUE(test::postgres_server()->start());
  ASSERT_TRUE(becomes(true));
  // Silent instead of gone.
  test::postgres_server()->pause();
  EXPECT_TRUE(becomes(false));
  test::postgres_server()->resume();
  EXPECT_TRUE(becomes(true));
}

class TokenTest : public test::DirectoryFixture {
 protected:
  void SetUp() override {
    DirectoryFixture::SetUp();
    make({});
  }
  OidcProvider provider() const {
    return {.name = "corp",
            .issuer = "https://idp.example",
            .audiences = {"redoubt"},
            .jwks_url = "https://idp.example/jwks",
            .admit_unknown = true,
            .group_teams = {{"g-research", "research"}},
            .group_roles = {{"g-traders", "trader"}}};
  }
  void make(std::optional<OidcProvider> other) {
    identity_.reset();
    verifier_ = OidcVerifier::create({other.value_or(provider())}).value();
    verifier_->set_keys(0, JwkSet::parse(signer_.jwks()).value());
    identity_ = std::make_unique<Identity>(*directory_, verifier_.get(), clock_, wall_);
  }
  Json claims() const {
    return {{"iss", "https://idp.example"},
            {"aud", "redoubt"},
            {"sub", "alice"},
            {"exp", wall_.now_s() + 100},
            {"iat", wall_.now_s()}};
  }
  Json claims_with(const char* name, const Json& value) const {
    Json changed = claims();
    if (value.is_null())
      changed.erase(name);
    else
      changed[name] = value;
    return changed;
  }
  Result<PrincipalPtr> by_token(const std::string& token) {
    return identity_->authenticate(
        {.bearer = token,
         .source_address = "10.1." + std::to_string(from_ / 200) + "." + std::to_string(from_++ % 200)});
  }
  Result<PrincipalPtr> by_claims(const Json& claims) { return by_token(signer_.token(claims)); }

  int from_ = 0;
  TokenSigner signer_{SignatureAlgorithm::es256};
  std::unique_ptr<OidcVerifier> verifier_;
  std::unique_ptr<Identity> identity_;
};

TEST_F(TokenTest, AProvidersUserComesInWithItsGroups) {
  Json full = claims();
  full["groups"] = Json::array({"g-research", "g-traders", "g-other", 7});
  const auto who = by_claims(full);
  ASSERT_TRUE(who) << who.error().message;
  EXPECT_EQ((*who)->id, "corp:alice");
  EXPECT_EQ((*who)->tenant, "default");
  EXPECT_EQ((*who)->auth_method, "oidc");
  EXPECT_THAT((*who)->teams, testing::ElementsAre("research"));
  EXPECT_THAT((*who)->roles, testing::ElementsAre("trader", "user"));
  EXPECT_EQ((*who)->expires_at_s, wall_.now_s() + 160);
}

TEST_F(TokenTest, AUserOfTheDirectoryIsTheDirectorys) {
  ASSERT_TRUE(directory_->create_tenant(owner_, "acme", {}));
  ASSERT_TRUE(directory_->create_principal(
      owner_, {.id = "alice",
               .tenant = "acme",
               .fields = {.roles = {{"user", "lead"}}, .identities = {{{"oidc", "https://idp.example", "alice"}}}}}));
  Json full = claims();
  full["groups"] = Json::array({"g-traders"});
  const auto who = by_claims(full);
  ASSERT_TRUE(who) << who.error().message;
  EXPECT_EQ((*who)->id, "alice");
  EXPECT_EQ((*who)->tenant, "acme");
  EXPECT_THAT((*who)->roles, testing::ElementsAre("lead", "trader", "user"));
  // A role that is taken away is gone from permits under way; what the token gave stays.
  ASSERT_TRUE(directory_->change_principal(owner_, "alice", {.roles = {{"user"}}}));
  EXPECT_THAT(identity_->current(**who)->roles, testing::ElementsAre("trader", "user"));
  ASSERT_TRUE(directory_->change_principal(owner_, "alice", {.disabled = true}));
  EXPECT_EQ(identity_->current(**who), nullptr);
  EXPECT_FALSE(by_claims(full));  // although its token is remembered
}

TEST_F(TokenTest, StrangersComeInOnlyWhereThatIsSaid) {
  const auto who = by_claims(claims());
  ASSERT_TRUE(who);
  EXPECT_NE(identity_->current(**who), nullptr);
  // From now on the directory says who that is.
  const std::string subject = claims()["sub"];
  ASSERT_TRUE(directory_->create_principal(
      owner_, {.id = "known", .fields = {.identities = {{{"oidc", "https://idp.example", subject}}}}}));
  EXPECT_EQ(identity_->current(**who), nullptr);
  ASSERT_TRUE(directory_->change_principal(owner_, "known", {.identities = std::vector<ExternalIdentity>{}}));
  OidcProvider strict = provider();
  strict.admit_unknown = false;
  make(strict);
  EXPECT_FALSE(by_claims(claims()));
}

// What a provider does when a key of its own was stolen: nobody comes in by it, and who has come in goes.
TEST_F(TokenTest, AKeyThatItsProviderWithdrewEndsWhatItSigned) {
  const TokenSigner other(SignatureAlgorithm::es256);
  const auto who = by_claims(claims());
  ASSERT_TRUE(who) << who.error().message;
  ASSERT_NE(identity_->current(**who), nullptr);
  uint64_t before = identity_->version();
  Json both = *parse_json(signer_.jwks());
  const Json others = *parse_json(other.jwks());
  for (const Json& key : others["keys"]) both["keys"].push_back(key);
  verifier_->set_keys(0, JwkSet::parse(dump_json(both)).value());
  EXPECT_NE(identity_->version(), before) << "permits must look again";
  EXPECT_NE(identity_->current(**who), nullptr) << "its key is still there";
  for (const std::string& left : {other.jwks(), std::string(R"({"keys":[]})")}) {
    before = identity_->version();
    verifier_->set_keys(0, JwkSet::parse(left).value());
    EXPECT_NE(identity_->version(), before);
    EXPECT_EQ(identity_->current(**who), nullptr) << left;
  }
  verifier_->set_keys(0, JwkSet::parse(signer_.jwks()).value());
  EXPECT_NE(identity_->current(**who), nullptr);
}

TEST_F(TokenTest, EachClaimIsChecked) {
  const int64_t now_s = wall_.now_s();
  const std::pair<const char*, Json> bad[] = {{"iss", "https://other.example"},
                                              {"iss", nullptr},
                                              {"iss", 5},
                                              {"aud", "other"},
                                              {"aud", nullptr},
                                              {"aud", Json::array({"a", "b"})},
                                              {"exp", now_s - 61},
                                              {"exp", nullptr},
                                              {"exp", "soon"},
                                              {"exp", -5},
                                              {"exp", 1e300},
                                              {"nbf", now_s + 61},
                                              {"iat", now_s + 61},
                                              {"nbf", "x"},
                                              {"sub", nullptr},
                                              {"sub", ""},
                                              {"sub", 5},
                                              {"sub", std::string(300, 'a')},
                                              {"sub", "a\nb"}};
  for (const auto& [name, value] : bad) EXPECT_FALSE(by_claims(claims_with(name, value))) << name << " " << value;
  const std::pair<const char*, Json> good[] = {{"aud", Json::array({"other", "redoubt"})},
                                               {"exp", now_s - 59},
                                               {"nbf", now_s + 59},
                                               {"iat", now_s + 59},
                                               {"exp", now_s + 0.5},
                                               {"groups", "no list"}};
  for (const auto& [name, value] : good) EXPECT_TRUE(by_claims(claims_with(name, value))) << name << " " << value;
}

TEST_F(TokenTest, OtherSignersAlgorithmsAndTypesAreRefused) {
  EXPECT_FALSE(by_token(TokenSigner(SignatureAlgorithm::es256).token(claims())));
  EXPECT_FALSE(by_token(TokenSigner(SignatureAlgorithm::rs256).token(claims())));
  EXPECT_FALSE(
      by_token(signer_.sign(Json{{"alg", "ES256"}, {"kid", "k1"}, {"typ", "logout+jwt"}}, dump_json(claims()))));
  EXPECT_TRUE(by_token(signer_.sign(Json{{"alg", "ES256"}, {"kid", "k1"}, {"typ", "at+JWT"}}, dump_json(claims()))));
  OidcProvider pinned = provider();
  pinned.algorithms = {SignatureAlgorithm::rs256};
  make(pinned);
  EXPECT_FALSE(by_claims(claims()));
}

TEST_F(TokenTest, ARememberedTokenEndsWithItsTimeAndItsKey) {
  const std::string token = signer_.token(claims());
  EXPECT_TRUE(by_token(token));
  EXPECT_TRUE(by_token(token));
  const auto who = *by_token(token);
  verifier_->set_keys(0, JwkSet::parse(TokenSigner(SignatureAlgorithm::es256).jwks()).value());
  EXPECT_FALSE(by_token(token));
  verifier_->set_keys(0, JwkSet::parse(signer_.jwks()).value());
  EXPECT_TRUE(by_token(token));
  wall_.advance_ms(160'000);
  EXPECT_FALSE(by_token(token));
  EXPECT_EQ(identity_->current(*who), nullptr);
}

// A signature costs a hundred times what a key does: an address that waits gets few a second. What one proved before
// needs no other, whatever changed in the directory since.
TEST_F(TokenTest, AnAddressThatWaitsHasFewSignaturesVerified) {
  const auto here = [&](const std::string& token) {
    return identity_->authenticate({.bearer = token, .source_address = kHere});
  };
  const std::string known = signer_.token(claims());
  ASSERT_TRUE(here(known));
  const std::string forged = TokenSigner(SignatureAlgorithm::es256).token(claims());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(code(here(forged)), ErrorCode::unauthenticated);
  EXPECT_EQ(code(here(forged)), ErrorCode::overloaded);
  EXPECT_TRUE(here(signer_.token(claims_with("sub", "newcomer"))));
  for (int i = 0; i < 50; ++i) EXPECT_EQ(code(here(forged)), ErrorCode::overloaded);
  EXPECT_EQ(code(here(signer_.token(claims_with("sub", "late")))), ErrorCode::overloaded) << "in this second";
  EXPECT_TRUE(here(known));
  ASSERT_TRUE(directory_->create_principal(owner_, {.id = "somebody"}));
  EXPECT_TRUE(here(known)) << "verified once";
  clock_.advance_ns(1'000'000'000);
  EXPECT_TRUE(here(signer_.token(claims_with("sub", "late"))));
}

TEST_F(TokenTest, ConfigurationThatWouldOpenADoorIsRefused) {
  const auto refused = [&](const std::function<void(OidcProvider&)>& change) {
    OidcProvider bad = provider();
    change(bad);
    return !OidcVerifier::create({bad});
  };
  EXPECT_TRUE(refused([](auto& p) { p.audiences.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.audiences = {""}; }));
  EXPECT_TRUE(refused([](auto& p) { p.issuer.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.algorithms.clear(); }));
  EXPECT_TRUE(refused([](auto& p) { p.clock_skew_s = 3600; }));
  EXPECT_TRUE(refused([](auto& p) { p.group_roles = {{"g", "audit_admin"}}; }));
  EXPECT_TRUE(refused([](auto& p) { p.jwks_file = "both"; }));
  EXPECT_FALSE(OidcVerifier::create({provider(), provider()}));
}

TEST_F(TokenTest, KeysAreReadFromAFileWhenItChanges) {
  const auto path = files_.folder() / "jwks.json";
  OidcProvider from_file = provider();
  from_file.jwks_url.clear();
  from_file.jwks_file = path.string();
  identity_.reset();
  verifier_ = OidcVerifier::create({from_file}).value();
  JwksKeeper keeper(*verifier_, {.look_ms = 0}, clock_);
  identity_ = std::make_unique<Identity>(*directory_, verifier_.get(), clock_, wall_);
  EXPECT_EQ(by_claims(claims()).error().code, ErrorCode::unavailable);
  std::ofstream(path) << signer_.jwks();
  keeper.look();
  EXPECT_TRUE(by_claims(claims()));
  std::ofstream(path) << "broken";
  keeper.look();
  EXPECT_TRUE(by_claims(claims()));  // the keys that were there stay
}

TEST_F(TokenTest, KeysAreFetchedAgainWhenATokenNamesAnUnknownOneButNotTooOften) {
  int fetches = 0;
  std::string served = TokenSigner(SignatureAlgorithm::es256, "old").jwks();
  const auto fetch = [&](const OidcProvider& from) -> Result<std::string> {
    EXPECT_EQ(from.jwks_url, "https://idp.example/jwks");
    ++fetches;
    return served;
  };
  JwksKeeper keeper(*verifier_, {.fetch = fetch, .look_ms = 0, .fetch_s = 300, .at_once_s = 10}, clock_);
  EXPECT_EQ(fetches, 1);
  const auto later = [&](int64_t seconds) {
    clock_.advance_ns(seconds * 1'000'000'000);
    ASSERT_TRUE(directory_->refresh());
    keeper.look();
  };
  later(20);
  EXPECT_EQ(fetches, 1);
  served = signer_.jwks();
  EXPECT_FALSE(by_claims(claims()));
  later(1);
  EXPECT_EQ(fetches, 2);
  EXPECT_TRUE(by_claims(claims()));
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(by_token(TokenSigner(SignatureAlgorithm::es256, "forged").token(claims())));
    later(1);
  }
  EXPECT_EQ(fetches, 2);  // ten seconds are not over
  later(6);
  EXPECT_EQ(fetches, 3);
  later(299);
  EXPECT_EQ(fetches, 3);
  later(1);
  EXPECT_EQ(fetches, 4);
}

}  // namespace
}  // namespace redoubt
