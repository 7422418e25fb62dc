#include <algorithm>
#include <atomic>
#include <fstream>
#include <iterator>
#include <map>
#include <mutex>

#include "governance/limits.h"
#include "log_lines.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

using Request = std::shared_ptr<const HttpRequest>;
using Writer = std::shared_ptr<ResponseWriter>;

Route route(std::string method, std::string path, Handler handler) {
  Route r;
  r.method = std::move(method);
  r.path = std::move(path);
  r.rule = read_server_rule();
  r.handler = std::move(handler);
  return r;
}

// GET /hello, POST /echo (up to 1 MB), GET /models/{id}, GET /slow (never answered), all that a limit needs.
struct Site {
  std::mutex mutex;
  std::vector<Writer> kept;  // of /slow
  std::atomic<int> left{0}, closed{0};

  std::vector<Route> routes() {
    std::vector<Route> result;
    result.push_back(route("GET", "/hello", [](Request, Writer w) { w->send(200, "text/plain", "hello"); }));
    result.push_back(route("POST", "/echo", [](Request r, Writer w) { w->send(200, "text/plain", r->body); }));
    result.back().max_body_bytes = 1 << 20;
    result.push_back(route("POST", "/v1/messages", [](Request r, Writer w) { w->send(200, "text/plain", r->body); }));
    result.push_back(route("GET", "/models/{id}", [](Request r, Writer w) {
      std::string query;
      for (const auto& [name, value] : r->query) query += name + "=" + value + ";";
      w->send(200, "text/plain", r->path_params.at("id") + "|" + query);
    }));
    result.push_back(route("GET", "/slow", [this](Request, Writer w) {
      w->on_close([this](bool client_left) { ++(client_left ? left : closed); });
      const std::lock_guard lock(mutex);
      kept.push_back(w);
    }));
    result.push_back(route("GET", "/forgets", [](Request, Writer) {}));
    result.push_back(route("GET", "/throws", [](Request, Writer) { throw std::runtime_error("no"); }));
    result.push_back(route("GET", "/stream", [](Request, Writer w) {
      w->start_stream(200, "text/event-stream");
      w->write("data: 1\n\n");
      w->write("data: 2\n\n");
      w->end();
    }));
    result.push_back(route("GET", "/livez", [](Request, Writer w) { w->send(200, "text/plain", "ok"); }));
    result.back().rule = status_rule();
    result.back().quick = true;
    return result;
  }
};

std::string get(const std::string& path, const std::string& more = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + more + "\r\n";
}

TEST(HttpServer, AnswersKeepsTheConnectionAndGivesEachResponseAnId) {
  Site site;
  RunningServer server(site.routes());
  RawClient client(server.port());
  client.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine-1\r\n\r\n");
  const std::string first = client.read_until("hello");
  EXPECT_EQ(status_of(first), 200);
  EXPECT_NE(first.find("x-request-id: mine-1\r\n"), std::string::npos);
  EXPECT_NE(first.find("Content-Length: 5\r\n"), std::string::npos);
  client.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Request-Id: not sane\r\n\r\n");
  const std::string second = client.read_until("hello");
  EXPECT_NE(second.find("x-request-id: req_"), std::string::npos);
  client.send("HEAD /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string head = client.read_all();
  EXPECT_NE(head.find("Content-Length: 5\r\n"), std::string::npos);
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  Site site;
  RunningServer server(site.routes());
  const std::string answer = server.ask(
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
      "GET /models/org%2Fname?a=1%202&b HTTP/1.1\r\nHost: x\r\n\r\n" +
      get("/hello"));
  const size_t a = answer.find("abc"), b = answer.find("org/name|a=1 2;b=;"), c = answer.find("hello");
  ASSERT_NE(c, std::string::npos) << answer;
  EXPECT_LT(a, b);
  EXPECT_LT(b, c);
}

TEST(HttpServer, HostileRequestsGet400AndTheConnectionCloses) {
  Site site;
  RunningServer server(site.routes());
  const std::vector<std::string> requests = {
      "GARBAGE\r\n\r\n",
      "GET /hello\r\n\r\n",
      "GET /hello HTTP/2.0\r\nHost: x\r\n\r\n",
      "GET /hello HTTP/1.1\nHost: x\n\n",
      "GET /hello HTTP/1.1\r\n\r\n",  // no Host
      "GET /hello HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
      "GET /hello HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",  // folded
      "GET /hello HTTP/1.1\r\nHost:\r\n\tx\r\n\r\n",
      "GET /hel%2 HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hel%zzlo HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hello%00 HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hello%ff HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET /hello?a=%f HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET http://user@x/hello HTTP/1.1\r\nHost: x\r\n\r\n",
      "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
      "TRACE /hello HTTP/1.1\r\nHost: x\r\n\r\n",
      "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc",
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\nabc",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
  };
  for (const std::string& request : requests) {
    SCOPED_TRACE(request.substr(0, 90));
    RawClient client(server.port());
    client.send(request);
    const std::string answer = client.read_all();
    EXPECT_FALSE(client.timed_out) << "the connection stays open";
    EXPECT_EQ(status_of(answer), 400) << answer;
    EXPECT_NE(answer.find("{\"error\":{\"message\":"), std::string::npos);
    EXPECT_NE(answer.find("x-request-id: req_"), std::string::npos);
  }
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }));
}

