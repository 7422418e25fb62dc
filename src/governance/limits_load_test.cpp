// Many callers at once against each kind of limit, on one node and on two that share the database, with requests that
// fail, clients that leave, and a node that is killed in the middle. What is counted here is what an engine would have
// generated, token by token.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <random>
#include <thread>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

using test::Node;

// Shared between processes.
struct Counted {
  std::atomic<int64_t> requests{0}, tokens{0}, thinking{0}, streams{0}, most_streams{0}, refused{0}, failed{0};
  std::atomic<bool> go{false};
  std::atomic<int64_t> units_of_price{0};  // prompt + 2 * answer of each settled request
};
struct SharedCounted {
  SharedCounted() {
    at = static_cast<Counted*>(
        mmap(nullptr, sizeof(Counted), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    new (at) Counted();
  }
  ~SharedCounted() { munmap(at, sizeof(Counted)); }
  Counted* operator->() const { return at; }
  Counted* at;
};

struct Storm {
  int callers = 256, requests = 6;  // of each caller
  uint64_t seed = 1;
  bool counts_streams = false;
  std::function<bool()> ends = nullptr;  // null: when all requests are done
};

void note_stream(Counted& counted) {
  const int64_t now = ++counted.streams;
  int64_t most = counted.most_streams;
  while (most < now && !counted.most_streams.compare_exchange_weak(most, now)) {
  }
}

// One caller: reserves, generates within what is granted, asks for more, and settles; or fails; or the client leaves.
void call(Limits& limits, Counted& counted, const Storm& storm, uint64_t seed) {
  std::mt19937_64 random(seed);
  const Principal who = test::person("u" + std::to_string(seed % 7));
  for (int i = 0; i < storm.requests && !(storm.ends && storm.ends()); ++i) {
    const auto prompt = static_cast<int64_t>(1 + random() % 60), wanted = static_cast<int64_t>(1 + random() % 500);
    auto answer = limits.reserve({.principal = &who, .model = "r1", .prompt_tokens = prompt, .max_tokens = wanted});
    if (std::holds_alternative<LimitRefusal>(answer)) {
      ++counted.refused;
      continue;
    }
    Reservation reservation = std::get<Reservation>(std::move(answer));
    if (storm.counts_streams) note_stream(counted);
    int64_t generated = 0, granted = reservation.granted().answer;
    const int64_t leaves_at =
        random() % 4 == 0 ? static_cast<int64_t>(random() % static_cast<uint64_t>(wanted)) : wanted;
    while (generated < leaves_at) {
      if (generated == granted) {
        std::mutex mutex;
        std::condition_variable told;
        std::optional<int64_t> more;
        reservation.extend({generated, generated / 2}, [&](auto found) {
          const std::lock_guard lock(mutex);
          const auto* total = std::get_if<Reservation::Granted>(&found);
          more = total == nullptr ? generated : total->answer;
          told.notify_one();
        });
        std::unique_lock lock(mutex);
        told.wait(lock, [&] { return more.has_value(); });
        if (*more <= generated) break;
        granted = *more;
      }
      const int64_t step = std::min({granted, leaves_at, generated + 32}) - generated;
      generated += step;
      if (random() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
    }
    if (storm.counts_streams) --counted.streams;
    if (random() % 5 == 0) {  // it failed: nothing is charged
      ++counted.failed;
      continue;
    }
    ++counted.requests;
    counted.tokens += prompt + generated;
    counted.thinking += generated / 2;
    counted.units_of_price += prompt + 2 * generated;
    reservation.settle({prompt, generated, generated / 2});
  }
}

void run(Limits& limits, Counted& counted, const Storm& storm) {
  std::vector<std::thread> threads;
  for (int i = 0; i < storm.callers; ++i)
    threads.emplace_back([&, i] { call(limits, counted, storm, storm.seed * 1000 + static_cast<uint64_t>(i)); });
  for (std::thread& thread : threads) thread.join();
}

struct Case {
  LimitKind kind;
  int64_t cap;
};
int64_t counted_of(LimitKind kind, const Counted& counted) {
  switch (kind) {
    case LimitKind::requests_per_minute:
      return counted.requests;
    case LimitKind::thinking_tokens_per_day:
      return counted.thinking;
    case LimitKind::money_per_day:
    case LimitKind::money_per_month:
      return counted.units_of_price;
    case LimitKind::concurrent_streams:
      return counted.most_streams;
    default:
      return counted.tokens;
  }
}

class LimitsLoad : public testing::TestWithParam<DatabaseKind> {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    reader_ = files_.open();
    ASSERT_TRUE(prepare_quota_tables(*reader_, wall_));
  }
  static LimitRules rules(const Case& one) {
    LimitRules rules = test::rules_of({test::of_tenant(one.kind, one.cap)});
    rules.prices["r1"] = {.prompt = 1'000'000, .answer = 2'000'000};
    return rules;
  }
  void forget() {
    ASSERT_TRUE(reader_->write([](Transaction& tx) -> Status {
      for (const char* table : {"quota_counters", "quota_leases", "quota_window", "quota_nodes"})
        REDOUBT_CHECK(tx.execute(std::string("DELETE FROM ") + table));
      return ok();
    }));
  }
  test::TestDatabase files_{GetParam(), 20'000};
  test::ShiftedWallClock wall_;
  std::unique_ptr<Database> reader_;
};
INSTANTIATE_TEST_SUITE_P(Databases, LimitsLoad, test::both_databases(), test::database_test_name);

const Case kCases[] = {
    {LimitKind::requests_per_minute, 300},        {LimitKind::tokens_per_minute, 60'000},
    {LimitKind::tokens_per_day, 60'000},          {LimitKind::tokens_per_month, 2'000'000},
    {LimitKind::money_per_day, 90'000},           {LimitKind::money_per_month, 150'000},
    {LimitKind::thinking_tokens_per_day, 40'000}, {LimitKind::concurrent_streams, 40},
};

TEST_P(LimitsLoad, TwoHundredFiftySixCallersNeverPassALimitAndTheBooksAgree) {
  for (const Case& one : kCases) {
    for (const int nodes : {1, 2}) {
      SCOPED_TRACE(std::string(kind_name(one.kind)) + " on " + std::to_string(nodes));
      forget();
      SharedCounted counted;
      const Storm storm{.callers = 256 / nodes, .counts_streams = one.kind == LimitKind::concurrent_streams};
      {
        std::vector<std::unique_ptr<Node>> running;
        for (int i = 0; i < nodes; ++i) {
          running.push_back(std::make_unique<Node>(files_.open(), "n" + std::to_string(i), wall_,
                                                   LimitsOptions{.wait_ms = 20'000, .sync_ms = 50}));
          running.back()->limits.set_rules(rules(one));
        }
        std::vector<std::thread> threads;
        for (int i = 0; i < nodes; ++i) {
          threads.emplace_back([&, i] {
            Storm own = storm;
            own.seed = static_cast<uint64_t>(i + 1);
            run(running[static_cast<size_t>(i)]->limits, *counted.at, own);
          });
        }
        for (std::thread& thread : threads) thread.join();
        for (const auto& node : running) {
          EXPECT_TRUE(node->limits.sync());  // the last word has three seconds alone, on a machine that may be busy
          EXPECT_EQ(node->limits.stats().open, 0);
          if (node->limits.stats().failed_syncs > 0) std::printf("a report failed, and was made again\n");
        }
      }
      const int64_t used = counted_of(one.kind, *counted.at);
      EXPECT_LE(used, one.cap);
      EXPECT_GT(used, 0);
      if (one.cap > 1'000'000) {
        EXPECT_EQ(counted->refused, 0);  // there is enough for all
      }
      if (one.kind != LimitKind::concurrent_streams) {
        const std::string counter = std::string(kind_name(one.kind)) + " tenant north";
        const int64_t settled = test::settled_of(*reader_, counter, wall_.now_ms());
        // What a stream had used in the minute stays in it even if the request fails later.
        EXPECT_GE(settled, used);
        if (window_of(one.kind) != LimitWindow::minute) {
          EXPECT_EQ(settled, used);
        }
        EXPECT_LE(settled, one.cap);
      }
      std::printf("%s, %d node(s): %lld of %lld used, %lld requests settled, %lld failed, %lld refused\n",
                  std::string(kind_name(one.kind)).c_str(), nodes, static_cast<long long>(used),
                  static_cast<long long>(one.cap), static_cast<long long>(counted->requests.load()),
                  static_cast<long long>(counted->failed.load()), static_cast<long long>(counted->refused.load()));
    }
  }
}

// The child is a node of its own process, killed in the middle of its work; what it used it has told, token by token.
// The survivor (on SQLite: the same node, started again) never gets what the dead one may have used.
TEST_P(LimitsLoad, AKilledNodeLeavesNothingToSpendTwice) {
  for (const Case& one : {Case{LimitKind::tokens_per_day, 100'000}, Case{LimitKind::requests_per_minute, 400},
                          Case{LimitKind::money_per_month, 200'000}}) {
    SCOPED_TRACE(kind_name(one.kind));
    forget();
    SharedCounted of_child, of_parent;
    const bool shared = GetParam() == DatabaseKind::postgres;
    std::fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      auto database = Database::open(files_.options());
      if (!database) _exit(1);
      Node node(std::move(database).value(), shared ? "child" : "local", wall_, {.wait_ms = 20'000, .sync_ms = 50});
      node.limits.set_rules(rules(one));
      while (!of_child->go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      // It leaves something, however slow the other is; then it holds what it holds until it is killed.
      const auto has_enough = [&] { return counted_of(one.kind, *of_child.at) >= one.cap / 4; };
      for (uint64_t round = 1; !has_enough(); ++round)
        run(node.limits, *of_child.at, {.callers = 32, .requests = 50, .seed = round, .ends = has_enough});
      for (;;) pause();
    }
    // They work side by side, and it is killed somewhere.
    std::unique_ptr<Node> node;
    std::thread storm;
    const auto work = [&] {
      node = std::make_unique<Node>(files_.open(), shared ? "parent" : "local", wall_,
                                    LimitsOptions{.wait_ms = 20'000, .sync_ms = 50});
      node->limits.set_rules(rules(one));
      storm = std::thread([&] { run(node->limits, *of_parent.at, {.callers = 128, .requests = 3, .seed = 7}); });
    };
    // The child begins, or the other could leave it nothing to be killed over.
    const auto until_child_has = [&](int64_t amount) {
      const auto begun = std::chrono::steady_clock::now();
      while (counted_of(one.kind, *of_child.at) < amount &&
             std::chrono::steady_clock::now() - begun < std::chrono::seconds(20))
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      EXPECT_GT(counted_of(one.kind, *of_child.at), 0);
    };
    of_child->go = true;
    until_child_has(one.cap / 40);
    if (shared) work();
    until_child_has(one.cap / 20);
    ASSERT_EQ(kill(child, SIGKILL), 0);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    if (!shared) work();
    storm.join();
    // Its lease ends, and the survivor spends the rest.
    wall_.shift_ms += kLeaseMs + kLeaseMarginMs + 1000;
    ASSERT_TRUE(node->limits.sync());
    run(node->limits, *of_parent.at, {.callers = 64, .requests = 3, .seed = 9});
    ASSERT_TRUE(node->limits.sync());
    node.reset();
    const int64_t used = counted_of(one.kind, *of_child.at) + counted_of(one.kind, *of_parent.at);
    const std::string counter = std::string(kind_name(one.kind)) + " tenant north";
    const int64_t settled = test::settled_of(*reader_, counter, wall_.now_ms());
    if (one.kind != LimitKind::requests_per_minute) {
      EXPECT_LE(used, one.cap);
      EXPECT_GE(settled, used);  // the dead one's count is of what it may have used
    }
    EXPECT_LE(settled, one.cap);
    EXPECT_GT(counted_of(one.kind, *of_parent.at), 0);
    std::printf("%s: the dead node used %lld, the other %lld; settled %lld of %lld\n",
                std::string(kind_name(one.kind)).c_str(), static_cast<long long>(counted_of(one.kind, *of_child.at)),
                static_cast<long long>(counted_of(one.kind, *of_parent.at)), static_cast<long long>(settled),
                static_cast<long long>(one.cap));
  }
}

}  // namespace
}  // namespace redoubt
