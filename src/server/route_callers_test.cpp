// Every route of the table × every kind of caller × every listener: who is answered, and that nobody else learns a
// byte.
#include <atomic>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "server/gate.h"
#include "server/health.h"
#include "server/http_parse.h"
#include "server/http_test_client.h"
#include "server/metrics.h"
#include "server/openapi.h"
#include "server/routes_fixture.h"
#include "server/telling_handler.h"

namespace redoubt {
namespace {

// Users may do everything but administer; administrators administer and use nothing.
class Everybody final : public Authority {
 public:
  Verdict decide(const Principal& principal, const AccessQuestion& question) const override {
    const auto scope = question.context.find("scope");
    const bool administers = scope != question.context.end() && scope->second == "admin";
    if (principal.id == "forbidden") return Verdict::forbidden;
    return (principal.id == "admin") == administers ? Verdict::permitted : Verdict::not_permitted;
  }
  Status still_valid(const Principal&) const override { return ok(); }
  uint64_t version() const override { return 0; }
};

// Keys are names of principals.
class NamedGate final : public Gate {
 public:
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    const std::string key(presented_key(head.headers));
    if (key != "user" && key != "admin" && key != "forbidden" && !key.starts_with("scope:")) {
      return ApiError{401, "no such key", "authentication_error", {}, "invalid_api_key", {}};
    }
    Principal principal{.id = key};
    if (key.starts_with("scope:")) principal.scopes = {key.substr(6)};
    return enter_route(permits_.issue(std::make_shared<Principal>(std::move(principal))), head, route);
  }

 private:
  PermitRegister permits_{std::make_shared<Everybody>(), {}};
};

class RouteCallers : public Routes {
 protected:
  // The table as the program serves it, each handler replaced by one that tells the secret.
  std::vector<Route> table() {
    const auto metrics = std::make_shared<ServerMetrics>();
    std::vector<Route> all = make_routes(context);
    all.push_back(metrics_route(metrics));
    for (Route& route : health_routes(std::make_shared<Health>([] { return HealthState(); }, clock)))
      all.push_back(std::move(route));
    all.push_back(openapi_routes(all, "0").front());  // the other one is the admin listener's
    count_requests(context, all);
    for (Route& route : all) route.handler = telling_handler(route, [this] { ++answered; });
    return all;
  }
  static std::string path_of(const Route& route) {
    const size_t brace = route.path.find('{');
    return brace == std::string::npos ? route.path
                                      : route.path.substr(0, brace) + "x" + route.path.substr(route.path.find('}') + 1);
  }
  static std::string request(const std::string& method, const std::string& path, const std::string& headers) {
    return method + " " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers +
           (method == "GET" || method == "HEAD" ? "\r\n" : "Content-Length: 2\r\n\r\n{}");
  }
  static std::string key(const std::string& name) { return "Authorization: Bearer " + name + "\r\n"; }

  std::atomic<int> answered{0};
  SteadyClock clock;
};

TEST_F(RouteCallers, EachIsAnsweredAsTheRuleSays) {
  const std::vector<Route> all = table();
  HttpOptions options;
  options.gate = std::make_shared<NamedGate>();
  options.cors_origins = {"https://chat.example"};
  RunningServer server(all, options);
  int tried = 0, let_in = 0;
  for (const Route& route : all) {
    SCOPED_TRACE(route.method + " " + route.path);
    const RouteRule& rule = *route.rule;
    std::map<std::string, std::pair<std::string, int>> callers = {
        {"stranger", {"", 401}},
        {"wrong key", {key("nobody"), 401}},
        {"empty key", {key(""), 401}},
        {"prefix of a key", {key("use"), 401}},
        {"key in the wrong scheme", {"Authorization: Basic user\r\n", 401}},
        {"key in a cookie", {"Cookie: key=user\r\n", 401}},
        {"right key", {key("user"), 200}},
        {"right key as X-Api-Key", {"X-Api-Key: user\r\n", 200}},
        {"right scope", {key("scope:" + rule.scope), 200}},
        {"right action as scope", {key("scope:" + rule.action), 200}},
        {"another scope", {key("scope:other"), 403}},
        {"an administrator", {key("admin"), 403}},
        {"forbidden by a policy", {key("forbidden"), 403}},
        {"stranger of a configured origin", {"Origin: https://chat.example\r\n", 401}},
        {"stranger who claims loopback", {"X-Forwarded-For: 127.0.0.1\r\n", 401}},
    };
    for (const auto& [name, caller] : callers) {
      SCOPED_TRACE(name);
      const int expected = rule.strangers ? 200 : caller.second;
      const std::string answer = server.ask(request(route.method, path_of(route), caller.first));
      EXPECT_EQ(status_of(answer), expected) << answer;
      EXPECT_EQ(answer.find(kSecret) != std::string::npos, expected == 200) << answer;
      ++tried;
      let_in += expected == 200 ? 1 : 0;
    }
    // Other methods on the path give nothing away without a key either.
    for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"}) {
      const bool same = method == route.method || (route.method == "GET" && std::string_view(method) == "HEAD");
      if (same && rule.strangers) continue;
      const int status = status_of(server.ask(request(method, path_of(route), "")));
      EXPECT_EQ(status, 401) << method;
    }
  }
  EXPECT_GT(tried, 300);
  EXPECT_GE(answered, let_in);
}