TEST(HttpServer, UnknownPathsAndMethodsSaySoInTheEnvelope) {
  Site site;
  RunningServer server(site.routes());
  const std::string missing = server.ask(get("/nothing"));
  EXPECT_EQ(status_of(missing), 404);
  EXPECT_EQ(status_of(server.ask(get("/v1%2fmessages"))), 404) << "an escaped slash separates nothing";
  EXPECT_NE(missing.find("\"type\":\"not_found_error\""), std::string::npos);
  const std::string method = server.ask("DELETE /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(status_of(method), 405);
  EXPECT_NE(method.find("Allow: GET, HEAD, OPTIONS\r\n"), std::string::npos) << method;
  EXPECT_EQ(status_of(server.ask(get("/forgets"))), 500);
  EXPECT_EQ(status_of(server.ask(get("/throws"))), 500);
}

TEST(HttpServer, LimitsOnHeaderAndBodyHold) {
  Site site;
  HttpOptions options;
  options.limits.max_headers = 20;
  RunningServer server(site.routes(), options);
  EXPECT_EQ(status_of(server.ask(get("/hello", "X-Big: " + std::string(40 << 10, 'a') + "\r\n"))), 431);
  EXPECT_EQ(status_of(server.ask("GET /" + std::string(100 << 10, 'a'))), 431);
  std::string many;
  for (int i = 0; i < 30; ++i) many += "X-" + std::to_string(i) + ": y\r\n";
  EXPECT_EQ(status_of(server.ask(get("/hello", many))), 431);
  // The refusal comes before the body was sent, and is read although the client goes on sending.
  EXPECT_EQ(status_of(server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n")), 413);
  const std::string two_mb(2 << 20, 'a');
  EXPECT_EQ(status_of(server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n" + two_mb)), 413);
  EXPECT_EQ(status_of(server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n" +
                                 two_mb + "\r\n0\r\n\r\n")),
            413);
  // A chunk header without an end.
  EXPECT_EQ(status_of(server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
                                 std::string(200 << 10, 'e'))),
            400);
}

TEST(HttpServer, ChunkedBodiesAndExpectContinueArrive) {
  Site site;
  RunningServer server(site.routes());
  const std::string chunked = server.ask(
      "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
      "3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n");
  EXPECT_TRUE(chunked.ends_with("\r\n\r\nabcdefg")) << chunked;

  RawClient client(server.port());
  client.send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("ok");
  EXPECT_TRUE(client.read_all().ends_with("ok"));
  EXPECT_EQ(status_of(server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nContent-Length: 2\r\n\r\n")), 417);

  const std::string megabyte(1 << 20, 'm');
  const std::string big =
      server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n" + megabyte);
  EXPECT_EQ(big.size() - big.find("\r\n\r\n") - 4, megabyte.size());
}

TEST(HttpServer, SlowClientsTimeOut) {
  Site site;
  HttpOptions options;
  options.limits.header_timeout_s = 1;
  options.limits.body_timeout_s = 1;
  options.limits.idle_timeout_s = 1;
  RunningServer server(site.routes(), options);
  RawClient silent(server.port()), header(server.port()), body(server.port()), idle(server.port());
  header.send("GET /hello HTTP/1.1\r\nHo");
  body.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  idle.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(silent.read_all(), "");
  EXPECT_FALSE(silent.timed_out);
  EXPECT_EQ(status_of(header.read_all()), 408);
  EXPECT_EQ(status_of(body.read_all()), 408);
  EXPECT_EQ(status_of(idle.read_all()), 200);
  EXPECT_FALSE(idle.timed_out);
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }, 4000));
}

TEST(HttpServer, AKeyIsAskedForUnlessTheRouteIsOpen) {
  Site site;
  HttpOptions options;
  options.gate = make_key_file_gate({"sk-one", "sk-two"});
  RunningServer server(site.routes(), options);
  const std::string none = server.ask(get("/hello"));
  EXPECT_EQ(status_of(none), 401);
  EXPECT_NE(none.find("WWW-Authenticate: Bearer\r\n"), std::string::npos);
  EXPECT_NE(none.find("\"code\":\"invalid_api_key\""), std::string::npos);
  EXPECT_EQ(status_of(server.ask(get("/nothing"))), 401);
  EXPECT_EQ(status_of(server.ask(get("/livez"))), 200);
  EXPECT_EQ(status_of(server.ask(get("/hello", "Authorization: Bearer sk-two\r\n"))), 200);
  EXPECT_EQ(status_of(server.ask(get("/hello", "authorization: bearer  sk-one\r\n"))), 200);
  EXPECT_EQ(status_of(server.ask(get("/hello", "X-Api-Key: sk-one\r\n"))), 200);
  EXPECT_EQ(status_of(server.ask(get("/hello", "X-Api-Key: sk-on\r\n"))), 401);
  EXPECT_EQ(status_of(server.ask(get("/hello", "X-Api-Key: sk-onesk-one\r\n"))), 401);
  EXPECT_EQ(status_of(server.ask(get("/hello", "Authorization: Basic sk-one\r\n"))), 401);
  const std::string anthropic = server.ask("POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
  EXPECT_EQ(status_of(anthropic), 401);
  EXPECT_NE(anthropic.find("{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\""), std::string::npos);
}

TEST(HttpServer, BindBeyondLoopbackNeedsKeysAndAPortInUseIsNamed) {
  HttpOptions options;
  options.host = "0.0.0.0";
  options.behind_tls_proxy = true;
  options.port = 0;
  options.gate = make_open_gate();
  const auto refused = HttpServer::listen(options, {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
  options.gate = make_key_file_gate({"k"});
  EXPECT_TRUE(HttpServer::listen(options, {}).has_value());
  options.gate = nullptr;
  EXPECT_FALSE(HttpServer::listen(options, {}).has_value());

  const auto gate = make_open_gate();
  const auto first = HttpServer::listen({.port = 0, .gate = gate}, {});
  ASSERT_TRUE(first.has_value());
  const auto second = HttpServer::listen({.port = first.value()->port(), .gate = gate}, {});
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, ErrorCode::io);
  EXPECT_NE(second.error().message.find(std::to_string(first.value()->port())), std::string::npos);
}

TEST(HttpServer, CorsIsClosedUnlessTheOriginIsConfigured) {
  Site site;
  HttpOptions options;
  options.cors_origins = {"https://chat.example"};
  options.gate = make_key_file_gate({"k"});
  RunningServer server(site.routes(), options);
  const auto preflight = [&](const std::string& origin) {
    return server.ask("OPTIONS /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: " + origin +
                      "\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, "
                      "X-Stainless-Os, evil, X-Redoubt-Purpose, traceparent, tracestate, x-api-key, "
                      "anthropic-version\r\n\r\n");
  };
  const std::string good = preflight("https://chat.example");
  EXPECT_EQ(status_of(good), 204);
  EXPECT_NE(good.find("Access-Control-Allow-Origin: https://chat.example\r\n"), std::string::npos);
  EXPECT_NE(good.find("Access-Control-Allow-Headers: authorization, x-stainless-os, x-redoubt-purpose, traceparent, "
                      "tracestate, x-api-key, anthropic-version\r\n"),
            std::string::npos);
  const std::string bad = preflight("https://evil.example");
  EXPECT_EQ(status_of(bad), 401);
  EXPECT_EQ(bad.find("Access-Control"), std::string::npos);
  const std::string answer = server.ask(get("/hello", "X-Api-Key: k\r\nOrigin: https://chat.example\r\n"));
  EXPECT_NE(answer.find("Access-Control-Allow-Origin: https://chat.example\r\n"), std::string::npos);
  const size_t exposed = answer.find("Access-Control-Expose-Headers: ");
  ASSERT_NE(exposed, std::string::npos);
  const std::string names = ", " + answer.substr(exposed + 31, answer.find("\r\n", exposed) - exposed - 31) + ",";
  HeaderList readable = rate_headers({.requests = RateState{}, .tokens = RateState{}});
  ASSERT_EQ(readable.size(), 6u);
  readable.insert(readable.end(), {{"x-request-id", ""}, {"retry-after", ""}});
  for (const auto& [name, value] : readable) EXPECT_NE(names.find(" " + name + ","), std::string::npos) << name;
}

TEST(HttpServer, WhatATrustedProxyForwardsIsReadOrToldOf) {
  const test::LogLines log;
  {
    HttpOptions options;
    options.trusted_proxies = {"127.0.0.1"};
    const RunningServer server(
        {route("GET", "/from", [](Request r, Writer w) { w->send(200, "text/plain", "from " + r->remote_address); })},
        options);
    const auto from = [&](const std::string& forwarded) {
      const std::string answer = server.ask(get("/from", "X-Forwarded-For: " + forwarded + "\r\n"));
      return answer.substr(std::min(answer.find("from "), answer.size()));
    };
    EXPECT_EQ(from("192.0.2.7:5123"), "from 192.0.2.7");
    EXPECT_EQ(from("\"[2001:db8::1]:443\""), "from 2001:db8::1");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(from("unknown"), "from 127.0.0.1");
  }
  EXPECT_EQ(log.count("X-Forwarded-For of proxy 127.0.0.1: expected addresses, found \"unknown\""), 1) << log.text();
}

TEST(HttpServer, NoOriginIsLetIntoTheAdminListener) {
  std::vector<Route> routes{
      route("GET", "/admin/v1/keys", [](Request, Writer w) { w->send(200, "text/plain", "keys"); })};
  routes[0].rule = admin_rule("manage_keys");
  routes.push_back(route("GET", "/livez", [](Request, Writer w) { w->send(200, "text/plain", "ok"); }));
  routes[1].rule = status_rule();
  HttpOptions options;
  options.cors_origins = {"*", "https://chat.example"};
  options.admin = AdminListener{};
  const RunningServer server(std::move(routes), options);
  const std::string page = "Host: x\r\nConnection: close\r\nOrigin: https://chat.example\r\n";
  const auto ask = [&](uint16_t port, const std::string& line, const std::string& more = "") {
    RawClient client(port);
    client.send(line + " HTTP/1.1\r\n" + page + more + "\r\n");
    return client.read_all();
  };
  const uint16_t admin = server.server->admin_port();
  const std::string preflight =
      "Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: authorization\r\n";
  const std::string refused = ask(admin, "OPTIONS /admin/v1/keys", preflight);
  EXPECT_EQ(status_of(refused), 405);
  EXPECT_EQ(refused.find("Access-Control"), std::string::npos) << refused;
  const std::vector<std::pair<std::string, int>> asked{{"GET /admin/v1/keys", 403}, {"GET /livez", 200}};
  for (const auto& [line, status] : asked) {
    const std::string answer = ask(admin, line);
    EXPECT_EQ(status_of(answer), status) << line;
    EXPECT_EQ(answer.find("Access-Control"), std::string::npos) << answer;
  }
  EXPECT_NE(ask(server.port(), "GET /livez").find("Access-Control-Allow-Origin: https://chat.example"),
            std::string::npos);
}

TEST(HttpServer, StreamsAreChunkedEventStreams) {
  Site site;
  RunningServer server(site.routes());
  const std::string answer = server.ask(get("/stream"));
  EXPECT_EQ(status_of(answer), 200);
  for (const char* part :
       {"Cache-Control: no-cache\r\n", "X-Accel-Buffering: no\r\n", "Transfer-Encoding: chunked\r\n",
        "Content-Type: text/event-stream\r\n", "9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"}) {
    EXPECT_NE(answer.find(part), std::string::npos) << part;
  }
  const std::string old = server.ask("GET /stream HTTP/1.0\r\n\r\n");  // no chunks there: the end is the close
  EXPECT_TRUE(old.ends_with("\r\n\r\ndata: 1\n\ndata: 2\n\n")) << old;
  EXPECT_EQ(old.find("Transfer-Encoding"), std::string::npos);
}

TEST(HttpServer, AQuietStreamCarriesCommentsAndAnEndedOneDoesNot) {
  Writer kept;
  std::mutex mutex;
  HttpOptions options;
  options.limits.idle_comment_s = 1;
  RunningServer server({route("GET", "/quiet",
                              [&](Request, Writer w) {
                                w->start_stream(200, "text/event-stream", {}, ": keep-alive\n\n");
                                const std::lock_guard lock(mutex);
                                kept = w;
                              })},
                       options);
  RawClient client(server.port());
  client.send(get("/quiet"));
  EXPECT_NE(client.read_until(": keep-alive\n\n", 2500).find(": keep-alive\n\n"), std::string::npos);
  const std::lock_guard lock(mutex);
  kept->end();
  EXPECT_TRUE(client.read_all().ends_with("0\r\n\r\n"));
}

TEST(HttpServer, AClientThatLeavesIsNoticedAlsoBeforeTheAnswerBegan) {
  Site site;
  RunningServer server(site.routes());
  for (int i = 0; i < 200; ++i) {
    RawClient client(server.port());
    client.send(get("/slow"));
    ASSERT_TRUE(eventually([&] {
      const std::lock_guard lock(site.mutex);
      return std::ssize(site.kept) == i + 1;
    }));
  }
  EXPECT_TRUE(eventually([&] { return site.left == 200; }, 1000)) << site.left;
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }, 1000));
  EXPECT_EQ(site.closed, 0);
  // Too late is not an error, and a callback set too late is called at once.
  site.kept[0]->send(200, "text/plain", "late");
  bool told = false;
  site.kept[1]->on_close([&](bool client_left) { told = client_left; });
  EXPECT_TRUE(told);
}

TEST(HttpServer, AnAnswerThatWasSentClosesWithoutBlame) {
  Site site;
  RunningServer server(site.routes());
  RawClient client(server.port());
  client.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(site.mutex);
    return site.kept.size() == 1;
  }));
  site.kept[0]->send(200, "text/plain", "done");
  EXPECT_NE(client.read_until("done").find("done"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return site.closed == 1; }));
  EXPECT_EQ(site.left, 0);
}

