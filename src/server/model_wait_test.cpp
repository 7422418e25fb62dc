// Requests that wait for a model to be loaded: they hold no worker, and each is answered when the load ends.
#include <gtest/gtest.h>

#include <vector>

#include "governance/limits_fixture.h"
#include "server/health.h"
#include "server/http_test_client.h"
#include "server/metrics.h"
#include "server/routes_fixture.h"

namespace redoubt {
namespace {

constexpr int kWaiting = 8;  // twice as many as there are workers

class ModelWaits : public Routes {
 protected:
  void SetUp() override {
    Routes::SetUp();
    host.other_is_loadable = true;
  }
  std::vector<Route> served() {
    std::vector<Route> all = routes;
    for (Route& route : health_routes(std::make_shared<Health>([] { return HealthState(); }, clock)))
      all.push_back(std::move(route));
    return all;
  }
  static std::string request_for(const std::string& model, const std::string& path, const Json& more = Json::object()) {
    Json body = ask({{"model", model}, {"max_tokens", 5}});
    body.update(more);
    const std::string text = body.dump();
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n" +
           "Content-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
  }
  // So many requests for the model that is not loaded, streamed and not.
  std::vector<RawClient> wait_for_other(const RunningServer& server) {
    std::vector<RawClient> clients;
    for (int i = 0; i < kWaiting; ++i) {
      clients.emplace_back(server.port());
      clients.back().send(request_for("other", "/v1/chat/completions", {{"stream", i % 2 == 1}}));
    }
    EXPECT_TRUE(eventually([&] { return host.waiting() == kWaiting; }));
    return clients;
  }

  // Each tenant has so many requests a minute.
  struct Limited {
    explicit Limited(ModelWaits& test, int64_t requests = 100) {
      EXPECT_TRUE(prepare_quota_tables(*reader, wall));
      node.limits.set_rules({.rules = {{.scope = LimitScope::tenant,
                                        .subject = "*",
                                        .kind = LimitKind::requests_per_minute,
                                        .model = {},
                                        .amount = requests}}});
      test.context.limits = &node.limits;
    }
    int64_t settled_requests() {
      EXPECT_TRUE(node.limits.sync());
      return test::settled_of(*reader, "requests_per_minute", wall.now_ms());
    }
    test::TestDatabase files{DatabaseKind::sqlite, 10'000};
    SystemWallClock wall;
    std::unique_ptr<Database> reader = files.open();
    test::Node node{files.open(), "local", wall};
  };

