// The whole door over a real directory and the default policies, with every route there is.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "governance/default_policies.h"
#include "governance/directory_fixture.h"
#include "governance/limit_service.h"
#include "governance/policy.h"
#include "governance/policy_store.h"
#include "server/admin_call.h"
#include "server/admin_limits.h"
#include "server/admin_policies.h"
#include "server/health.h"
#include "server/http_test_client.h"
#include "server/identity_gate.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/routes_fixture.h"
#include "server/telling_handler.h"
#include "token_signer.h"

namespace redoubt {

class People final : public test::DirectoryFixture {
 public:
  People() { SetUp(); }
  void TestBody() override {}
  using DirectoryFixture::clock_;
  using DirectoryFixture::database_;
  using DirectoryFixture::directory_;
  using DirectoryFixture::first_;
  using DirectoryFixture::wall_;

  std::string key_of(const std::string& principal, std::vector<std::string> scopes = {}, int64_t expires_in_s = 0) {
    auto key = directory_->create_key(
        nullptr, {.principal = principal, .scopes = std::move(scopes), .expires_in_s = expires_in_s});
    EXPECT_TRUE(key) << (key ? "" : key.error().message);
    return key ? key->text : "";
  }
  void user(const std::string& id, PrincipalChange fields = {}) {
    const Status made = directory_->create_principal(nullptr, {.id = id, .fields = std::move(fields)});
    EXPECT_TRUE(made) << (made ? "" : made.error().message);
  }
};

// The gate behind a listener that verified a client certificate: here its subject is in a header.
class CertificateGate final : public Gate {
 public:
  explicit CertificateGate(std::shared_ptr<Gate> behind) : behind_(std::move(behind)) {}
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    HttpRequest shown = head;
    const std::string subject(head.header("x-subject"));
    if (!subject.empty()) shown.tls_peer = TlsPeer{.subject = subject, .names = {}, .expires_at_s = INT64_MAX};
    return behind_->enter(shown, route);
  }

 private:
  const std::shared_ptr<Gate> behind_;
};

struct Caller {
  std::string name;
  std::string key;      // or a token
  std::string subject;  // of a verified client certificate
  bool known = true;
  std::vector<std::string> scopes{};
};

