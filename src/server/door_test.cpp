// The whole door over a real directory and the default policies: every route × every kind of caller × both listeners,
// and what happens to a stream when its key, its user or its policy goes.
#include <atomic>
#include <chrono>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/door_fixture.h"

namespace redoubt {
namespace {

TEST_F(Door, PoliciesThatAreTooOldPermitNothing) {
  std::atomic<bool> fresh = true;
  const auto door = make_identity_gate(*identity, policies, people.wall_, [&] { return fresh.load(); });
  people.user("alice");
  HttpRequest head{.method = "GET", .path = "/v1/models"};
  head.headers = {{"authorization", "Bearer " + people.key_of("alice")}};
  Route route{.method = "GET", .path = "/v1/models"};
  route.rule = read_server_rule();
  const auto enters = [&] { return std::holds_alternative<std::shared_ptr<Permit>>(door->enter(head, &route)); };
  EXPECT_TRUE(enters());
  fresh = false;
  const auto answer = door->enter(head, &route);
  const auto* refused = std::get_if<ApiError>(&answer);
  ASSERT_NE(refused, nullptr);
  EXPECT_EQ(refused->status, 503) << "an outage, and no verdict";
  EXPECT_EQ(refused->code, "unavailable");
  EXPECT_NE(refused->message.find("the database is away"), std::string::npos) << refused->message;
  EXPECT_EQ(refused->headers, (HttpHeaders{{"Retry-After", "1"}}));
  fresh = true;
  EXPECT_TRUE(enters());
}

TEST_F(Door, ThatIsClosedAdmitsNobodyAndSaysWhy) {
  people.user("alice");
  const std::string key = people.key_of("alice");
  std::string why;
  gate = make_identity_gate(*identity, policies, people.wall_, nullptr, [&] { return why; });
  const std::vector<Route> all = telling_routes();
  RunningServer server(all, options());
  for (const Route& route : all) {
    why = "the clocks are apart";
    const std::string answer = ask_at(server.port(), route, key);
    if (route.rule->strangers) {
      EXPECT_EQ(status_of(answer), 200) << route_id(route);
      continue;
    }
    EXPECT_EQ(status_of(answer), 503) << route_id(route);
    EXPECT_NE(answer.find("Retry-After: 1"), std::string::npos) << answer;
    EXPECT_NE(answer.find(why), std::string::npos) << answer;
    why.clear();
    EXPECT_NE(status_of(ask_at(server.port(), route, key)), 503) << route_id(route);
  }
}

TEST_F(Door, EveryRouteAnswersWhomThePoliciesPermitAndNobodyElse) {
  people.user("alice");
  people.user("gone");
  people.user("carl", {.identities = {{{"mtls", "", "CN=carl,O=Bank"}}}});
  people.user("dora", {.identities = {{{"oidc", "https://idp.example", "dora"}}}});
  ASSERT_TRUE(
      people.directory_->create_principal(nullptr, {.id = "nightly",
                                                    .kind = PrincipalKind::service,
                                                    .fields = {.identities = {{{"mtls", "", "CN=nightly,O=Bank"}}}}}));
  ASSERT_TRUE(
      people.directory_->create_principal(nullptr, {.id = "idle", .fields = {.roles = std::vector<std::string>()}}));
  const auto appointed = people.directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"});
  ASSERT_TRUE(appointed) << appointed.error().message;
  std::vector<Caller> callers = {{"stranger", "", "", false},
                                 {"wrong key", "rk_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "", false},
                                 {"expired key", people.key_of("alice", {}, 1), "", false},
                                 {"revoked key", people.key_of("alice"), "", false},
                                 {"key of a disabled user", people.key_of("gone"), "", false},
                                 {"user", people.key_of("alice"), ""},
                                 {"user without a role", people.key_of("idle"), ""},
                                 {"narrowed key", people.key_of("alice", {"tokenize"}), "", true, {"tokenize"}},
                                 {"service", people.key_of("nightly"), ""},
                                 {"appointing key that is used up", people.first_.appointing, "", false},
                                 {"certificate of a user", "", "CN=carl,O=Bank"},
                                 {"certificate of a service", "", "CN=nightly,O=Bank"},
                                 {"certificate of nobody", "", "CN=carl,O=Bakery", false},
                                 {"wrong key with a certificate",
                                  "rk_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "CN=carl,O=Bank", false},
                                 {"token", token("erik"), ""},
                                 {"token of a user", token("dora"), ""},
                                 {"token that is over", token("erik", -100), "", false},
                                 {"token that another signed",
                                  test::TokenSigner(SignatureAlgorithm::es256)
                                      .token({{"iss", "https://idp.example"},
                                              {"aud", "redoubt"},
                                              {"sub", "erik"},
                                              {"exp", people.wall_.now_s() + 600}}),
                                  "", false}};
  callers.push_back({"system administrator", appointed->system.text, ""});
  callers.push_back({"security administrator", appointed->security.text, ""});
  callers.push_back({"audit administrator", appointed->audit.text, ""});
  people.wall_.advance_ms(2000);
  ASSERT_TRUE(people.directory_->revoke_key(nullptr, callers[3].key.substr(3, 8)));
  ASSERT_TRUE(people.directory_->change_principal(nullptr, "gone", {.disabled = true}));

  const Answered answered = ask_all(callers);
  const std::set<std::string> status = of(answered, "stranger"), user = of(answered, "user");
  EXPECT_EQ(status.size(), 6u) << "three status routes on two listeners";
  EXPECT_GT(user.size(), 20u);
  EXPECT_TRUE(user.contains("client POST /v1/chat/completions"));
  for (const char* name : {"service", "certificate of a user", "certificate of a service", "token", "token of a user"})
    EXPECT_EQ(of(answered, name), user) << name;
  for (const Caller& caller : callers) {
    if (caller.known) continue;
    EXPECT_EQ(of(answered, caller.name), status) << caller.name;
  }
  EXPECT_LT(of(answered, "user without a role").size(), user.size());
  EXPECT_LT(of(answered, "narrowed key").size(), user.size());
  // Written down beside the policies, which the matrix above asks: whose part of administration is whose.
  const auto who = [&](const std::string& route) {
    std::set<std::string> names;
    for (const auto& [name, answer] : answered) {
      if (answer == route) names.insert(name);
    }
    return names;
  };
  const std::string system = "system administrator", security = "security administrator";
  EXPECT_EQ(who("admin PUT /admin/v1/policies"), std::set<std::string>{security});
  EXPECT_EQ(who("admin PUT /admin/v1/limits"), std::set<std::string>{security});
  EXPECT_EQ(who("admin POST /admin/v1/users"), std::set<std::string>{system});
  EXPECT_EQ(who("admin POST /admin/v1/administrators"), std::set<std::string>{});
  EXPECT_TRUE(who("admin GET /admin/v1/policies").contains("audit administrator"));
}

TEST_F(Door, TheAppointingKeyAppointsAndNothingElse) {
  const Answered answered = ask_all({{"stranger", "", "", false}, {"appointing key", people.first_.appointing, ""}});
  std::set<std::string> more = of(answered, "appointing key");
  for (const std::string& route : of(answered, "stranger")) more.erase(route);
  EXPECT_EQ(more, std::set<std::string>{"admin POST /admin/v1/administrators"});
}

TEST_F(Door, ListsHoldTheModelsThatTheCallerIsPermitted) {
  people.user("alice");
  people.user("bob", {.roles = std::vector<std::string>{}});
  const std::string alice = people.key_of("alice"), bob = people.key_of("bob");
  RunningServer server(all_routes(), options());
  const auto get = [&](const std::string& path, const std::string& key) {
    return server.ask("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " + key + "\r\n\r\n");
  };
  const auto names = [&](const std::string& path, const std::string& key) {
    const std::string answer = get(path, key);
    const auto body = parse_json(answer.substr(answer.find("\r\n\r\n") + 4));
    std::vector<std::string> found;
    if (!body) return found;
    for (const char* list : {"data", "models"}) {
      for (const Json& model : body->value(list, Json::array()))
        found.push_back(model.contains("id") ? model["id"] : model["name"]);
    }
    return found;
  };
  const std::vector<std::string> both{"tiny", "other"}, one{"tiny"};
  for (const char* path : {"/v1/models", "/api/tags"}) EXPECT_EQ(names(path, alice), both) << path;
  EXPECT_EQ(names("/api/ps", alice), one);
  for (const char* path : {"/v1/models", "/api/tags", "/api/ps"}) {
    const std::string answer = get(path, bob);
    EXPECT_EQ(status_of(answer), 403) << path;
    EXPECT_EQ(answer.find("tiny"), std::string::npos) << "no name of a model";
  }
  EXPECT_EQ(status_of(get("/v1/models/tiny", bob)), 403);
  ASSERT_TRUE(policies->replace(
      std::string(default_policy_text()) +
          "forbid (principal, action, resource == Redoubt::Model::\"other\");"
          "permit (principal == Redoubt::User::\"bob\", action, resource == Redoubt::Model::\"other\");",
      policies->version() + 1));
  for (const char* path : {"/v1/models", "/api/tags"}) {
    EXPECT_EQ(names(path, alice), one) << path;
    EXPECT_EQ(status_of(get(path, bob)), 403) << path;
  }
  EXPECT_EQ(status_of(get("/v1/models/tiny", alice)), 200);
  EXPECT_EQ(status_of(get("/v1/models/other", alice)), 403);
}

TEST_F(Door, EachListenerDescribesItsOwnRoutes) {
  const std::vector<Route> documents = openapi_routes(all_routes(), "0");
  ASSERT_EQ(documents.size(), 2u);
  people.user("alice");
  const auto appointed = people.directory_->appoint(nullptr, {.system = "sam", .security = "sue", .audit = "ann"});
  ASSERT_TRUE(appointed) << appointed.error().message;
  RunningServer server(all_routes(), options());
  const std::string clients = ask_at(server.port(), documents[0], people.key_of("alice"));
  EXPECT_NE(clients.find("/v1/chat/completions"), std::string::npos);
  EXPECT_EQ(clients.find("/admin/"), std::string::npos);
  const std::string administration = ask_at(server.server->admin_port(), documents[1], appointed->audit.text);
  EXPECT_NE(administration.find("/admin/v1/users"), std::string::npos);
  EXPECT_EQ(administration.find("/v1/chat/completions"), std::string::npos);
}

TEST_F(Door, APriorityIsForThoseWhomAPolicyPermitsIt) {
  people.user("alice");
  const std::string key = people.key_of("alice");
  RunningServer server(all_routes(), options());
  const auto status = [&] {
    const std::string body = ask({{"priority", -5}}).dump();
    return status_of(server.ask("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " +
                                key + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body));
  };
  EXPECT_EQ(status(), 403);
  ASSERT_TRUE(policies->replace(std::string(default_policy_text()) +
                                    "permit (principal, action == Redoubt::Action::\"set_priority\", resource)"
                                    "when { context.priority >= -10 };",
                                policies->version() + 1));
  EXPECT_EQ(status(), 200);
  EXPECT_EQ(engine->last.priority, 5);
  EXPECT_EQ(engine->last.tenant, "default");
}

// Asks for a stream that the engine holds, does something, and reads how it ends.
class Revocation : public Door {
 protected:
  void ends_within_a_second(const std::string& key, const std::function<void()>& change,
                            const std::string& code = "revoked", const std::string& says = "access was revoked") {
    engine->hold = true;
    RunningServer server(all_routes(), options());
    const std::string body = ask({{"stream", true}}).dump();
    RawClient client(server.port());
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key +
                "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
                body);
    const std::string head = client.read_until("text/event-stream");
    ASSERT_EQ(status_of(head), 200) << head;
    ASSERT_TRUE(eventually([&] { return !engine->generations.empty(); }));
    const auto began = std::chrono::steady_clock::now();
    change();
    const std::string rest = client.read_until("0\r\n\r\n", 3000);
    const auto took = std::chrono::steady_clock::now() - began;
    EXPECT_NE(rest.find("\"code\":\"" + code + "\""), std::string::npos) << rest;
    EXPECT_NE(rest.find(says), std::string::npos) << rest;
    EXPECT_LT(took, std::chrono::seconds(1));
    EXPECT_TRUE(eventually([&] { return engine->generations.back()->cancelled > 0; }));
    engine->held.clear();
  }
};

TEST_F(Revocation, OfAKeyEndsItsStreams) {
  people.user("alice");
  const std::string key = people.key_of("alice");
  ends_within_a_second(key, [&] { EXPECT_TRUE(people.directory_->revoke_key(nullptr, key.substr(3, 8))); });
}

TEST_F(Revocation, OfAUserEndsTheirStreams) {
  people.user("alice");
  ends_within_a_second(people.key_of("alice"),
                       [&] { EXPECT_TRUE(people.directory_->change_principal(nullptr, "alice", {.disabled = true})); });
}

TEST_F(Revocation, OfARoleEndsWhatItPermitted) {
  people.user("alice");
  ends_within_a_second(people.key_of("alice"), [&] {
    EXPECT_TRUE(people.directory_->change_principal(nullptr, "alice", {.roles = std::vector<std::string>{}}));
  });
}

TEST_F(Revocation, OfAPolicyEndsWhatItPermitted) {
  people.user("alice");
  ends_within_a_second(people.key_of("alice"), [&] {
    EXPECT_TRUE(policies->replace(
        std::string(default_policy_text()) + "forbid (principal, action, resource == Redoubt::Model::\"tiny\");",
        policies->version() + 1));
  });
}

// It might have missed a revocation; but it was none, and the client may come again.
TEST_F(Revocation, IsNotWhatAnOutageIsCalled) {
  std::atomic<bool> fresh = true;
  gate = make_identity_gate(*identity, policies, people.wall_, [&] { return fresh.load(); });
  people.user("alice");
  ends_within_a_second(
      people.key_of("alice"), [&] { fresh = false; }, "unavailable", "the database is away");
  gate = nullptr;
}

}  // namespace
}  // namespace redoubt
