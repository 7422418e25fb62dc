#include "server/request_limits.h"

#include <gmock/gmock.h>

#include <thread>

#include "engine/engine_fixture.h"
#include "governance/limits_fixture.h"
#include "server/limit_metrics.h"
#include "server/routes_fixture.h"

namespace redoubt {
namespace {

struct LimitedRoutes : Routes {
  LimitedRoutes() {
    EXPECT_TRUE(prepare_quota_tables(*reader, wall));
    context.limits = &node.limits;
  }
  void set(LimitKind kind, int64_t amount) {
    LimitRule rule{.scope = LimitScope::tenant, .subject = "*", .kind = kind, .model = {}, .amount = amount};
    std::erase_if(rules.rules, [kind](const LimitRule& old) { return old.kind == kind; });
    rules.rules.push_back(rule);
    node.limits.set_rules(rules);
  }
  int64_t settled(const std::string& counter) {
    EXPECT_TRUE(node.limits.sync());
    return test::settled_of(*reader, counter, wall.now_ms());
  }
  test::TestDatabase files{DatabaseKind::sqlite, 10'000};
  SystemWallClock wall;
  std::unique_ptr<Database> reader = files.open();
  test::Node node{files.open(), "local", wall};
  LimitRules rules;
};
const Json kHi = {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}};

TEST_F(LimitedRoutes, AnAnswerTellsWhatIsLeftAndIsSettledToItsUsage) {
  set(LimitKind::requests_per_minute, 3);
  set(LimitKind::tokens_per_day, 100'000);
  const auto first = post("/v1/chat/completions", kHi);
  EXPECT_EQ(first->status(), 200);
  EXPECT_THAT(first->headers(), testing::Contains(testing::Pair("x-ratelimit-limit-requests", "3")));
  EXPECT_THAT(first->headers(), testing::Contains(testing::Pair("x-ratelimit-remaining-requests", "2")));
  const Json usage = first->json()["usage"];
  EXPECT_EQ(settled("tokens_per_day"), usage["total_tokens"].get<int64_t>());
}

TEST_F(LimitedRoutes, TheOneTooManyIs429InItsProtocolsEnvelope) {
  set(LimitKind::requests_per_minute, 1);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  const auto refused = post("/v1/chat/completions", kHi);
  EXPECT_EQ(refused->status(), 429);
  EXPECT_EQ(refused->json()["error"]["code"], "rate_limit_exceeded");
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("Retry-After", testing::_)));
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("x-ratelimit-remaining-requests", "0")));
  Json anthropic = kHi;
  anthropic["max_tokens"] = 10;
  const auto other = post("/v1/messages", anthropic);
  EXPECT_EQ(other->status(), 429);
  EXPECT_EQ(other->json()["type"], "error");
}

TEST_F(LimitedRoutes, ADaysQuotaIsNotAskedForAgainAtOnce) {
  set(LimitKind::requests_per_minute, 1);
  ASSERT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  auto refused = post("/v1/chat/completions", kHi);
  EXPECT_EQ(refused->json()["error"]["code"], "rate_limit_exceeded");
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Key("Retry-After")));
  EXPECT_THAT(refused->headers(), testing::Not(testing::Contains(testing::Key("x-should-retry"))));
  // Of a minute's limit that is less than the request needs, no wait helps.
  for (const LimitKind kind : {LimitKind::requests_per_minute, LimitKind::tokens_per_minute}) {
    set(LimitKind::requests_per_minute, 100'000);
    set(kind, 0);
    refused = post("/v1/chat/completions", kHi);
    EXPECT_EQ(refused->status(), 429);
    EXPECT_EQ(refused->json()["error"]["code"], "rate_limit_exceeded");
    EXPECT_THAT(refused->headers(), testing::Not(testing::Contains(testing::Key("Retry-After"))));
    EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("x-should-retry", "false")));
  }
  set(LimitKind::requests_per_minute, 100'000);
  set(LimitKind::tokens_per_minute, 100'000);
  for (const LimitKind kind : {LimitKind::tokens_per_day, LimitKind::tokens_per_month}) {
    set(LimitKind::tokens_per_day, 100'000);
    set(kind, 0);
    refused = post("/v1/chat/completions", kHi);
    ASSERT_EQ(refused->status(), 429);
    EXPECT_EQ(refused->json()["error"]["type"], "rate_limit_error");
    EXPECT_EQ(refused->json()["error"]["code"], "insufficient_quota");
    EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("x-should-retry", "false")));
  }
}

