// What request bodies may take together: large ones beyond it are refused, small ones are not.
#include "server/body_room.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <vector>

#include "server/http_test_client.h"

namespace redoubt {
namespace {

constexpr int64_t kLarge = 900'000, kSmall = kFreeBodyBytes;

class Bodies : public testing::Test {
 protected:
  Bodies() : server_(routes(), options()) {}

  static HttpOptions options() {
    HttpOptions result;
    result.worker_threads = 1;
    result.limits.max_bodies_bytes = 1'000'000;
    return result;
  }
  // POST /count answers at once; POST /keep keeps the request, and answers in release(); POST /work takes the worker
  // until `go`.
  std::vector<Route> routes() {
    Route count{.method = "POST", .path = "/count", .rule = read_server_rule()};
    count.handler = [this](auto request, auto writer) {
      ++counts_;
      writer->send(200, "text/plain", std::to_string(request->body.size()));
    };
    Route keep{.method = "POST", .path = "/keep", .rule = read_server_rule()};
    keep.handler = [this](auto request, auto writer) {
      const std::lock_guard lock(mutex_);
      kept_.emplace_back(request, writer);
    };
    Route work{.method = "POST", .path = "/work", .rule = read_server_rule()};
    work.handler = [this](auto, auto writer) {
      is_working_ = true;
      eventually([&] { return go_.load(); }, 10'000);
      writer->send(200, "text/plain", "worked");
    };
    return {count, keep, work};
  }
  void release() {
    EXPECT_TRUE(eventually([&] {  // its body is counted before a worker has it
      const std::lock_guard lock(mutex_);
      return !kept_.empty();
    }));
    const std::lock_guard lock(mutex_);
    for (const auto& [request, writer] : kept_) writer->send(200, "text/plain", "kept");
    kept_.clear();
  }
  static std::string head(const std::string& path, int64_t body_bytes) {
    return "POST " + path +
           " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " + std::to_string(body_bytes) + "\r\n\r\n";
  }
  static std::string whole(const std::string& path, int64_t body_bytes) {
    return head(path, body_bytes) + std::string(static_cast<size_t>(body_bytes), 'x');
  }
  int64_t counted() const { return server_.server->bodies_bytes(); }
  void expect_refused(const std::string& request) const {
    const std::string answer = server_.ask(request);
    EXPECT_EQ(status_of(answer), 503) << answer;
    EXPECT_NE(answer.find("Retry-After: 1\r\n"), std::string::npos) << answer;
    EXPECT_NE(answer.find("max_bodies_bytes"), std::string::npos) << answer;
  }

  std::atomic<bool> is_working_ = false, go_ = false;  // of /work
  std::atomic<int> counts_ = 0;                        // of /count

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::shared_ptr<const HttpRequest>, std::shared_ptr<ResponseWriter>>> kept_;

 protected:
  RunningServer server_;
};

// What waits for a worker waits no longer than its client, and so has a connection's place: else bodies without end
// would wait while workers are busy, and all be worked on for nobody.
TEST_F(Bodies, OfClientsThatLeaveBeforeAWorkerIsFreeAreNotWorkedOn) {
  RawClient working(server_.port());
  working.send(head("/work", 0));
  ASSERT_TRUE(eventually([&] { return is_working_.load(); }));
  {
    RawClient leaving(server_.port());
    leaving.send(whole("/count", kLarge));
    ASSERT_TRUE(eventually([&] { return counted() == kLarge - kFreeBodyBytes; }));
  }
  EXPECT_TRUE(eventually([&] { return counted() == 0; })) << "it is let go while the worker is busy";
  RawClient staying(server_.port());
  staying.send(whole("/count", kLarge));
  {
    std::vector<RawClient> leaving;
    for (int i = 0; i < 20; ++i) leaving.emplace_back(server_.port()).send(whole("/count", kSmall));
    EXPECT_TRUE(eventually([&] { return server_.server->open_connections() == 22; }));
  }
  EXPECT_TRUE(eventually([&] { return server_.server->open_connections() == 2; }));
  EXPECT_EQ(counted(), kLarge - kFreeBodyBytes);
  go_ = true;
  EXPECT_EQ(status_of(working.read_all()), 200);
  EXPECT_EQ(status_of(staying.read_all()), 200);
  EXPECT_EQ(status_of(server_.ask(whole("/count", kSmall))), 200);
  EXPECT_EQ(counts_, 2) << "of those who stayed";
}

TEST_F(Bodies, HaveTheirRoomTogetherWhileTheyAreRead) {
  RawClient slow(server_.port());
  slow.send(head("/count", kLarge) + std::string(600'000, 'x'));
  ASSERT_TRUE(eventually([&] { return counted() == 600'000 - kFreeBodyBytes; }));
  expect_refused(whole("/count", kLarge));
  expect_refused(head("/count", kLarge));  // before it sends any of it
  std::string chunked =
      "POST /count HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
      "dbba0\r\n";
  expect_refused(chunked + std::string(0xdbba0, 'x') + "\r\n0\r\n\r\n");
  for (int i = 0; i < 20; ++i) EXPECT_EQ(status_of(server_.ask(whole("/count", kSmall))), 200);
  ASSERT_TRUE(eventually([&] { return counted() == 600'000 - kFreeBodyBytes; }));
  slow.send(std::string(300'000, 'x'));
  EXPECT_NE(slow.read_until("900000").find("200 OK"), std::string::npos);
  EXPECT_TRUE(eventually([&] { return counted() == 0; }));
  EXPECT_EQ(status_of(server_.ask(whole("/count", kLarge))), 200);
}

TEST_F(Bodies, HoldItUntilTheirRequestsAreDone) {
  RawClient client(server_.port());
  client.send(whole("/keep", kLarge));
  ASSERT_TRUE(eventually([&] { return counted() == kLarge - kFreeBodyBytes; }));
  expect_refused(whole("/count", kLarge));
  release();
  EXPECT_EQ(status_of(client.read_all()), 200);
  EXPECT_TRUE(eventually([&] { return counted() == 0; }));
}

TEST_F(Bodies, OfClientsThatLeaveAreGivenBack) {
  {
    RawClient client(server_.port());
    client.send(head("/count", kLarge) + std::string(600'000, 'x'));
    ASSERT_TRUE(eventually([&] { return counted() > 0; }));
  }
  EXPECT_TRUE(eventually([&] { return counted() == 0; }));
}

TEST(BodyWork, IsBoundedByTheSameBudgetAndEndsWithTheWork) {
  const auto budget = std::make_shared<BodyBudget>(int64_t{100} << 20);
  BodyRoom room(budget), other(budget);
  ASSERT_EQ(room.grow_to(20 << 20), Room::taken);
  ASSERT_EQ(other.grow_to(20 << 20), Room::taken);
  {
    const auto work = room.begin_work(int64_t{50} << 20);
    ASSERT_TRUE(work.has_value());
    EXPECT_FALSE(other.begin_work(int64_t{50} << 20).has_value());
    EXPECT_TRUE(other.begin_work(kFreeWorkBytes - 1).has_value()) << "small ones always find room";
  }
  EXPECT_TRUE(other.begin_work(int64_t{50} << 20).has_value());
  EXPECT_FALSE(other.begin_work(int64_t{200} << 20).has_value());
  BodyRoom alone(std::make_shared<BodyBudget>(int64_t{100} << 20));
  ASSERT_EQ(alone.grow_to(20 << 20), Room::taken);
  EXPECT_TRUE(alone.begin_work(int64_t{200} << 20).has_value()) << "who is alone is served, or would never be";
}

// Whatever came at once: a byte now and then holds neither the place nor the memory.
TEST(BodyRate, AnUploadThatStopsIsCutAndASlowOneIsNot) {
  const auto echo = [](auto, auto writer) { writer->send(200, "text/plain", "whole"); };
  HttpOptions options;
  options.limits.body_timeout_s = 1;
  RunningServer server({{.method = "POST", .path = "/echo", .rule = read_server_rule(), .handler = echo}}, options);
  RawClient stopped(server.port()), slow(server.port());
  const std::string head = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ";
  stopped.send(head + "100000\r\n\r\n" + std::string(90'000, 'x'));
  slow.send(head + "16000\r\n\r\n");
  std::string refusal;
  for (int i = 0; i < 16; ++i) {
    if (refusal.empty()) stopped.send("x");
    slow.send(std::string(1000, 'x'));
    stopped.read_some(refusal, 300);
  }
  EXPECT_EQ(status_of(refusal), 408) << refusal;
  EXPECT_EQ(status_of(slow.read_all()), 200);
}

constexpr int64_t kMiB = 1 << 20;

TEST(BodyShares, LeaveRoomToOthersWhateverOneCallerSends) {
  const auto budget = std::make_shared<BodyBudget>(100 * kMiB);
  std::vector<std::unique_ptr<BodyRoom>> rooms;
  const auto upload = [&](const std::string& who, int64_t bytes) {
    rooms.push_back(std::make_unique<BodyRoom>(budget, who));
    return rooms.back()->grow_to(bytes + kFreeBodyBytes);
  };
  for (int i = 0; i < 7; ++i) EXPECT_EQ(upload("ann", 10 * kMiB), Room::taken) << i;
  EXPECT_EQ(upload("ann", 10 * kMiB), Room::too_much) << "it would be four times what is left";
  EXPECT_EQ(upload("ann", 9 * kMiB), Room::taken);
  EXPECT_EQ(rooms.back()->begin_work(5 * kMiB).has_value(), false);
  EXPECT_EQ(upload("ann", 0), Room::taken) << "small ones are not counted";
  BodyRoom ben(budget, "ben");
  EXPECT_EQ(ben.may_grow_to(10 * kMiB), Room::none) << "of the last eighth not so much";
  EXPECT_EQ(ben.grow_to(4 * kMiB), Room::taken) << "it leaves an eighth";
  EXPECT_TRUE(ben.begin_work(15 * kMiB).has_value());
  EXPECT_EQ(ben.grow_to(8 * kMiB), Room::taken) << "it goes on";
  EXPECT_EQ(upload("ben", 5 * kMiB), Room::too_much) << "the last eighth is for whoever has none";
  EXPECT_EQ(upload("eve", kMiB / 2), Room::taken);
  EXPECT_EQ(upload("eva", kMiB), Room::none);
  rooms.clear();
  EXPECT_EQ(upload("ann", 70 * kMiB), Room::taken);
  rooms.clear();
  for (int i = 0; i < 9; ++i) EXPECT_EQ(upload("", 10 * kMiB), Room::taken) << "of whom there may be many";
  rooms.clear();
  EXPECT_EQ(budget->used_bytes(), 8 * kMiB - kFreeBodyBytes) << "ben's";
}

// The last eighth is not filled by a few either, whatever each of them has: one body of two callers could.
TEST(BodyShares, LeaveRoomForAnOrdinaryChatWhateverManyCallersSend) {
  const auto budget = std::make_shared<BodyBudget>(512 * kMiB);
  std::vector<std::unique_ptr<BodyRoom>> rooms;
  for (int i = 0; i < 10; ++i) {
    for (int64_t bytes = 32 * kMiB; bytes >= 2 * kFreeBodyBytes; bytes /= 2) {
      Room room = Room::taken;
      while (room == Room::taken) {
        rooms.push_back(std::make_unique<BodyRoom>(budget, "caller " + std::to_string(i)));
        room = rooms.back()->grow_to(bytes);
      }
    }
    BodyRoom chat(budget, "eve");
    EXPECT_EQ(chat.grow_to(2 * kMiB), Room::taken) << "beside " << i + 1;
    EXPECT_TRUE(chat.begin_work(25 * kMiB).has_value()) << "beside " << i + 1;
  }
  rooms.clear();
  BodyRoom large(budget, "eve");
  EXPECT_EQ(large.grow_to(32 * kMiB), Room::taken);
}

TEST(BodyWork, CountsValuesWhereverTheyStand) {
  const auto of = [](const std::string& body) { return work_bytes(body); };
  EXPECT_EQ(of("{}"), 0);
  std::string list = "[0";
  for (int i = 1; i < 100'000; ++i) list += ",0";
  list += "]";
  EXPECT_GT(of(list), 20'000'000);
  EXPECT_GT(of("{\"arguments\": \"" + list + "\"}"), 20'000'000);
  EXPECT_LT(of("\"" + std::string(200'000, 'x') + "\""), 3'000'000);
  // Prose and code have commas and brackets, which are no values.
  std::string prose;
  for (int i = 0; i < 100'000; ++i) prose += "well, {so} \\\"[it]\\\" is, ";
  EXPECT_LT(of(R"({"messages":[{"role":"user","content":")" + prose + "\"}]}"),
            11 * static_cast<int64_t>(prose.size()));
  EXPECT_LT(of(R"({"arguments":"{\"content\": \")" + std::string(300'000, ',') + "\\\"}\"}"), 4'000'000);
  std::string most = "[0";
  for (int i = 0; i < 5'000'000; ++i) most += ",0";
  EXPECT_LT(of(most), 400'000'000) << "no more is built than a request may have";
}

}  // namespace
}  // namespace redoubt