TEST(HttpServer, AReaderThatStopsPausesItsProducerAndIsCut) {
  std::mutex mutex;
  Writer kept;
  std::atomic<int> behind{0}, caught_up{0}, left{0};
  HttpOptions options;
  options.limits.slow_reader_timeout_s = 1;
  RunningServer server({route("GET", "/pour",
                              [&](Request, Writer w) {
                                w->on_close([&](bool client_left) { left += client_left ? 1 : 0; });
                                w->on_backpressure([&](bool b) { ++(b ? behind : caught_up); });
                                w->start_stream(200, "text/event-stream");
                                const std::lock_guard lock(mutex);
                                kept = w;
                              })},
                       options);
  RawClient client(server.port(), 8 << 10);
  client.send(get("/pour"));
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return kept != nullptr;
  }));
  const std::string event = "data: " + std::string(1000, 'x') + "\n\n";
  int written = 0;
  for (; behind == 0 && written < 5000; ++written) {
    kept->write(event);
    if (written % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_EQ(behind, 1);
  EXPECT_LT(written, 2000);  // 256 KB here, what the kernel holds, and the loop's delay
  std::string got;
  while (caught_up == 0 && got.size() < size_t{3000000}) client.read_some(got, 100);
  EXPECT_EQ(caught_up, 1);
  EXPECT_EQ(left, 0);
  for (int i = 0; i < 1000; ++i) kept->write(event);  // and now it reads no more
  EXPECT_TRUE(eventually([&] { return left == 1; }, 3000));
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }));
}

