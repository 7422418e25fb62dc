#include "server/strangers.h"

#include <array>
#include <atomic>
#include <mutex>

#include "log_lines.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

HttpConnection* place(int number) {  // never looked into
  static std::array<char, 64> places;
  return reinterpret_cast<HttpConnection*>(&places.at(static_cast<size_t>(number)));
}

TEST(Strangers, AnAddressOverItsShareGivesUpItsOwnOldestOnceHalfIsTaken) {
  Strangers strangers;
  const Strangers::Limits limits{.most = 8, .per_address = 2};
  strangers.add(place(0), "192.0.2.1");
  strangers.add(place(1), "192.0.2.9");
  strangers.add(place(2), "192.0.2.9");
  EXPECT_EQ(strangers.room_for("192.0.2.9", 3, limits).room, Strangers::Room::free) << "there is room";
  EXPECT_EQ(strangers.room_for("192.0.2.9", 4, limits).leaves, place(1));
  EXPECT_EQ(strangers.room_for("192.0.2.1", 4, limits).room, Strangers::Room::free);
  strangers.forget(place(1));  // it showed a key
  EXPECT_EQ(strangers.room_for("192.0.2.9", 4, limits).room, Strangers::Room::free);
}

TEST(Strangers, WhenAllIsTakenTheOldestOfAllLeaves) {
  Strangers strangers;
  const Strangers::Limits limits{.most = 4, .per_address = 2};
  strangers.add(place(0), "");
  strangers.add(place(1), "192.0.2.9");
  strangers.add(place(2), "192.0.2.9");
  EXPECT_EQ(strangers.room_for("192.0.2.1", 4, limits).leaves, place(0));
  EXPECT_EQ(strangers.room_for("192.0.2.9", 4, limits).leaves, place(1)) << "its own first";
  for (int i = 0; i < 3; ++i) strangers.forget(place(i));
  strangers.forget(place(0));
  EXPECT_EQ(strangers.size(), 0);
  EXPECT_EQ(strangers.room_for("192.0.2.1", 4, limits).room, Strangers::Room::none);
}

TEST(Strangers, AShareIsForAnAddressThatSpeaksForItselfAlone) {
  const auto trusted = TrustedProxies::parse({"10.0.0.0/8"});
  ASSERT_TRUE(trusted);
  EXPECT_EQ(share_address("192.0.2.1", *trusted), "192.0.2.1");
  EXPECT_EQ(share_address("10.1.2.3", *trusted), "") << "a proxy's connections are many clients'";
  EXPECT_EQ(share_address("127.0.0.1", *trusted), "") << "perhaps a proxy's on this machine";
  EXPECT_EQ(share_address("::1", *trusted), "");
  EXPECT_EQ(share_address("2001:db8:1:2:3::4", *trusted), share_address("2001:db8:1:2:ffff::1", *trusted));
  EXPECT_NE(share_address("2001:db8:1:2::4", *trusted), share_address("2001:db8:1:3::4", *trusted));
}

// GET /hello, GET /slow (never answered), GET /livez (for strangers).
struct Site {
  std::mutex mutex;
  std::vector<std::shared_ptr<ResponseWriter>> kept;
  std::atomic<int> left{0};

  std::vector<Route> routes() {
    const auto hello = [](auto, auto writer) { writer->send(200, "text/plain", "hello"); };
    const auto slow = [this](auto, auto writer) {
      writer->on_close([this](bool client_left) { left += client_left ? 1 : 0; });
      const std::lock_guard lock(mutex);
      kept.push_back(writer);
    };
    return {{.method = "GET", .path = "/hello", .rule = read_server_rule(), .handler = hello},
            {.method = "GET", .path = "/slow", .rule = read_server_rule(), .handler = slow},
            {.method = "GET", .path = "/livez", .rule = status_rule(), .quick = true, .handler = hello}};
  }
  bool has_kept(size_t count) {
    return eventually([&] {
      const std::lock_guard lock(mutex);
      return kept.size() == count;
    });
  }
};

std::string get(const std::string& path, const std::string& more = "") {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n";
}
constexpr const char* kKey = "Authorization: Bearer key\r\n";
constexpr const char* kClose = "Connection: close\r\n";

TEST(HttpStrangers, GiveWayWhenAllConnectionsAreTaken) {
  const test::LogLines lines;
  Site site;
  HttpOptions options;
  options.limits.max_connections = 8;
  options.gate = make_key_file_gate({"key"});
  RunningServer server(site.routes(), options);
  RawClient known(server.port());
  known.send(get("/slow", kKey));
  ASSERT_TRUE(site.has_kept(1));
  std::vector<RawClient> silent;
  for (int i = 0; i < 20; ++i) {
    silent.emplace_back(server.port());
    if (i % 2 == 0) silent.back().send(get("/livez"));
    if (i % 3 == 0) silent.back().send("GET /hello HTTP/1.1\r\n");
  }
  EXPECT_EQ(status_of(server.ask(get("/livez", kClose))), 200);
  EXPECT_EQ(status_of(server.ask(get("/hello", std::string(kKey) + kClose))), 200);
  EXPECT_LE(server.server->open_connections(), 8);
  EXPECT_EQ(lines.count("the oldest of those gives way"), 1);
  EXPECT_EQ(site.left, 0) << "the stream of one with a key stays";

  std::vector<RawClient> more;
  for (size_t i = 2; i <= 7; ++i) {
    more.emplace_back(server.port());
    more.back().send(get("/slow", kKey));
    ASSERT_TRUE(site.has_kept(i));
  }
  const std::string full = server.ask(get("/slow", kKey));
  EXPECT_EQ(status_of(full), 503) << full;
  const size_t retry = full.find("Retry-After: 1");
  EXPECT_NE(retry, std::string::npos);
  EXPECT_EQ(full.find("Retry-After", retry + 1), std::string::npos) << full;
  EXPECT_EQ(status_of(server.ask(get("/livez", kClose))), 200) << "an eighth is left to who comes in";
}

TEST(HttpStrangers, BehindAProxyThatNamesThemEachAddressHasItsShare) {
  Site site;
  HttpOptions options;
  options.limits.max_connections = 16;
  options.gate = make_key_file_gate({"key"});
  options.proxy_protocol = true;
  options.trusted_proxies = {"127.0.0.1"};
  RunningServer server(site.routes(), options);
  RawClient slow(server.port());
  slow.send("PROXY TCP4 198.51.100.7 192.0.2.1 1 443\r\n");
  std::vector<RawClient> silent;
  for (int i = 0; i < 40; ++i) {
    silent.emplace_back(server.port());
    silent.back().send("PROXY TCP4 203.0.113.9 192.0.2.1 1 443\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  slow.send(get("/hello", std::string(kKey) + kClose));
  EXPECT_EQ(status_of(slow.read_all()), 200);
  EXPECT_LE(server.server->open_connections(), 10);
}

TEST(HttpStrangers, HoldNoConnectionAfterARefusal) {
  Site site;
  HttpOptions options;
  options.gate = make_key_file_gate({"key"});
  RunningServer server(site.routes(), options);
  RawClient client(server.port());
  client.send(get("/hello"));
  const std::string answer = client.read_all();
  EXPECT_EQ(status_of(answer), 401);
  EXPECT_FALSE(client.timed_out) << answer;
}

}  // namespace
}  // namespace redoubt
