#include "server/known_callers.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <mutex>

#include "log_lines.h"
#include "server/http_test_client.h"

namespace redoubt {
namespace {

HttpConnection* place(int number) {  // never looked into
  static std::array<char, 128> places;
  return reinterpret_cast<HttpConnection*>(&places.at(static_cast<size_t>(number)));
}
using Use = KnownCallers::Use;
bool any(const HttpConnection&) { return true; }
bool none(const HttpConnection&) { return false; }
bool but_the_first(const HttpConnection& one) { return &one != place(0); }

TEST(KnownCallers, WhoHoldsMostGivesUpTheOneRestingLongest) {
  KnownCallers known(3);
  for (const int i : {0, 1, 2}) {
    EXPECT_EQ(known.use(place(i), "ann"), Use::taken);
    known.rest(place(i));
  }
  EXPECT_EQ(known.surplus(any), nullptr);
  EXPECT_EQ(known.use(place(3), "ben"), Use::taken);
  EXPECT_EQ(known.surplus(any), place(0));
  EXPECT_EQ(known.surplus(but_the_first), place(1)) << "rather one that waits";
  EXPECT_EQ(known.surplus(none), place(0));
  EXPECT_EQ(known.use(place(0), "ann"), Use::taken);
  EXPECT_EQ(known.surplus(any), place(1)) << "one that is worked on never";
  EXPECT_EQ(known.use(place(1), "ben"), Use::taken) << "another's from now on";
  EXPECT_EQ(known.surplus(any), place(2));
  known.forget(place(2));
  known.forget(place(2));
  EXPECT_EQ(known.size(), 3);
  EXPECT_EQ(known.use(place(4), "eve"), Use::full);
  EXPECT_EQ(known.use(place(1), "ben"), Use::taken) << "it is worked on already";
}

TEST(KnownCallers, ACallerIsWhoeverKeyTokenOrCertificateNames) {
  EXPECT_EQ(caller_name({.id = "ann", .auth_method = "api_key", .key_id = "k1"}), "ann");
  EXPECT_EQ(caller_name({.id = "ann", .auth_method = "oidc", .issuer = "https://i"}), "ann");
  EXPECT_EQ(caller_name({.id = "ann", .auth_method = "mtls", .subject = "CN=ann"}), "ann");
  EXPECT_EQ(caller_name({.id = "key-file", .auth_method = "api_key"}), "");
  EXPECT_EQ(caller_name({.kind = PrincipalKind::open, .id = "anyone", .auth_method = "off"}), "");
}

int taken(KnownCallers& known, const std::string& who, int from) {
  int count = 0;
  while (known.use(place(from + count), who) == Use::taken) ++count;
  return count;
}

TEST(KnownCallers, HoweverMuchEachWantsSomethingIsLeftForTheNext) {
  KnownCallers known(64);
  EXPECT_EQ(taken(known, "ann", 0), 52);
  EXPECT_EQ(taken(known, "ben", 52), 4);
  EXPECT_EQ(known.use(place(56), "ann"), Use::too_many);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(taken(known, "eve" + std::to_string(i), 56 + i), 1);
  EXPECT_EQ(known.use(place(64), "eve"), Use::full);
  for (int i = 0; i < 40; ++i) known.rest(place(i));
  EXPECT_EQ(known.use(place(64), "eve"), Use::taken) << "what rests keeps nobody out";
  EXPECT_EQ(known.use(place(0), "ann"), Use::taken);
}

TEST(KnownCallers, ThoseOfWhomThereMayBeManyAreNotBoundedByThemselves) {
  KnownCallers known(64);
  EXPECT_EQ(taken(known, "", 0), 64);
}

// Each key is somebody of that name; "gone" is nobody's.
class NamedGate final : public Gate {
 public:
  std::variant<std::shared_ptr<Permit>, ApiError> enter(const HttpRequest& head, const Route* route) override {
    Principal principal{.id = std::string(head.header("x-api-key")), .tenant = "default", .key_id = "k"};
    if (principal.id.empty() || principal.id == "gone") return ApiError{.status = 401, .message = "who?"};
    return enter_route(permits_.issue(std::make_shared<Principal>(std::move(principal))), head, route);
  }

 private:
  struct All final : Authority {
    Verdict decide(const Principal&, const AccessQuestion&) const override { return Verdict::permitted; }
    Status still_valid(const Principal&) const override { return ok(); }
    uint64_t version() const override { return 0; }
  };
  PermitRegister permits_{std::make_shared<All>(), {}};
};

// GET /hello; GET /slow, never answered; GET /livez, for strangers; GET /admin/v1/keys.
struct Site {
  std::mutex mutex;
  std::vector<std::shared_ptr<ResponseWriter>> kept;