// What requests under way hold of a day comes back when they end: no reason to give up until tomorrow.
TEST_F(LimitedRoutes, ADaysQuotaThatIsOnlyReservedIsAskedForAgainSoon) {
  set(LimitKind::tokens_per_day, 2000);
  engine->hold = true;
  std::shared_ptr<RecordingWriter> refused;
  for (int i = 0; i < 20 && refused == nullptr; ++i) {
    const auto writer = post("/v1/chat/completions", kHi);
    if (engine->held.size() == static_cast<size_t>(i)) refused = writer;
  }
  ASSERT_NE(refused, nullptr);
  EXPECT_GT(engine->held.size(), 3u);
  EXPECT_EQ(refused->status(), 429);
  EXPECT_EQ(refused->json()["error"]["code"], "rate_limit_exceeded");
  EXPECT_THAT(refused->json()["error"]["message"].get<std::string>(), testing::HasSubstr("have reserved"));
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("Retry-After", "3")));
  EXPECT_THAT(refused->headers(), testing::Not(testing::Contains(testing::Key("x-should-retry"))));
  // They use it all: now it is gone.
  for (const auto& [request, listener] : engine->held) {
    const int64_t used = request.allowance->granted().answer;
    listener->on_token({.finish = FinishReason::stop});
    listener->on_done({.prompt_tokens = static_cast<int64_t>(request.prompt.size()), .completion_tokens = used});
  }
  refused = post("/v1/chat/completions", kHi);
  EXPECT_EQ(refused->status(), 429);
  EXPECT_EQ(refused->json()["error"]["code"], "insufficient_quota");
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("x-should-retry", "false")));
  EXPECT_THAT(refused->headers(), testing::Not(testing::Contains(testing::Pair("Retry-After", "3"))));
}