TEST_F(RouteCallers, OnlyStatusAnswersStrangers) {
  std::set<std::string> open;
  for (const Route& route : table()) {
    if (route.rule->strangers) open.insert(route.path);
  }
  EXPECT_EQ(open, (std::set<std::string>{"/health", "/livez", "/readyz"}));
}

TEST_F(RouteCallers, ARouteWithoutARuleCannotBeRegistered) {
  const auto refused = [](Route route) {
    route.handler = [](auto, auto) {};
    std::vector<Route> routes;
    routes.push_back(std::move(route));
    const auto server = HttpServer::listen({.port = 0, .gate = make_open_gate()}, std::move(routes));
    return server ? std::string() : server.error().message;
  };
  EXPECT_EQ(refused({.method = "GET", .path = "/side"}), "route GET /side: has no rule");
  EXPECT_EQ(refused({.method = "GET", .path = "/side", .rule = status_rule()}),
            "route GET /side: may not answer strangers");
  EXPECT_EQ(refused({.method = "POST", .path = "/livez", .rule = status_rule()}),
            "route POST /livez: may not answer strangers");
  EXPECT_NE(refused({.method = "GET", .path = "/side", .rule = RouteRule{}}), "");
  EXPECT_NE(refused({.method = "GET", .path = "/side", .rule = RouteRule{.action = "x", .resource = "Model"}}), "");
  EXPECT_EQ(refused({.method = "GET", .path = "/side", .rule = read_server_rule()}), "");
  RouteRule uncounted = read_server_rule();
  uncounted.rate.reset();
  EXPECT_EQ(refused({.method = "GET", .path = "/side", .rule = uncounted}),
            "route GET /side: its rule names no rate class");
  EXPECT_EQ(refused({.method = "GET", .path = "/side", .rule = describe_model_rule()}),
            "route GET /side: its requests are not counted");
  RouteRule client_admin = admin_rule("manage_keys");
  client_admin.listener = RouteListener::client;
  EXPECT_NE(refused({.method = "GET", .path = "/side", .rule = client_admin}), "");
  std::vector<Route> twice(2, Route{.method = "GET", .path = "/side", .rule = read_server_rule()});
  EXPECT_FALSE(HttpServer::listen({.port = 0, .gate = make_open_gate()}, twice).has_value());
}