TEST(HttpServer, BeyondTheMostConnectionsIsA503) {
  Site site;
  HttpOptions options;
  options.limits.max_connections = 1;
  RunningServer server(site.routes(), options);
  RawClient one(server.port());
  one.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(site.mutex);
    return site.kept.size() == 1;
  }));
  RawClient two(server.port());
  const std::string answer = two.read_all();
  EXPECT_EQ(status_of(answer), 503);
  const size_t body = answer.find("\r\n\r\n") + 4;
  EXPECT_NE(answer.find("Content-Length: " + std::to_string(answer.size() - body) + "\r\n"), std::string::npos);
}

TEST(HttpServer, HealthAnswersWhileEveryWorkerIsBusy) {
  std::atomic<bool> go{false};
  Site site;
  std::vector<Route> routes = site.routes();
  routes.push_back(route("GET", "/load", [&](Request, Writer w) {
    eventually([&] { return go.load(); }, 10000);
    w->send(200, "text/plain", "loaded");
  }));
  HttpOptions options;
  options.worker_threads = 1;
  RunningServer server(std::move(routes), options);
  RawClient loading(server.port());
  loading.send(get("/load"));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(status_of(server.ask(get("/livez"), 1000)), 200);
  go = true;
  EXPECT_TRUE(loading.read_all().ends_with("loaded"));
}