// RateClass::request: work without an answer is one of the requests, and uses no tokens.
TEST_F(LimitedRoutes, TokenizingCountsAsARequestAndUsesNoTokens) {
  set(LimitKind::requests_per_minute, 3);
  set(LimitKind::tokens_per_day, 100'000);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}})->status(), 200);
  EXPECT_EQ(call("GET", "/v1/models")->status(), 200) << "a list does not count";
  EXPECT_EQ(post("/v1/messages/count_tokens", kHi)->status(), 200);
  EXPECT_EQ(settled("tokens_per_day"), 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  const auto refused = post("/v1/messages/count_tokens", kHi);
  EXPECT_EQ(refused->status(), 429);
  EXPECT_EQ(refused->json()["type"], "error") << "in its protocol's envelope";
  EXPECT_THAT(refused->headers(), testing::Contains(testing::Pair("Retry-After", testing::_)));
  EXPECT_EQ(node.limits.stats().open, 0);
}

// It would load the model, so that who is beyond every limit could make the server load and unload by turns.
TEST_F(LimitedRoutes, AModelIsNotLoadedForWhoIsBeyondTheLimit) {
  set(LimitKind::requests_per_minute, 1);
  EXPECT_EQ(post("/api/show", {{"model", "tiny"}})->status(), 200);
  EXPECT_EQ(post("/api/show", {{"model", "tiny"}})->status(), 429);
  EXPECT_EQ(call("GET", "/api/tags")->status(), 200) << "a list loads nothing";
}

Json with_schema(const Json& schema) {
  Json body = kHi;
  body["response_format"] = {{"type", "json_schema"}, {"json_schema", {{"name", "x"}, {"schema", schema}}}};
  return body;
}
const Json kRefusedSchema = with_schema({{"not", Json::object()}});

// Else whoever has no request left could have schemas compiled, prompts rendered and models loaded without end.
TEST_F(LimitedRoutes, WhoIsBeyondALimitHasNothingWorkedOn) {
  set(LimitKind::requests_per_minute, 1);
  ASSERT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  EXPECT_EQ(post("/v1/chat/completions", kRefusedSchema)->status(), 429);
  EXPECT_EQ(post("/v1/completions", {{"prompt", 7}})->status(), 429);
  EXPECT_EQ(node.limits.stats().open, 0);
}

TEST_F(LimitedRoutes, ARequestThatIsRefusedForWhatItSaysCounts) {
  set(LimitKind::requests_per_minute, 3);
  set(LimitKind::tokens_per_day, 100'000);
  EXPECT_EQ(post("/v1/chat/completions", kRefusedSchema)->status(), 400);
  EXPECT_EQ(post("/v1/completions", {{"prompt", 7}})->status(), 400);
  EXPECT_EQ(settled("requests_per_minute"), 2);
  EXPECT_EQ(settled("tokens_per_day"), 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  EXPECT_EQ(post("/v1/chat/completions", kRefusedSchema)->status(), 429);
}

// While one is worked on, what it took is nobody else's: else each worker could take up one more than the limit.
TEST_F(LimitedRoutes, WhatIsWorkedOnIsTakenAlready) {
  set(LimitKind::requests_per_minute, 2);
  int worked_on = 0;
  std::vector<int> inside;
  Body work = [&](const HttpRequest&, const Json&, const auto&) -> Status {
    if (++worked_on < 5) inside.push_back(post("/work", Json::object())->status());
    return Error{ErrorCode::invalid_argument, "a fault that was found last", {}};
  };
  routes.push_back({.method = "POST",
                    .path = "/work",
                    .rule = generate_rule(),
                    .handler = json_handler(context, ErrorStyle::openai, work)});
  count_requests(context, routes);
  EXPECT_EQ(post("/work", Json::object())->status(), 400);
  EXPECT_EQ(worked_on, 2);
  EXPECT_EQ(inside, (std::vector<int>{429, 400}));
  EXPECT_EQ(settled("requests_per_minute"), 2);
  EXPECT_EQ(node.limits.stats().open, 0);
}

// It is one request, not two; each prompt of a batch is one, and a batch that is refused was worked on once.
TEST_F(LimitedRoutes, WhatWasTakenBeforeIsTheAnswersOwn) {
  set(LimitKind::requests_per_minute, 4);
  const Json three = {{"prompt", Json::array({"one", "two", "three"})}};
  const auto batch = post("/v1/completions", three);
  EXPECT_EQ(batch->status(), 200) << batch->body();
  EXPECT_THAT(batch->headers(), testing::Contains(testing::Pair("x-ratelimit-remaining-requests", "1")));
  EXPECT_EQ(settled("requests_per_minute"), 3);
  EXPECT_EQ(post("/v1/completions", three)->status(), 429);
  EXPECT_EQ(settled("requests_per_minute"), 4);
  EXPECT_EQ(post("/v1/completions", kRefusedSchema)->status(), 429);
  EXPECT_EQ(node.limits.stats().open, 0);
}

TEST_F(LimitedRoutes, WhatTheServerIsAtFaultForIsNoRequest) {
  set(LimitKind::requests_per_minute, 1);
  EXPECT_EQ(post("/v1/chat/completions", ask({{"model", "other"}}))->status(), 500) << "nowhere to load from";
  engine->refuse = Error{ErrorCode::overloaded, "the queue is full", {}};
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 503);
  engine->refuse.reset();
  engine->hold = true;
  const auto ended_by_the_server = post("/v1/chat/completions", kHi);
  engine->held.back().second->on_token({.finish = FinishReason::abort});
  engine->held.back().second->on_done({.prompt_tokens = 5});
  EXPECT_EQ(ended_by_the_server->status(), 503);
  engine->hold = false;
  EXPECT_EQ(settled("requests_per_minute"), 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
}

// All of it was compiled and rendered before the engine was asked.
TEST_F(LimitedRoutes, WhatTheEngineRefusesForWhatItSaysCounts) {
  set(LimitKind::requests_per_minute, 1);
  engine->refuse = Error{ErrorCode::invalid_argument, "no token has that number", "logit_bias"};
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 400);
  EXPECT_EQ(settled("requests_per_minute"), 1);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 429);
}

TEST_F(LimitedRoutes, ARouteOfAnotherTableCountsToo) {
  set(LimitKind::requests_per_minute, 2);
  int answered = 0;
  routes.push_back({.method = "POST", .path = "/side", .rule = tokenize_rule(), .handler = [&](auto, auto writer) {
                      ++answered;
                      writer->send(200, "application/json", "{}");
                    }});
  count_requests(context, routes);
  count_requests(context, routes);  // none counts twice for that
  EXPECT_EQ(post("/side", Json::object())->status(), 200);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}})->status(), 200);
  EXPECT_EQ(post("/side", Json::object())->status(), 429);
  EXPECT_EQ(answered, 1);
}