// A stranger's requests, bent in every way we know; whatever they are taken for, no byte of a closed route leaves. The
// same ones in each run; with REDOUBT_SOAK others in each, and more.
TEST_F(RouteCallers, NoBentRequestGetsInWithoutAKey) {
  std::vector<Route> all = table();
  for (Route& route : all) {
    if (route.rule->strangers) route.handler = [](auto, auto writer) { writer->send(200, "text/plain", "open"); };
  }
  HttpOptions options;
  options.gate = std::make_shared<NamedGate>();
  options.cors_origins = {"https://chat.example"};
  RunningServer server(all, options);
  const bool is_long = std::getenv("REDOUBT_SOAK") != nullptr;
  uint64_t state = is_long ? std::random_device()() : 20251126;
  const uint64_t seed = state;
  const int rounds = is_long ? 20'000 : 600;
  const auto draw = [&](size_t count) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % count;
  };
  const auto pick = [&](const std::vector<std::string>& from) { return from[draw(from.size())]; };
  const std::string overlong("\xc0\xaf"), nul(1, '\0');
  int answers = 0;
  for (int round = 0; round < rounds; ++round) {
    const Route& route = all[draw(all.size())];
    if (route.rule->strangers) continue;
    std::string path = path_of(route);
    switch (draw(12)) {
      case 0:
        path = "/livez/.." + path;
        break;
      case 1:
        path = "//" + path.substr(1);
        break;
      case 2:
        path = "/livez%2f.." + path;
        break;
      case 3:
        path.insert(1 + draw(path.size() - 1), "%00");
        break;
      case 4:
        path.insert(draw(path.size()), overlong);
        break;
      case 5:
        path = "http://x" + path;
        break;
      case 6:
        path += pick({"/", "?key=user", "#x", ";livez", "%20", "/livez"});
        break;
      case 7:
        path = "/livez?" + path;
        break;
      case 8:
        path = "/./livez;" + path;
        break;
      case 9:
        path.insert(1, nul);
        break;
      case 10:
        path = "/" + std::string(draw(60000), 'a') + path;
        break;
      default:
        break;
    }
    const std::string method =
        pick({route.method, "GET", "POST", "get", "OPTIONS", "HEAD", "PRI", "QUERY", "G\xc3\x8bT"});
    std::string head = method + pick({" ", "  ", "\t"}) + path +
                       pick({" HTTP/1.1", " HTTP/1.1", " HTTP/1.0", "", " HTTP/2.0"}) + "\r\n";
    head += pick({"Host: x\r\n", "Host: x\nHost: x\r\n", "Host : x\r\n", "", "Host: 127.0.0.1\r\n"});
    const std::string inner = request(route.method, path_of(route), "");
    const std::vector<std::string> bends = {"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
                                            "Content-Length: 2\r\nContent-Length: 0\r\n",
                                            "Transfer-Encoding: xchunked\r\n",
                                            "Transfer-Encoding:\tchunked\r\n",
                                            "X: y\r\n Authorization: Bearer user\r\n",
                                            "X: y\nAuthorization: Bearer user\r\n",
                                            "Authorization: Bearer use\r\nAuthorization: Bearer user\r\n",
                                            "Authorization: Bearer user\x01\r\n",
                                            "Upgrade: h2c\r\nConnection: Upgrade\r\n",
                                            "X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
                                            "X-Original-URL: /livez\r\nX-Rewrite-URL: /livez\r\n",
                                            "Origin: https://chat.example\r\nAccess-Control-Request-Method: GET\r\n",
                                            "X-Api-Key: " + nul + "user\r\n",
                                            "Content-Length: " + std::to_string(inner.size()) + "\r\n",
                                            "Connection: close\r\n",
                                            ""};
    head += pick(bends) + pick(bends) + "Connection: close\r\n\r\n";
    RawClient client(server.port());
    client.send(head + pick({"", "{}", inner, "0\r\n\r\n" + inner}));
    std::string answer;
    for (size_t before = 0;; before = answer.size()) {
      if (!client.read_some(answer, 200) || answer.size() == before) break;
    }
    EXPECT_EQ(answer.find(kSecret), std::string::npos) << "seed " << seed << "\n" << head << "\n----\n" << answer;
    answers += answer.empty() ? 0 : 1;
  }
  EXPECT_GT(answers, rounds * 2 / 3);
  EXPECT_EQ(answered, 0) << "no handler of a closed route ran";
  EXPECT_EQ(status_of(server.ask(request("GET", "/livez", ""))), 200) << "and the server still answers";
}

TEST_F(RouteCallers, AHandlerThatForgetsToAskAnswersNobody) {
  const auto tells = [](auto, auto writer) { writer->send(200, "text/plain", std::string(kSecret)); };
  const auto streams = [](auto, auto writer) {
    writer->start_stream(200, "text/event-stream");
    writer->write(std::string(kSecret));
    writer->end();
  };
  RunningServer server({{.method = "GET", .path = "/whole", .rule = generate_rule(), .handler = tells},
                        {.method = "GET", .path = "/stream", .rule = generate_rule(), .handler = streams}});
  for (const char* path : {"/whole", "/stream"}) {
    const std::string answer = server.ask(request("GET", path, ""));
    EXPECT_EQ(status_of(answer), 500);
    EXPECT_EQ(answer.find(kSecret), std::string::npos) << answer;
  }
}

}  // namespace
}  // namespace redoubt