  SteadyClock clock;
};

TEST_F(ModelWaits, HoldNoWorkerAndAreAllAnswered) {
  const RunningServer server(served());
  std::vector<RawClient> clients = wait_for_other(server);
  EXPECT_EQ(status_of(server.ask(request_for("tiny", "/v1/chat/completions"))), 200);
  EXPECT_EQ(status_of(server.ask("GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")), 200);
  EXPECT_EQ(status_of(server.ask("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")), 200);
  ServerMetrics metrics;
  metrics.set_host(&host);
  EXPECT_NE(metrics.text().find("vllm:num_requests_waiting{model_name=\"other\",engine=\"0\"} 8\n"), std::string::npos);
  std::string early;
  clients[1].read_some(early, 50);
  EXPECT_EQ(early, "");  // no header before the load's end is known
  host.end_load(host.model);
  for (RawClient& client : clients) {
    const std::string answer = client.read_all();
    EXPECT_EQ(status_of(answer), 200) << answer;
    EXPECT_NE(answer.find("\"finish_reason\":\"stop\""), std::string::npos) << answer;
  }
}

TEST_F(ModelWaits, AFailedLoadIsEachOnesError) {
  const RunningServer server(served());
  std::vector<RawClient> clients = wait_for_other(server);
  host.end_load(Error{ErrorCode::overloaded, "no room for it", "model"});
  for (RawClient& client : clients) {
    const std::string answer = client.read_all();
    EXPECT_EQ(status_of(answer), 503) << answer;
    EXPECT_NE(answer.find("Retry-After"), std::string::npos) << answer;
  }
}

// Each found room for its work before it waited; after the load they all ask for it at once.
TEST_F(ModelWaits, LargeOnesAreNotRefusedAfterTheWait) {
  constexpr int64_t kBodyBytes = 1 << 20;
  const Json large{{"stop", std::string(100, 'x')}, {"metadata", {{"padding", std::string(kBodyBytes, ' ')}}}};
  HttpOptions options;
  options.limits.max_bodies_bytes = (kWaiting + 14) * kBodyBytes;  // of all, and work on one
  const RunningServer server(served(), std::move(options));
  std::vector<RawClient> clients;
  for (size_t i = 0; i < kWaiting; ++i) {
    clients.emplace_back(server.port());
    clients.back().send(request_for("other", "/v1/chat/completions", large));
    ASSERT_TRUE(eventually([&] { return host.waiting() == i + 1; })) << i;
  }
  host.end_load(host.model);
  for (RawClient& client : clients) {
    const std::string answer = client.read_all(10'000);
    EXPECT_EQ(status_of(answer), 200) << answer;
  }
}

// However many wait: of those that are worked on when it ends, a minute has no more than its limit.
TEST_F(ModelWaits, DoNotPassTheirCallersLimit) {
  Limited limited(*this, 3);
  const Json refused = {
      {"response_format",
       {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", {{"not", Json::object()}}}}}}}};
  const RunningServer server(served());
  std::vector<RawClient> clients;
  for (int i = 0; i < kWaiting; ++i) {
    clients.emplace_back(server.port());
    clients.back().send(request_for("other", "/v1/chat/completions", refused));
  }
  EXPECT_TRUE(eventually([&] { return host.waiting() == 3; }));
  EXPECT_TRUE(eventually([&] { return limited.node.limits.stats().refused[0] == kWaiting - 3; }));
  host.end_load(host.model);
  std::map<int, int> statuses;
  for (RawClient& client : clients) ++statuses[status_of(client.read_all())];
  EXPECT_EQ(statuses, (std::map<int, int>{{400, 3}, {429, kWaiting - 3}}));
  EXPECT_EQ(limited.settled_requests(), 3);
}

TEST_F(ModelWaits, WhoLeavesWaitsNoMore) {
  Limited limited(*this);
  const RunningServer server(served());
  std::vector<RawClient> clients = wait_for_other(server);
  for (size_t i = 0; i < 3; ++i) clients[i].close();
  EXPECT_TRUE(eventually([&] { return host.waiting() == kWaiting - 3; }));
  host.end_load(host.model);
  for (size_t i = 3; i < clients.size(); ++i) EXPECT_EQ(status_of(clients[i].read_all()), 200);
  EXPECT_EQ(engine->generations.size(), kWaiting - 3u);
  EXPECT_EQ(limited.settled_requests(), kWaiting) << "each body was worked on before it waited";
}

// The protocols read their bodies differently; all of them wait.
TEST_F(ModelWaits, OnEveryRouteThatNeedsAModel) {
  const RunningServer server(served());
  const std::vector<std::pair<std::string, Json>> calls = {
      {"/v1/completions", {{"prompt", "a"}}}, {"/v1/chat/completions/render", Json::object()},
      {"/v1/messages", Json::object()},       {"/v1/messages/count_tokens", Json::object()},
      {"/v1/responses", {{"input", "a"}}},    {"/tokenize", {{"prompt", "a"}}},
      {"/detokenize", {{"tokens", {65}}}},    {"/apply-template", Json::object()},
      {"/api/chat", Json::object()},          {"/api/generate", {{"prompt", "a"}}},
      {"/api/show", Json::object()}};
  std::vector<RawClient> clients;
  for (const auto& [path, more] : calls) {
    clients.emplace_back(server.port());
    clients.back().send(request_for("other", path, more));
  }
  EXPECT_TRUE(eventually([&] { return host.waiting() == calls.size(); })) << host.waiting();
  host.end_load(host.model);
  for (size_t i = 0; i < calls.size(); ++i) EXPECT_EQ(status_of(clients[i].read_all()), 200) << calls[i].first;
}

// The server may go before those who hold one of its writers.
TEST_F(ModelWaits, AnswersAreDroppedWithTheirServer) {
  std::vector<RawClient> clients;
  {
    const RunningServer server(served());
    clients = wait_for_other(server);
  }
  EXPECT_EQ(host.waiting(), 0u);
  host.end_load(host.model);
  EXPECT_TRUE(engine->generations.empty());
}

}  // namespace
}  // namespace redoubt