TEST_F(LimitedRoutes, WhoHasNoTokensLeftMayTokenize) {
  set(LimitKind::tokens_per_day, 0);
  set(LimitKind::context_tokens, 0);
  set(LimitKind::concurrent_streams, 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 400) << "the context is the first";
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}})->status(), 200);
}

TEST_F(LimitedRoutes, TokenizingCountsForItsModel) {
  const std::string served = context.models.entries().front().name;
  rules.rules.push_back({LimitScope::tenant, "*", LimitKind::requests_per_minute, served, 2});
  rules.rules.push_back({LimitScope::tenant, "*", LimitKind::requests_per_minute, served + "-other", 0});
  node.limits.set_rules(rules);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}})->status(), 200);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}, {"model", served}})->status(), 200);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}, {"model", served}})->status(), 429);
}

// Whatever a client of Ollama writes for the model that is loaded for it.
TEST_F(LimitedRoutes, EverySpellingOfAModelMeetsItsLimit) {
  rules.rules.push_back({LimitScope::tenant, "*", LimitKind::requests_per_minute, "tiny", 0});
  node.limits.set_rules(rules);
  for (const Json& body :
       {Json{{"model", "tiny"}}, Json{{"model", "tiny:latest"}}, Json{{"name", "tiny"}}, Json{{"name", "tiny:latest"}},
        Json{{"model", nullptr}, {"name", "tiny:latest"}}, Json{{"model", ""}, {"name", "other"}}, Json::object()}) {
    EXPECT_EQ(post("/api/show", body)->status(), 429) << body;
  }
  EXPECT_EQ(post("/api/show", {{"model", "other"}})->status(), 500) << "configured, and nowhere to load from";
  for (const char* name : {"gone", "gone:latest", ":latest"})
    EXPECT_EQ(post("/api/show", {{"model", name}})->status(), 404) << name;
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}, {"model", "tiny"}})->status(), 429);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}, {"model", "tiny:latest"}})->status(), 404) << "another model's name";
}

