#include <gtest/gtest.h>

#include <string>

#include "server/http_parse.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

constexpr const char* kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

TEST(TraceId, IsReadFromAWellFormedHeaderAlone) {
  const std::string good = std::string("00-") + kTrace + "-00f067aa0ba902b7-01";
  EXPECT_EQ(trace_id_of(good), kTrace);
  EXPECT_EQ(trace_id_of("cc" + good.substr(2) + "-what.comes.later"), kTrace);
  for (const std::string& bad :
       {std::string(), good.substr(0, 54), good + "-more", "ff" + good.substr(2), "cc" + good.substr(2) + "x",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01" + std::string(),
        "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01", good.substr(0, 36) + std::string(16, '0') + "-01"})
    EXPECT_EQ(trace_id_of(bad), "") << bad;
}

TEST(TraceId, NamesARequestThatHasNoNameOfItsOwn) {
  Route hello;
  hello.method = "GET";
  hello.path = "/hello";
  hello.rule = read_server_rule();
  hello.handler = [](auto request, auto writer) { writer->send(200, "text/plain", request->request_id); };
  RunningServer server({hello});
  const auto id_of = [&](const std::string& headers) {
    RawClient client(server.port());
    client.send("GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n");
    const std::string answer = client.read_all();
    const std::string id = answer.substr(answer.find("\r\n\r\n") + 4);
    EXPECT_NE(answer.find("x-request-id: " + id + "\r\n"), std::string::npos) << answer;
    return id;
  };
  const std::string trace = std::string("traceparent: 00-") + kTrace + "-00f067aa0ba902b7-01\r\n";
  EXPECT_EQ(id_of(trace), kTrace);
  EXPECT_EQ(id_of(trace + "X-Request-Id: mine\r\n"), "mine");
  EXPECT_TRUE(id_of("traceparent: 00-zz\r\n").starts_with("req_"));
}

}  // namespace
}  // namespace redoubt
