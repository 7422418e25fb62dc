// Forms of a request that clients and proxies send now and then: absolute targets, packed bodies, Anthropic's name of
// an id; and the fields that are read before a body is.
#include <gtest/gtest.h>

#include "server/http_parse.h"
#include "server/http_test_client.h"
#include "server/json_fields.h"

namespace redoubt {
namespace {

std::vector<Route> routes() {
  Route hello{.method = "GET", .path = "/hello", .rule = read_server_rule()};
  hello.handler = [](auto, auto writer) { writer->send(200, "text/plain", "hello"); };
  Route echo{.method = "POST", .path = "/echo", .rule = read_server_rule()};
  echo.handler = [](auto request, auto writer) { writer->send(200, "text/plain", request->body); };
  Route model{.method = "GET", .path = "/models/{id}", .rule = read_server_rule()};
  model.handler = [](auto request, auto writer) {
    std::string query;
    for (const auto& [name, value] : request->query) query += name + "=" + value;
    writer->send(200, "text/plain", request->path_params.at("id") + "|" + query);
  };
  return {hello, echo, model};
}

std::string ask_for(const RunningServer& server, const std::string& path) {
  return server.ask("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Request-Id: mine-1\r\n\r\n");
}

// RFC 9112, 3.2.2: servers accept it, and its authority counts instead of Host.
TEST(HttpRequestForms, AbsoluteTargetsAreRoutedByTheirPath) {
  RunningServer server(routes());
  const auto ask = [&](const std::string& target) {
    return server.ask("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  };
  EXPECT_EQ(status_of(ask("http://x:8000/hello")), 200);
  EXPECT_EQ(status_of(ask("HTTPS://x/hello?a=b")), 200);
  EXPECT_NE(ask("http://x/models/org%2Fname?a=1").find("org/name|a=1"), std::string::npos);
  EXPECT_EQ(status_of(ask("http://x")), 404);
  EXPECT_EQ(status_of(ask("http://x?a=b")), 404);
  for (const char* target : {"http:///hello", "http://:80/hello", "http://user@x/hello", "ftp://x/hello", "x/hello"})
    EXPECT_EQ(status_of(ask(target)), 400) << target;
  const auto parsed = parse_request_target("http://other:1/a?b=c");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->authority, "other:1");
  EXPECT_EQ(parsed->path, "/a");
  EXPECT_EQ(parse_request_target("/a")->authority, "");
}

TEST(HttpRequestForms, PackedBodiesAreRefusedByName) {
  RunningServer server(routes());
  const auto ask = [&](const std::string& coding) {
    return server.ask("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: " + coding +
                      "\r\nContent-Length: 3\r\n\r\nabc");
  };
  EXPECT_EQ(status_of(ask("identity")), 200);
  for (const char* coding : {"gzip", "br", "zstd", "identity, gzip"}) {
    const std::string answer = ask(coding);
    EXPECT_EQ(status_of(answer), 415) << answer;
    EXPECT_NE(answer.find("content-encoding: "), std::string::npos) << answer;
  }
}

TEST(HttpRequestForms, AnthropicsClientsFindTheIdOfTheRequest) {
  RunningServer server(routes());
  const std::string answer = ask_for(server, "/v1/messages");
  EXPECT_NE(answer.find("\r\nrequest-id: mine-1\r\n"), std::string::npos) << answer;
  EXPECT_NE(answer.find("\r\nx-request-id: mine-1\r\n"), std::string::npos) << answer;
  EXPECT_EQ(ask_for(server, "/hello").find("\r\nrequest-id:"), std::string::npos);
}

TEST(JsonFields, AStringIsFoundBeforeTheBodyIsRead) {
  EXPECT_EQ(string_in_body(R"({"a":{"model":"no"},"b":["model"],"model":"r1","rest)", "model"), "r1");
  EXPECT_EQ(string_in_body(R"({"model":{"model":"no"}})", "model"), "");
  EXPECT_EQ(string_in_body(R"({"model":7,"x":"no"})", "model"), "");
  EXPECT_EQ(string_in_body(R"([{"model":"no"}])", "model"), "");
  EXPECT_EQ(string_in_body(R"({"model":)", "model"), "");
  EXPECT_EQ(string_in_body("", "model"), "");
  EXPECT_EQ(find_string_in_body(R"({"model":""})", "model"), "");
  EXPECT_EQ(find_string_in_body(R"({"model":null})", "model"), std::nullopt);
}

}  // namespace
}  // namespace redoubt