class Door : public Routes {
 protected:
  void SetUp() override {
    Routes::SetUp();
    oidc = OidcVerifier::create({{.name = "corp",
                                  .issuer = "https://idp.example",
                                  .audiences = {"redoubt"},
                                  .jwks_url = "https://idp.example/keys",
                                  .admit_unknown = true}})
               .value();
    oidc->set_keys(0, JwkSet::parse(signer.jwks()).value());
    policy_store = PolicyStore::open(*people.database_, {}, people.clock_, people.wall_, {}, 0).value();
    limits = LimitService::open(*people.database_, "door", people.clock_, people.wall_).value();
    // So many wrong keys from one address would lock it out, which is another test's matter.
    identity = std::make_unique<Identity>(*people.directory_, oidc.get(), people.clock_, people.wall_,
                                          IdentityOptions{.lockout = {.failures = 1 << 30}});
    auto made = PolicyEngine::with_text(std::string(default_policy_text()));
    ASSERT_TRUE(made) << made.error().message;
    policies = std::move(*made);
    gate = make_identity_gate(*identity, policies, people.wall_);
  }
  HttpOptions options() const {
    HttpOptions result;
    result.gate = gate;
    result.admin = AdminListener{};
    return result;
  }
  std::vector<Route> all_routes() {
    std::vector<Route> all = make_routes(context);
    all.push_back(metrics_route(std::make_shared<ServerMetrics>()));
    for (Route& route : health_routes(std::make_shared<Health>([] { return HealthState(); }, people.clock_)))
      all.push_back(std::move(route));
    add_admin_identity_routes(*people.directory_, people.wall_, all);
    add_policy_routes(*policy_store, *people.directory_, {}, all);
    add_limit_routes({*limits.store, *limits.ledger, people.wall_}, all);
    for (Route& route : openapi_routes(all, "0")) all.push_back(std::move(route));
    count_requests(context, all);
    return all;
  }
  // The same, each telling the secret.
  std::vector<Route> telling_routes() {
    std::vector<Route> all = all_routes();
    for (Route& route : all) route.handler = telling_handler(route);
    return all;
  }
  static std::string ask_at(uint16_t port, const Route& route, const std::string& key,
                            const std::string& subject = "") {
    std::string path = route.path;
    for (size_t open; (open = path.find('{')) != std::string::npos;) path.replace(open, path.find('}') - open + 1, "x");
    RawClient client(port);
    client.send(route.method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" +
                (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n") +
                (subject.empty() ? "" : "X-Subject: " + subject + "\r\n") +
                (route.method == "GET" ? "\r\n" : "Content-Length: 2\r\n\r\n{}"));
    return client.read_all(10000);
  }
  bool engine_permits(const PrincipalPtr& who, const Route& route) const {
    const bool model = route.rule->resource == "Model";
    const auto allowed = [&](std::string_view kind, const std::string& id) {
      return policies->decide(AuthorizationRequest(*who, route.rule->action, kind, id,
                                                   {.now_ms = people.wall_.now_ms(), .source_ip = "127.0.0.1"}),
                              model && kind == "Route");
    };
    const Decision on_route = allowed("Route", route_id(route));
    return model ? !on_route.forbidden() && allowed("Model", "tiny").allowed : on_route.allowed;
  }

  std::string token(const std::string& subject, int64_t lasts_s = 600) const {
    const int64_t now_s = people.wall_.now_s();
    return signer.token({{"iss", "https://idp.example"},
                         {"aud", "redoubt"},
                         {"sub", subject},
                         {"iat", now_s - 1000},
                         {"exp", now_s + lasts_s}});
  }

  // Who was answered where: "alice" and "admin PUT /admin/v1/limits".
  using Answered = std::set<std::pair<std::string, std::string>>;
  // Every route × caller × listener, each answered as the rule, the scopes and the policies say.
  Answered ask_all(const std::vector<Caller>& callers) {
    const std::vector<Route> all = telling_routes();
    HttpOptions with_certificates = options();
    with_certificates.gate = std::make_shared<CertificateGate>(gate);
    RunningServer server(all, with_certificates);
    Answered answered;
    for (const Caller& caller : callers) {
      SCOPED_TRACE(caller.name);
      PrincipalPtr who;
      if (caller.known) {
        const ClientCertificate certificate{.subject = caller.subject, .names = {}, .expires_at_s = INT64_MAX};
        auto known = identity->authenticate({.bearer = caller.key,
                                             .certificate = caller.subject.empty() ? nullptr : &certificate,
                                             .source_address = "127.0.0.1"});
        if (!known) {
          ADD_FAILURE() << known.error().message;
          continue;
        }
        who = *known;
      }
      for (const Route& route : all) {
        SCOPED_TRACE(route_id(route));
        const bool scoped = caller.scopes.empty() || route.rule->action == caller.scopes[0];
        for (const bool admin : {false, true}) {
          const RouteListener listener = route.rule->listener;
          const bool here = listener == RouteListener::both || (listener == RouteListener::admin) == admin;
          const int expected = route.rule->strangers        ? 200
                               : !caller.known              ? 401
                               : !here                      ? 404
                               : !scoped                    ? 403
                               : engine_permits(who, route) ? 200
                                                            : 403;
          const std::string answer =
              ask_at(admin ? server.server->admin_port() : server.port(), route, caller.key, caller.subject);
          const int status = status_of(answer);
          EXPECT_EQ(status, expected) << (admin ? "admin " : "client ") << answer;
          EXPECT_EQ(answer.find(kSecret) != std::string::npos, expected == 200) << answer;
          if (status == 200) answered.emplace(caller.name, (admin ? "admin " : "client ") + route_id(route));
        }
      }
    }
    return answered;
  }
  static std::set<std::string> of(const Answered& answered, const std::string& name) {
    std::set<std::string> routes;
    for (const auto& [who, route] : answered) {
      if (who == name) routes.insert(route);
    }
    return routes;
  }

  People people;
  test::TokenSigner signer{SignatureAlgorithm::es256};
  std::unique_ptr<OidcVerifier> oidc;
  std::unique_ptr<PolicyStore> policy_store;
  LimitService limits;
  std::unique_ptr<Identity> identity;
  std::shared_ptr<PolicyEngine> policies;
  std::shared_ptr<Gate> gate;
};

}  // namespace redoubt