TEST_F(LimitedRoutes, WhatFailsIsRefunded) {
  set(LimitKind::tokens_per_day, 100'000);
  engine->scripts = {{"Hello", FinishReason::error}};
  EXPECT_GE(post("/v1/chat/completions", kHi)->status(), 500);
  engine->refuse = Error{ErrorCode::overloaded, "the queue is full", {}};
  EXPECT_GE(post("/v1/chat/completions", kHi)->status(), 400);
  EXPECT_EQ(settled("tokens_per_day"), 0);
  EXPECT_EQ(node.limits.stats().open, 0);
}

// A request that contradicts itself is no failure of ours: 400, also in a stream, and what it computed is used.
TEST_F(LimitedRoutes, WhatTheRequestBringsAboutItselfIsNotRefunded) {
  set(LimitKind::tokens_per_day, 100'000);
  engine->hold = true;
  const auto fail_last = [&] {
    const auto [request, listener] = std::move(engine->held.back());
    engine->held.pop_back();
    listener->on_token({.token = 'H', .text = "H"});
    listener->on_token({.finish = FinishReason::error,
                        .error = Error{ErrorCode::invalid_argument, "guided_regex: leaves no token", "guided_regex"}});
    listener->on_done({.prompt_tokens = 5, .completion_tokens = 1, .prefilled_tokens = 5});
  };
  const auto reply = post("/v1/chat/completions", kHi);
  fail_last();
  EXPECT_EQ(reply->status(), 400) << reply->body();
  EXPECT_EQ(reply->json()["error"]["param"], "guided_regex");
  EXPECT_GT(settled("tokens_per_day"), 0);
  Json streamed = kHi;
  streamed["stream"] = true;
  const auto stream = post("/v1/chat/completions", streamed);
  fail_last();
  const auto events = stream->events();
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[events.size() - 2]["error"]["type"], "invalid_request_error");
  EXPECT_EQ(node.limits.stats().open, 0);
}

TEST_F(LimitedRoutes, MetricsTellWhatLimitsDid) {
  set(LimitKind::requests_per_minute, 1);
  MetricsRegistry registry;
  add_limit_metrics(node.limits, registry);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 429);
  const auto says = [&](const std::string& line) {
    EXPECT_THAT(registry.text(), testing::HasSubstr("\nredoubt_limits_" + line + "\n"));
  };
  says("admitted_total 1");
  says(R"(refused_total{kind="requests_per_minute",reason="limit"} 1)");
  says(R"(refused_total{kind="requests_per_minute",reason="unavailable"} 0)");
  says("settled_total 1");
  says("open_requests 0");
  says("leases 1");
  says("ledger_errors_total 0");
  says("ledger_failing_seconds 0");
  node.faulty.always = test::FaultyLedger::Fault::before;
  EXPECT_FALSE(node.limits.sync());
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 503);
  says(R"(refused_total{kind="requests_per_minute",reason="unavailable"} 1)");
  EXPECT_THAT(registry.text(), testing::Not(testing::HasSubstr("ledger_failing_seconds 0\n")));
  EXPECT_THAT(registry.text(), testing::Not(testing::HasSubstr("t1")));  // the tenant
  node.faulty.always = test::FaultyLedger::Fault::none;
}