TEST(HttpServer, DrainEndsWhatBeganAndTakesNoMore) {
  Site site;
  RunningServer server(site.routes());
  RawClient idle(server.port()), open(server.port());
  open.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(site.mutex);
    return site.kept.size() == 1;
  }));
  server.server->drain(10);
  EXPECT_EQ(idle.read_all(), "");
  EXPECT_FALSE(idle.timed_out);
  EXPECT_FALSE(RawClient(server.port()).connected());
  site.kept[0]->send(200, "text/plain", "finished");
  const std::string answer = open.read_all();
  EXPECT_TRUE(answer.ends_with("finished")) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
  server.join();  // run() returned by itself
  EXPECT_EQ(site.closed, 1);
  EXPECT_EQ(site.left, 0);
}

TEST(HttpServer, DrainCutsWhatIsStillOpenAtItsEnd) {
  Site site;
  RunningServer server(site.routes());
  RawClient open(server.port());
  open.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    const std::lock_guard lock(site.mutex);
    return site.kept.size() == 1;
  }));
  server.server->drain(0);
  server.join();
  EXPECT_EQ(site.left, 1);
}

size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// 2,000 streams open at once, fifty events each from one producer, as an engine would write them.
TEST(HttpServer, HeavyTwoThousandStreamsAreServedInLittleMemory) {
  constexpr int kStreams = 2000, kEvents = 50;
  std::mutex mutex;
  std::vector<Writer> writers;
  writers.reserve(kStreams);
  RunningServer server({route("GET", "/s", [&](Request, Writer w) {
    w->start_stream(200, "text/event-stream", {}, ": keep-alive\n\n");
    const std::lock_guard lock(mutex);
    writers.push_back(w);
  })});
  const size_t before = resident_bytes();
  std::vector<RawClient> clients;
  clients.reserve(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back(server.port());
    ASSERT_TRUE(clients.back().connected()) << i;
    ASSERT_TRUE(clients.back().send(get("/s", "User-Agent: test/1.0 of a usual length\r\nAccept: */*\r\n")));
  }
  ASSERT_TRUE(eventually(
      [&] {
        const std::lock_guard lock(mutex);
        return writers.size() == kStreams;
      },
      20000));
  const std::string event = "data: {\"id\":\"chatcmpl-1\",\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n";
  size_t most = 0;
  for (int i = 0; i < kEvents; ++i) {
    for (const Writer& writer : writers) writer->write(event);
    most = std::max(most, resident_bytes());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  for (const Writer& writer : writers) writer->end();
  writers.clear();
  int served = 0;
  for (RawClient& client : clients) {
    const std::string answer = client.read_all(10000);
    size_t events = 0;
    for (size_t at = answer.find("data: "); at != std::string::npos; at = answer.find("data: ", at + 1)) ++events;
    served += events == kEvents && answer.ends_with("0\r\n\r\n") ? 1 : 0;
  }
  EXPECT_EQ(served, kStreams);
  const double megabytes = static_cast<double>(most - before) / (1 << 20);
  RecordProperty("megabytes", std::to_string(megabytes));
  std::printf("2000 streams: %.1f MB\n", megabytes);
  EXPECT_LT(megabytes, 64);
  EXPECT_TRUE(eventually([&] { return server.server->open_connections() == 0; }));
}

}  // namespace
}  // namespace redoubt