  std::vector<Route> routes() {
    const auto hello = [](auto, auto writer) { writer->send(200, "text/plain", "hello"); };
    const auto slow = [this](auto, auto writer) {
      const std::lock_guard lock(mutex);
      kept.push_back(writer);
    };
    return {{.method = "GET", .path = "/hello", .rule = read_server_rule(), .handler = hello},
            {.method = "GET", .path = "/slow", .rule = read_server_rule(), .handler = slow},
            {.method = "GET", .path = "/livez", .rule = status_rule(), .quick = true, .handler = hello},
            {.method = "GET", .path = "/admin/v1/keys", .rule = admin_rule("manage_keys"), .handler = hello}};
  }
  bool has_kept(size_t count, int wait_ms = 2000) {
    return eventually(
        [&] {
          const std::lock_guard lock(mutex);
          return kept.size() == count;
        },
        wait_ms);
  }
};

std::string get(const std::string& path, const std::string& key, bool close = false) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\n" + (key.empty() ? "" : "X-Api-Key: " + key + "\r\n") +
         (close ? "Connection: close\r\n" : "") + "\r\n";
}
HttpOptions options_of(int most) {
  HttpOptions options;
  options.limits.max_connections = most;
  options.gate = std::make_shared<NamedGate>();
  return options;
}
// `count` connections with an answer each, kept open.
std::vector<RawClient> held(uint16_t port, int count, const std::string& request) {
  std::vector<RawClient> clients;
  for (int i = 0; i < count; ++i) {
    clients.emplace_back(port);
    clients.back().send(request);
    clients.back().read_until("\r\n\r\n");
  }
  return clients;
}

TEST(HttpKnownCallers, WhoseBodiesHoldAllThatOneCallersMayIsTold) {
  HttpOptions options = options_of(64);
  options.limits.max_bodies_bytes = 1'000'000;
  const auto echo = [](auto, auto writer) { writer->send(200, "text/plain", "whole"); };
  const RunningServer server({{.method = "POST", .path = "/echo", .rule = read_server_rule(), .handler = echo}},
                             options);
  const auto head = [](const std::string& key, size_t bytes) {
    return "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Api-Key: " + key +
           "\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n";
  };
  std::vector<RawClient> uploads;
  for (int i = 0; i < 3; ++i) {
    uploads.emplace_back(server.port());
    uploads.back().send(head("ann", 300'000) + std::string(299'999, 'x'));
    ASSERT_TRUE(eventually([&] { return server.server->bodies_bytes() > (i + 1) * 230'000; }));
  }
  const std::string refused = server.ask(head("ann", 250'000));
  EXPECT_EQ(status_of(refused), 429);
  for (const char* part : {"Retry-After: 1\r\n", "rate_limit_exceeded", "max_bodies_bytes"})
    EXPECT_NE(refused.find(part), std::string::npos) << refused;
  EXPECT_EQ(status_of(server.ask(head("ben", 200'000) + std::string(200'000, 'x'))), 200);
  for (RawClient& upload : uploads) upload.send("x");
  for (RawClient& upload : uploads) EXPECT_EQ(status_of(upload.read_all()), 200) << "each goes on";
}

TEST(HttpKnownCallers, WhoHoldsConnectionsThatWaitKeepsNobodyOut) {
  const test::LogLines lines;
  Site site;
  const RunningServer server(site.routes(), options_of(16));
  RawClient stream(server.port());
  stream.send(get("/slow", "ann"));
  ASSERT_TRUE(site.has_kept(1));
  const std::vector<RawClient> mine = held(server.port(), 40, get("/hello", "ann"));
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(status_of(server.ask(get("/hello", "ben", true))), 200);
    EXPECT_EQ(status_of(server.ask(get("/livez", "", true))), 200);
  }
  EXPECT_EQ(site.kept.size(), 1u);
  std::string nothing;
  EXPECT_TRUE(stream.read_some(nothing, 50)) << "an answer under way is never cut for another's sake";
  EXPECT_TRUE(nothing.empty());
}

// Each of them begins as a stranger and takes a moment to show its key, as over TLS or a real network.
TEST(HttpKnownCallers, ThoseWhoArriveTogetherDoNotCutOneAnother) {
  Site site;
  const RunningServer server(site.routes(), options_of(64));
  std::vector<RawClient> idle = held(server.port(), 56, get("/hello", "ann"));
  for (RawClient& one : held(server.port(), 8, get("/hello", "ben"))) idle.push_back(std::move(one));
  std::vector<RawClient> arrive;
  for (int i = 0; i < 8; ++i) arrive.emplace_back(server.port());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  for (RawClient& one : arrive) {
    one.send(get("/hello", "eve", true));
    EXPECT_EQ(status_of(one.read_all()), 200);
  }
}

TEST(HttpKnownCallers, WhoWaitsGivesWayBeforeARequestUnderWay) {
  Site site;
  const RunningServer server(site.routes(), options_of(16));
  RawClient slow(server.port());
  slow.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Api-Key: ann\r\nContent-Length: 2\r\n\r\n{");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::vector<RawClient> mine = held(server.port(), 13, get("/hello", "ann"));
  const std::vector<RawClient> others = held(server.port(), 6, get("/hello", "ben"));
  slow.send("}");
  EXPECT_EQ(status_of(slow.read_until("hello")), 200);
}

// Streams of one caller until it is refused more.
std::vector<RawClient> streams_of(Site& site, uint16_t port, const std::string& key) {
  std::vector<RawClient> streams;
  for (size_t before = site.kept.size();; ++before) {
    RawClient one(port);
    one.send(get("/slow", key));
    std::string refusal;
    if (!eventually([&] { return site.has_kept(before + 1, 1) || !one.read_some(refusal, 1) || !refusal.empty(); }))
      ADD_FAILURE() << "neither kept nor refused";
    if (!site.has_kept(before + 1, 1)) {
      EXPECT_EQ(status_of(refusal), 429);
      return streams;
    }
    streams.push_back(std::move(one));
  }
}

TEST(HttpKnownCallers, AnswersUnderWayOfOneLeaveRoomForOthers) {
  Site site;
  const RunningServer server(site.routes(), options_of(16));
  const std::vector<RawClient> streams = streams_of(site, server.port(), "ann");
  EXPECT_EQ(streams.size(), 12u);
  EXPECT_EQ(status_of(server.ask(get("/hello", "ben", true))), 200);
}

// Whatever those with a key work on: who has none can't cut an upload, and who is slow to show one gets to.
TEST(HttpKnownCallers, BesideStreamsOfTwoNobodySlowIsCutForStrangers) {
  Site site;
  const RunningServer server(site.routes(), options_of(64));
  std::vector<RawClient> streams = streams_of(site, server.port(), "ann");
  for (RawClient& one : streams_of(site, server.port(), "ben")) streams.push_back(std::move(one));
  EXPECT_EQ(streams.size(), 45u + 4u);
  RawClient upload(server.port());
  upload.send("GET /hello HTTP/1.1\r\nHost: x\r\nX-Api-Key: eve\r\nContent-Length: 2\r\n\r\n{");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::vector<RawClient> silent;
  for (int i = 0; i < 20; ++i) silent.emplace_back(server.port());
  RawClient slow(server.port());
  for (int i = 0; i < 6; ++i) silent.emplace_back(server.port());
  upload.send("}");
  EXPECT_EQ(status_of(upload.read_until("hello")), 200);
  slow.send(get("/hello", "eve", true));
  EXPECT_EQ(status_of(slow.read_all()), 200);
  std::string nothing;
  for (RawClient& one : streams) EXPECT_TRUE(one.read_some(nothing, 0));
  EXPECT_TRUE(nothing.empty());
}

TEST(HttpKnownCallers, AConnectionWhoseKeyIsNotShownAnyMoreIsAStrangers) {
  Site site;
  const RunningServer server(site.routes(), options_of(8));
  std::vector<RawClient> mine = held(server.port(), 6, get("/hello", "ann"));
  for (RawClient& one : mine) {
    one.send(get("/livez", ""));
    one.read_until("hello");
  }
  const std::vector<RawClient> others = held(server.port(), 4, get("/hello", "ben"));
  int cut = 0;
  std::string rest;
  for (RawClient& one : mine) cut += one.read_some(rest, 50) ? 0 : 1;
  EXPECT_EQ(cut, 2) << "the oldest strangers gave way";
}

TEST(HttpKnownCallers, APathThatIsNoneMakesNobodyKnown) {
  Site site;
  HttpOptions options = options_of(64);
  options.admin = AdminListener{};
  const RunningServer server(site.routes(), options);
  const uint16_t admin = server.server->admin_port();
  const std::vector<RawClient> mine = held(admin, 70, get("/nope", "ann"));
  RawClient security(admin);
  security.send(get("/admin/v1/keys", "sue", true));
  EXPECT_EQ(status_of(security.read_all()), 200);
}

}  // namespace
}  // namespace redoubt
