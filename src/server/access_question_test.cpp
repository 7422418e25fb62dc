// What policies read as `context`, of requests that come through the real gate and the real routes.
#include "server/access_question.h"

#include <chrono>

#include "governance/limits_fixture.h"
#include "server/door_fixture.h"

namespace redoubt {
namespace {

class Context : public Door {
 protected:
  void SetUp() override {
    Door::SetUp();
    ASSERT_TRUE(prepare_quota_tables(*reader, wall));
    context.limits = &node.limits;
    people.user("alice");
    key = people.key_of("alice");
  }
  void TearDown() override { gate.reset(); }  // its permits ask the limits

  void policies_with(const std::string& more) {
    const Status replaced =
        policies->replace(std::string(default_policy_text()) + more, static_cast<uint64_t>(policies->version() + 1));
    ASSERT_TRUE(replaced) << replaced.error().message;
  }
  std::string chat(const std::string& headers = "", const Json& more = Json::object()) {
    return request("/v1/chat/completions", ask(more), headers);
  }
  std::string request(const std::string& path, const Json& content, const std::string& headers = "") {
    const std::string body = content.dump();
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " + key + "\r\n" + headers +
           "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  void limit(LimitKind kind, int64_t amount, const std::string& model = "") {
    rules.rules.push_back({LimitScope::tenant, "*", kind, model, amount});
    node.limits.set_rules(rules);
  }

