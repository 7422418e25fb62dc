#include "server/foreign_page.h"

#include <gtest/gtest.h>

#include "server/gate.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

int judged(const std::string& host, const std::string& origin = "") {
  HeaderList headers{{"host", host}};
  if (!origin.empty()) headers.emplace_back("origin", origin);
  const auto refusal = refuse_foreign_page(headers, {"r1.bank.example"}, {"https://chat.example", "app://desk"});
  return refusal ? refusal->status : 200;
}

TEST(ForeignPage, HostIsLoopbackOrConfigured) {
  for (const char* host : {"localhost", "LocalHost:8000", "localhost.", "m.localhost:1", "127.0.0.1", "127.9.9.9:8000",
                           "[::1]", "[::1]:8000", "[::ffff:127.0.0.1]:80", "r1.bank.example:8000", "R1.Bank.Example"}) {
    EXPECT_EQ(judged(host), 200) << host;
  }
  for (const char* host : {"evil.example",
                           "evil.example:8000",
                           "localhost.evil.example",
                           "evillocalhost",
                           "127.0.0.1.evil.example",
                           "192.0.2.1",
                           "[2001:db8::1]:8000",
                           "[::1",
                           "[::1]evil.example",
                           "[::1]:80x",
                           "localhost:80@evil.example",
                           "evil.example/.localhost",
                           "localhost:8000:1",
                           "[",
                           ".",
                           ":8000",
                           "localhost@evil",
                           "0.0.0.0",
                           "bank.example",
                           ".localhost",
                           "a.r1.bank.example"}) {
    EXPECT_EQ(judged(host), 421) << host;
  }
  EXPECT_EQ(refuse_foreign_page({}, {}, {}), std::nullopt);  // HTTP/1.0
}

TEST(ForeignPage, OriginIsItsOwnOrConfigured) {
  for (const char* origin : {"http://localhost:8000", "HTTP://LOCALHOST:8000", "https://localhost:8000",
                             "https://chat.example", "app://desk"}) {
    EXPECT_EQ(judged("localhost:8000", origin), 200) << origin;
  }
  for (const char* origin :
       {"null", "chrome-extension://localhost:8000", "http://localhost", "http://localhost:3000", "http://evil.example",
        "https://chat.example.evil", "http://127.0.0.1:8000", "://", "http://", "x"}) {
    EXPECT_EQ(judged("localhost:8000", origin), 403) << origin;
  }
}

TEST(ForeignPage, APartOfAPageHasNoOriginButASite) {
  const auto of = [](HeaderList headers) {
    headers.emplace_back("host", "localhost:8000");
    const auto refusal = refuse_foreign_page(headers, {}, {"https://chat.example"});
    return refusal ? refusal->status : 200;
  };
  EXPECT_EQ(of({{"sec-fetch-site", "cross-site"}, {"sec-fetch-mode", "no-cors"}}), 403);
  EXPECT_EQ(of({{"sec-fetch-site", "same-site"}}), 403);
  EXPECT_EQ(of({{"sec-fetch-site", "same-origin"}}), 200);
  EXPECT_EQ(of({{"sec-fetch-site", "none"}}), 200) << "typed by its user";
  EXPECT_EQ(of({{"sec-fetch-site", "cross-site"}, {"sec-fetch-mode", "navigate"}}), 200) << "a link that was followed";
  EXPECT_EQ(of({{"sec-fetch-site", "cross-site"}, {"origin", "https://chat.example"}}), 200);
}

TEST(ForeignPage, EachOriginIsJudged) {
  const auto refusal = refuse_foreign_page(
      {{"host", "localhost"}, {"origin", "http://localhost"}, {"origin", "http://evil.example"}}, {}, {});
  ASSERT_TRUE(refusal);
  EXPECT_EQ(refusal->status, 403);
}

TEST(ForeignPage, IsAskedOnlyWhereNobodyShowsAKey) {
  std::vector<Route> routes(2);
  for (size_t i = 0; i < 2; ++i) {
    routes[i].method = "GET";
    routes[i].path = i == 0 ? "/v1/models" : "/livez";
    routes[i].rule = i == 0 ? read_server_rule() : status_rule();
    routes[i].handler = [](auto, auto writer) { writer->send(200, "text/plain", "ok"); };
  }
  const auto ask = [](const RunningServer& server, const std::string& path, const std::string& headers) {
    return status_of(server.ask("GET " + path + " HTTP/1.1\r\nConnection: close\r\n" + headers + "\r\n"));
  };
  const RunningServer open(routes);
  EXPECT_EQ(ask(open, "/v1/models", "Host: localhost\r\n"), 200);
  EXPECT_EQ(ask(open, "/v1/models", "Host: evil.example\r\n"), 421);
  EXPECT_EQ(ask(open, "/nowhere", "Host: evil.example\r\n"), 421);
  EXPECT_EQ(ask(open, "/v1/models", "Host: localhost\r\nOrigin: http://evil.example\r\n"), 403);
  EXPECT_EQ(ask(open, "/livez", "Host: 10.1.2.3:8000\r\n"), 200);  // a status and nothing more
  HttpOptions options;
  options.gate = make_key_file_gate({"k"});
  const RunningServer with_keys(routes, options);
  EXPECT_EQ(ask(with_keys, "/v1/models", "Host: r1.example\r\nOrigin: http://a.example\r\nX-Api-Key: k\r\n"), 200);
}

}  // namespace
}  // namespace redoubt