// The client left: what was computed until then is paid, also where no answer had begun; and the request counts where
// nothing was, or whoever leaves soon enough would have schemas compiled without end.
TEST_F(LimitedRoutes, APromptThatWasComputedIsPaidThoughNobodyWaitedForTheAnswer) {
  set(LimitKind::tokens_per_day, 100'000);
  set(LimitKind::requests_per_minute, 100);
  engine->hold = true;
  for (const int64_t prefilled : {0, 3}) {
    const auto writer = post("/v1/chat/completions", kHi);
    writer->close(true);
    const auto& [request, listener] = engine->held.back();
    const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
    ASSERT_GT(prompt_tokens, 3);
    listener->on_token({.finish = FinishReason::abort});
    listener->on_done({.prompt_tokens = prompt_tokens, .prefilled_tokens = prefilled});
  }
  EXPECT_EQ(settled("tokens_per_day"), 3);
  EXPECT_EQ(settled("requests_per_minute"), 2);
}

// Of several prompts, the one whose step failed is refunded; what was computed of the others is paid.
TEST_F(LimitedRoutes, OnePromptThatFailsRefundsNoOther) {
  set(LimitKind::tokens_per_day, 100'000);
  engine->hold = true;
  post("/v1/completions", {{"prompt", Json::array({"one", "two"})}});
  ASSERT_EQ(engine->held.size(), 2u);
  const auto& [failing, first] = engine->held[0];
  const auto& [other, second] = engine->held[1];
  first->on_token({.finish = FinishReason::error, .error = Error{ErrorCode::internal, "a step failed", {}}});
  first->on_done({.prompt_tokens = static_cast<int64_t>(failing.prompt.size()), .completion_tokens = 1});
  second->on_token({.finish = FinishReason::abort});
  second->on_done({.prompt_tokens = static_cast<int64_t>(other.prompt.size()), .completion_tokens = 2});
  EXPECT_EQ(settled("tokens_per_day"), static_cast<int64_t>(other.prompt.size()) + 2);
}

// In the place that each protocol has for it.
TEST_F(LimitedRoutes, AnAnswerThatALimitEndsNamesIt) {
  set(LimitKind::tokens_per_day, 100'000);
  engine->hold = true;
  const std::string limit = "tokens_per_day of tenant t1", reason = "\"stop_reason\":\"limit:" + limit + "\"";
  const std::string beside = ",\"limit\":\"" + limit + "\"";
  const std::tuple<const char*, Json, std::string> protocols[] = {
      {"/v1/chat/completions", kHi, "\"finish_reason\":\"length\"," + reason},
      {"/v1/completions", {{"prompt", "hi"}}, "\"finish_reason\":\"length\"," + reason},
      {"/v1/responses", {{"input", "hi"}}, "\"incomplete_details\":{\"reason\":\"max_output_tokens\"" + beside + "}"},
      {"/v1/messages",
       {{"messages", kHi["messages"]}, {"max_tokens", 500}},
       "\"stop_reason\":\"max_tokens\",\"stop_sequence\":null" + beside},
      {"/api/chat", kHi, "\"done_reason\":\"length\""},
      {"/api/chat", kHi, beside + "}"},
      {"/api/generate", {{"prompt", "hi"}}, beside + "}"}};
  for (const auto& [path, asked, expected] : protocols) {
    for (const bool streams : {true, false}) {
      SCOPED_TRACE(std::string(path) + (streams ? ", streamed" : ""));
      Json body = asked;
      body["stream"] = streams;
      const auto writer = post(path, body);
      ASSERT_FALSE(engine->held.empty()) << writer->body();
      const auto [request, listener] = engine->held.back();
      engine->held.clear();
      request.allowance->close(limit);
      listener->on_token({.token = 'x', .text = "x"});
      listener->on_token({.finish = FinishReason::length, .by_allowance = true});
      listener->on_done({.prompt_tokens = static_cast<int64_t>(request.prompt.size()), .completion_tokens = 1});
      EXPECT_THAT(writer->body(), testing::HasSubstr(expected));
    }
  }
}

// Not one that the request's own max_tokens ends, nor one that ends with the model's context of 4096.
TEST_F(LimitedRoutes, AnAnswerThatAContextLimitBoundsNamesItToo) {
  engine->scripts = {{"Hello", FinishReason::length}};
  const auto reason = [&](int64_t context, int64_t max_tokens) {
    set(LimitKind::context_tokens, context);
    Json body = kHi;
    if (max_tokens > 0) body["max_tokens"] = max_tokens;
    return post("/v1/chat/completions", body)->json()["choices"][0]["stop_reason"];
  };
  EXPECT_EQ(reason(500, 0), "limit:context_tokens of tenant t1");
  EXPECT_TRUE(reason(500, 5).is_null());
  EXPECT_TRUE(reason(5000, 0).is_null());
}

// The answer goes as far as its grant; then a stream ends with an error event, a whole answer is an error.
TEST_F(LimitedRoutes, AnAnswerThatCannotBeExtendedWithoutTheDatabaseEndsWithAnError) {
  set(LimitKind::tokens_per_day, 100'000);
  engine->hold = true;
  for (const bool streams : {true, false}) {
    node.faulty.always = test::FaultyLedger::Fault::none;
    Json body = kHi;
    body["stream"] = streams;
    std::shared_ptr<RecordingWriter> writer;
    for (int i = 0; i < 100 && engine->held.empty(); ++i) {  // until it opened again
      writer = post("/v1/chat/completions", body);
      if (engine->held.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_EQ(engine->held.size(), 1u);
    const auto [request, listener] = engine->held.front();
    node.faulty.always = test::FaultyLedger::Fault::before;
    EXPECT_FALSE(node.limits.sync());
    request.allowance->note({250, 0});
    for (int i = 0; i < 500 && !request.allowance->closed(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_TRUE(request.allowance->closed());
    listener->on_token({.token = 'x', .text = "x"});
    listener->on_token({.finish = FinishReason::length, .by_allowance = true});
    listener->on_done({.prompt_tokens = static_cast<int64_t>(request.prompt.size()), .completion_tokens = 1});
    EXPECT_THAT(writer->body(), testing::HasSubstr("limits_unavailable"));
    EXPECT_THAT(writer->body(), testing::HasSubstr("tokens_per_day of tenant t1"));
    EXPECT_THAT(writer->body(), testing::Not(testing::HasSubstr("finish_reason\":\"length")));
    EXPECT_EQ(writer->status(), streams ? 200 : 503);
    EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 503);  // and nobody is let in
    engine->held.clear();
  }
  node.faulty.always = test::FaultyLedger::Fault::none;
}

TEST(RequestLimits, TheErrorInTheMiddleOfAnAnswerIsThatOfARefusal) {
  const ApiError error = limits_unavailable("tokens_per_day of tenant north");
  EXPECT_EQ(error.status, 503);
  EXPECT_EQ(error.type, "unavailable_error");
  EXPECT_EQ(error.code, "limits_unavailable");
  EXPECT_EQ(error.param, "");
  EXPECT_EQ(error.message,
            "tokens_per_day of tenant north: the limits' database could not be reached, so the answer ends here");
  EXPECT_THAT(error.headers, testing::ElementsAre(testing::Pair("Retry-After", "1")));
}

TEST_F(LimitedRoutes, BoundsReachTheEngine) {
  set(LimitKind::context_tokens, 200);
  set(LimitKind::thinking_tokens_per_request, 7);
  post("/v1/chat/completions", kHi);
  EXPECT_EQ(engine->last.stop.max_tokens + static_cast<int64_t>(engine->last.prompt.size()), 200);
  EXPECT_EQ(engine->last.thinking.budget_tokens, 7);
  Json much = kHi;
  much["max_tokens"] = 300;
  EXPECT_EQ(post("/v1/chat/completions", much)->status(), 400);
}

// A client that writes the template itself thinks all the same: counted, bounded and settled; the text stays raw.
TEST_F(LimitedRoutes, ARawPromptThatOpensTheThinkBlockThinks) {
  set(LimitKind::thinking_tokens_per_request, 7);
  set(LimitKind::thinking_tokens_per_day, 100'000);
  engine->scripts = {{"hm</think>ok"}};
  const Json usage = post("/v1/completions", {{"prompt", "<|user|>hi<|assistant|><think>\n"}})->json()["usage"];
  EXPECT_TRUE(engine->last.thinking.starts_in_reasoning);
  EXPECT_EQ(engine->last.thinking.budget_tokens, 7);
  EXPECT_EQ(usage["completion_tokens_details"]["reasoning_tokens"], 2);
  EXPECT_EQ(settled("thinking_tokens_per_day"), 2);
  const auto reply = post("/v1/completions", {{"prompt", "<think>"}, {"thinking_token_budget", 3}});
  EXPECT_EQ(engine->last.thinking.budget_tokens, 3);
  EXPECT_EQ(reply->json()["choices"][0]["text"], "hm</think>ok");

  const auto raw = [&](const std::string& prompt) {
    return post("/api/generate", {{"prompt", prompt}, {"raw", true}, {"stream", false}});
  };
  EXPECT_EQ(raw("hi<think>\n")->json()["response"], "hm</think>ok");
  EXPECT_TRUE(engine->last.thinking.starts_in_reasoning);
  EXPECT_EQ(engine->last.thinking.budget_tokens, 7);
  EXPECT_EQ(settled("thinking_tokens_per_day"), 6);
  raw("<think>hm</think>");
  EXPECT_FALSE(engine->last.thinking.starts_in_reasoning) << "it is closed again";
  post("/v1/completions", {{"prompt", Json::array({256, 'a', 261})}});
  EXPECT_TRUE(engine->last.thinking.starts_in_reasoning) << "ids are a prompt like another";
  host.model->output_format.thinks = false;
  raw("hi<think>\n");
  EXPECT_FALSE(engine->last.thinking.starts_in_reasoning) << "the model has no such marks";
}

// Whatever is left of thinking, it concerns those who think: nobody else is refused for it, or reserves of it.
TEST_F(LimitedRoutes, LimitsOfThinkingDoNotConcernWhatDoesNotThink) {
  set(LimitKind::thinking_tokens_per_day, 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 429) << "the answer may open the block itself";
  EXPECT_EQ(post("/v1/completions", {{"prompt", "hi<think>"}})->status(), 429);
  const auto with = [](Json more) {
    more.update(kHi);
    return more;
  };
  EXPECT_EQ(post("/v1/chat/completions", with({{"thinking_token_budget", 0}}))->status(), 200);
  EXPECT_EQ(post("/v1/chat/completions", with({{"thinking", {{"type", "disabled"}}}}))->status(), 200);
  const Json opens = {{"enable_thinking", true}};
  EXPECT_EQ(
      post("/v1/chat/completions", with({{"thinking_token_budget", 0}, {"chat_template_kwargs", opens}}))->status(),
      200);
  EXPECT_EQ(post("/api/generate", {{"prompt", "hi"}, {"raw", true}})->status(), 200);
  EXPECT_EQ(post("/v1/completions", {{"prompt", "hi"}})->status(), 200);
  EXPECT_EQ(engine->last.thinking.budget_tokens, 0) << "an answer that opens the block is led out of it at once";
  EXPECT_EQ(settled("thinking_tokens_per_day"), 0);

  host.model->output_format.thinks = false;
  set(LimitKind::thinking_tokens_per_request, 0);
  EXPECT_EQ(post("/v1/chat/completions", kHi)->status(), 200);
  EXPECT_EQ(engine->last.thinking.budget_tokens, std::nullopt);
}

// The whole way: an engine over the fake model, several steps of reservation, and books that agree with its counts.
TEST(RequestLimits, TheEnginesCountAndTheLedgersAgreeToTheToken) {
  test::TestDatabase files{DatabaseKind::sqlite, 10'000};
  SystemWallClock wall;
  const auto reader = files.open();
  ASSERT_TRUE(prepare_quota_tables(*reader, wall));
  test::Node node(files.open(), "local", wall, {.step_tokens = 20, .least_tokens = 5});
  node.limits.set_rules(test::rules_of({test::of_tenant(LimitKind::tokens_per_day, 3000)}));
  test::Fixture fixture;
  const Principal ann = test::person("ann");
  struct Listener final : GenerationListener {
    explicit Listener(std::shared_ptr<RequestLimits> taken) : limits(std::move(taken)) {}
    void on_token(const TokenEvent& event) override { by_allowance = by_allowance || event.by_allowance; }
    void on_done(const GenerationUsage& found) override {
      limits->settle(0, found);
      tokens = found.prompt_tokens + found.completion_tokens;
      done = true;
    }
    std::shared_ptr<RequestLimits> limits;
    bool by_allowance = false;
    std::atomic<int64_t> tokens{0};
    std::atomic<bool> done{false};
  };
  std::vector<std::shared_ptr<Listener>> listeners;
  int refused = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    std::vector<GenerationRequest> requests{test::request_of("prompt " + std::to_string(i), 120, i)};
    auto taken = RequestLimits::reserve(node.limits, ann, "r1", MayThink::unless_told, requests);
    if (std::holds_alternative<ApiError>(taken)) {
      ++refused;
      continue;
    }
    const auto listener = std::make_shared<Listener>(std::get<std::shared_ptr<RequestLimits>>(taken));
    ASSERT_TRUE(fixture.engine->submit(requests[0], listener));
    listeners.push_back(listener);
  }
  int64_t counted = 0, cut = 0;
  for (const auto& listener : listeners) {
    while (!listener->done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    counted += listener->tokens;
    if (listener->by_allowance) {
      ++cut;
      EXPECT_EQ(listener->limits->limit_of(0), "tokens_per_day of tenant north");
    }
  }
  EXPECT_LE(counted, 3000);
  EXPECT_GT(counted, 2500);
  EXPECT_GT(cut + refused, 0);
  EXPECT_EQ(fixture.engine->stats().generation_tokens + fixture.engine->stats().prompt_tokens,
            static_cast<uint64_t>(counted));
  ASSERT_TRUE(node.limits.sync());
  EXPECT_EQ(test::settled_of(*reader, "tokens_per_day tenant north", wall.now_ms()), counted);
}

}  // namespace
}  // namespace redoubt