  test::TestDatabase files{DatabaseKind::sqlite, 10'000};
  SystemWallClock wall;
  std::unique_ptr<Database> reader = files.open();
  test::Node node{files.open(), "local", wall};
  LimitRules rules;
  std::string key;
};

TEST_F(Context, APurposeIsWhatTheClientSaysItIsFor) {
  policies_with(
      "forbid (principal, action == Redoubt::Action::\"generate\", resource)"
      "unless { context has purpose && context.purpose == \"triage\" };");
  RunningServer server(all_routes(), options());
  EXPECT_EQ(status_of(server.ask(chat())), 403);
  EXPECT_EQ(status_of(server.ask(chat("X-Redoubt-Purpose: advertising\r\n"))), 403);
  EXPECT_EQ(status_of(server.ask(chat("X-Redoubt-Purpose: triage\r\n"))), 200);
}

TEST_F(Context, APurposeThatIsNoneIsAnError) {
  RunningServer server(all_routes(), options());
  const auto of = [](const std::string& purpose) { return "x-redoubt-purpose: " + purpose + "\r\n"; };
  EXPECT_EQ(status_of(server.ask(chat(of("A-z.0_9")))), 200);
  EXPECT_EQ(status_of(server.ask(chat(of(std::string(64, 'a'))))), 200);
  for (const std::string& wrong : {of(""), of("two words"), of("a;b"), of("caf\xc3\xa9"), of(std::string(65, 'a')),
                                   of("triage") + of("triage"), of("") + of("triage")}) {
    const std::string answer = server.ask(chat(wrong));
    EXPECT_EQ(status_of(answer), 400) << wrong;
    EXPECT_NE(answer.find("x-redoubt-purpose: expected"), std::string::npos) << answer;
  }
}

TEST_F(Context, AStageIsThatOfTheModel) {
  for (ModelEntry& model : host.models) model.stage = model.name == "tiny" ? "canary" : "stable";
  host.model->stage = "canary";
  policies_with(
      "forbid (principal, action == Redoubt::Action::\"read_models\", resource)"
      "when { context has stage && context.stage == \"stable\" };"
      "permit (principal, action == Redoubt::Action::\"set_priority\", resource)"
      "when { context.stage == \"canary\" };");
  RunningServer server(all_routes(), options());
  const auto get = [&](const std::string& path) {
    return status_of(
        server.ask("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " + key + "\r\n\r\n"));
  };
  EXPECT_EQ(get("/v1/models/tiny"), 200);
  EXPECT_EQ(get("/v1/models/other"), 403);
  EXPECT_EQ(status_of(server.ask(chat("", {{"priority", -1}}))), 200);
  host.model->stage = "stable";
  EXPECT_EQ(status_of(server.ask(chat("", {{"priority", -1}}))), 403);
}

TEST_F(Context, ATemplateOfTheRequestIsForThoseWhomAPolicyPermits) {
  const Json brought{{"chat_template", "<|user|>{{ messages[0].content | upper }}"}};
  policies_with("");
  RunningServer server(all_routes(), options());
  const std::string refused = server.ask(chat("", brought));
  EXPECT_EQ(status_of(refused), 403);
  EXPECT_NE(refused.find("\"param\":\"chat_template\""), std::string::npos) << refused;
  EXPECT_EQ(status_of(server.ask(chat("", {{"chat_template", ""}}))), 200);
  const std::vector<int32_t> usual = engine->last.prompt;
  policies_with(
      "permit (principal, action == Redoubt::Action::\"set_chat_template\", resource == Redoubt::Model::\"tiny\");");
  EXPECT_EQ(status_of(server.ask(chat("", brought))), 200);
  EXPECT_NE(engine->last.prompt, usual);
  EXPECT_EQ(host.model->tokenizer.decode(engine->last.prompt), "<|user|>HI");
}

TEST_F(Context, ATemplateOfTheRequestIsAskedForInEveryProtocol) {
  const std::string brought = "<|user|>{{ messages[0].content | upper }}";
  const Json message = ask({{"max_tokens", 5}, {"chat_template", brought}});
  const std::vector<std::pair<std::string, Json>> requests = {
      {"/v1/messages", message},
      {"/v1/messages/count_tokens", message},
      {"/v1/responses", {{"input", "hi"}, {"chat_template", brought}}},
      {"/tokenize", message},
      {"/apply-template", message}};
  RunningServer server(all_routes(), options());
  for (const auto& [path, body] : requests) {
    policies_with("");
    const std::string refused = server.ask(request(path, body));
    EXPECT_EQ(status_of(refused), 403) << path;
    EXPECT_NE(refused.find("chat_template"), std::string::npos) << refused;
    policies_with("permit (principal, action == Redoubt::Action::\"set_chat_template\", resource);");
    EXPECT_EQ(status_of(server.ask(request(path, body))), 200) << path;
  }
}

constexpr const char* kKeepForOthers =
    "forbid (principal, action == Redoubt::Action::\"generate\", resource)"
    "when { context has budget_left && context.budget_left < 95 };";

TEST_F(Context, ABudgetIsWhatTheNarrowestLimitOfTokensHasLeft) {
  limit(LimitKind::tokens_per_month, 1'000'000);
  limit(LimitKind::tokens_per_day, 100, "tiny");
  policies_with(kKeepForOthers);
  RunningServer server(all_routes(), options());
  EXPECT_EQ(status_of(server.ask(chat("", {{"max_tokens", 20}}))), 200);
  const std::string refused = server.ask(chat("", {{"max_tokens", 20}}));
  EXPECT_EQ(status_of(refused), 403);
  EXPECT_NE(refused.find("a policy forbids it"), std::string::npos) << refused;
  rules.rules.back().amount = 1000;
  node.limits.set_rules(rules);
  EXPECT_EQ(status_of(server.ask(chat("", {{"max_tokens", 20}}))), 200);
}

TEST_F(Context, WithoutALimitOfTokensThereIsNoBudget) {
  limit(LimitKind::requests_per_minute, 10);
  limit(LimitKind::tokens_per_day, 1, "other");
  policies_with("forbid (principal, action, resource is Redoubt::Model) when { context has budget_left };");
  RunningServer server(all_routes(), options());
  EXPECT_EQ(status_of(server.ask(chat())), 200);
}

// This node has not counted by the limit yet: the ledger knows.
TEST_F(Context, ABudgetThatWasUsedElsewhereIsUsed) {
  limit(LimitKind::tokens_per_day, 100);
  policies_with(kKeepForOthers);
  test::Node other{files.open(), "other", wall};
  other.limits.set_rules(rules);
  const Principal bob = test::person("bob", "default");
  const LimitRequest request{.principal = &bob, .model = "tiny", .prompt_tokens = 20, .max_tokens = 1};
  std::get<Reservation>(other.limits.reserve(request)).settle({20, 0, 0});
  ASSERT_TRUE(other.limits.sync());
  RunningServer server(all_routes(), options());
  EXPECT_EQ(status_of(server.ask(chat("", {{"max_tokens", 20}}))), 403);
}

TEST_F(Context, AStreamEndsWhenItsConditionTurns) {
  limit(LimitKind::tokens_per_day, 10'000);
  policies_with(
      "forbid (principal, action == Redoubt::Action::\"generate\", resource)"
      "when { context has budget_left && context.budget_left < 5000 };");
  engine->hold = true;
  RunningServer server(all_routes(), options());
  RawClient client(server.port());
  client.send(chat("", {{"stream", true}, {"max_tokens", 100}}));
  const std::string head = client.read_until("text/event-stream");
  ASSERT_EQ(status_of(head), 200) << head;
  ASSERT_TRUE(eventually([&] { return !engine->generations.empty(); }));
  const Principal bob = test::person("bob", "default");
  const LimitRequest request{.principal = &bob, .model = "tiny", .prompt_tokens = 6000, .max_tokens = 1};
  auto taken = node.limits.reserve(request);
  ASSERT_TRUE(std::holds_alternative<Reservation>(taken));
  const std::string rest = client.read_until("0\r\n\r\n", 5000);
  EXPECT_NE(rest.find("\"code\":\"revoked\""), std::string::npos) << rest;
  EXPECT_NE(rest.find("a policy forbids it"), std::string::npos) << rest;
  engine->held.clear();
}

// The gate asks before it knows the model: what reads the model waits for it, and what names routes does not.
TEST_F(Context, AForbidThatReadsTheModelIsJudgedOfTheModel) {
  const Json described =
      Json::array({{{"uid", {{"type", "Redoubt::Model"}, {"id", "tiny"}}}, {"attrs", {{"label", "open"}}}}});
  limit(LimitKind::tokens_per_day, 100'000);
  RunningServer server(all_routes(), options());
  const std::string head = "forbid (principal, action == Redoubt::Action::\"generate\", resource";
  const auto status_with = [&](const std::string& rest) {
    const std::string text = std::string(default_policy_text()) + head + rest;
    const Status replaced = policies->replace(text, described, policies->version() + 1);
    EXPECT_TRUE(replaced) << rest;
    return status_of(server.ask(chat()));
  };
  EXPECT_EQ(status_with(") unless { resource has label && resource.label == \"open\" };"), 200);
  EXPECT_EQ(status_with(") unless { resource == Redoubt::Model::\"tiny\" };"), 200);
  EXPECT_EQ(status_with(") unless { context has budget_left && context.budget_left > 10 };"), 200);
  EXPECT_EQ(status_with(") unless { resource has label && resource.label == \"closed\" };"), 403);
  EXPECT_EQ(status_with(") unless { resource == Redoubt::Model::\"other\" };"), 403);
  EXPECT_EQ(status_with(") when { !(resource has owner) };"), 403);
  EXPECT_EQ(status_with(" == Redoubt::Route::\"POST /v1/chat/completions\");"), 403);
  EXPECT_EQ(status_with(" == Redoubt::Route::\"POST /v1/completions\");"), 200);
  EXPECT_EQ(status_with(") when { resource == Redoubt::Route::\"POST /v1/chat/completions\" };"), 403);
}

TEST_F(Context, LabelsOfTenantsAndTeamsAreRead) {
  Directory& directory = *people.directory_;
  ASSERT_TRUE(directory.create_team(nullptr, "default", "research", {.labels = LabelChange{{"clearance", "2"}}}));
  ASSERT_TRUE(directory.change_principal(nullptr, "alice", {.teams = std::vector<std::string>{"research"}}));
  policies_with(
      "forbid (principal, action == Redoubt::Action::\"generate\", resource)"
      "unless { principal.tenant.labels has tier && principal.tenant.labels.tier == \"gold\""
      "&& Redoubt::Team::\"default/research\".labels.clearance == \"2\" };");
  RunningServer server(all_routes(), options());
  EXPECT_EQ(status_of(server.ask(chat())), 403);
  ASSERT_TRUE(directory.change_tenant(nullptr, "default", {.labels = LabelChange{{"tier", "gold"}}}));
  EXPECT_EQ(status_of(server.ask(chat())), 200);
  ASSERT_TRUE(directory.change_team(nullptr, "default", "research", {.labels = LabelChange{{"clearance", "1"}}}));
  EXPECT_EQ(status_of(server.ask(chat())), 403);
}

}  // namespace
}  // namespace redoubt
