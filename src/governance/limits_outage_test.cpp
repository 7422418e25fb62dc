// Real databases that stop taking writes under load: a full disk, a read-only file, another program that holds the
// lock, a server that is paused, crashes, refuses writes, has no room. 256 callers on two nodes are under way. What
// must hold: once a node knows, it admits nothing; streams that need more end with an error that names the limit; it
// opens again by itself; and the books say in the end, to the token, what the callers (as an engine would) have
// counted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <random>
#include <thread>

#include "governance/limits_fixture.h"

namespace redoubt {
namespace {

using std::chrono::milliseconds;
using test::Node;

constexpr int64_t kCap = 40'000'000;
constexpr int kCallers = 256;
constexpr std::string_view kCounter = "tokens_per_day tenant north";
constexpr std::string_view kLimit = "tokens_per_day of tenant north";

struct Told {
  std::atomic<int64_t> tokens{0}, cut{0}, lost{0}, exhausted{0}, unavailable{0};
  std::atomic<bool> stop{false};
};

// The next grant, or nothing where the limits cannot give more: the stream ends with an error.
std::optional<int64_t> extended(Reservation& reservation, int64_t generated) {
  std::mutex mutex;
  std::condition_variable came;
  std::optional<Reservation::Extended> answer;
  reservation.extend({generated, 0}, [&](Reservation::Extended found) {
    const std::lock_guard lock(mutex);
    answer = std::move(found);
    came.notify_one();
  });
  std::unique_lock lock(mutex);
  came.wait(lock, [&] { return answer.has_value(); });
  if (const auto* granted = std::get_if<Reservation::Granted>(&*answer)) return granted->answer;
  const auto& no_more = std::get<Reservation::NoMore>(*answer);
  EXPECT_TRUE(no_more.is_unavailable);  // the limit is far away
  EXPECT_EQ(no_more.limit, kLimit);
  return std::nullopt;
}

void call(Limits& limits, Told& told, uint64_t seed) {
  std::mt19937_64 random(seed);
  const Principal who = test::person("u" + std::to_string(seed % 7));
  while (!told.stop) {
    const auto prompt = static_cast<int64_t>(1 + random() % 60), wanted = static_cast<int64_t>(200 + random() % 800);
    auto answer = limits.reserve({.principal = &who, .model = "r1", .prompt_tokens = prompt, .max_tokens = wanted});
    if (const auto* refusal = std::get_if<LimitRefusal>(&answer)) {
      EXPECT_EQ(refusal->limit, kLimit);
      ++(refusal->why == LimitRefusal::Why::unavailable ? told.unavailable : told.exhausted);
      std::this_thread::sleep_for(milliseconds(20));
      continue;
    }
    Reservation reservation = std::get<Reservation>(std::move(answer));
    reservation.on_lost([&told](const std::string&) { ++told.lost; });
    int64_t generated = 0, granted = reservation.granted().answer;
    while (generated < wanted) {
      if (generated == granted) {
        const auto more = extended(reservation, generated);
        if (!more) {
          ++told.cut;
          break;
        }
        granted = *more;
      }
      generated = std::min({granted, wanted, generated + 64});
      std::this_thread::sleep_for(milliseconds(20 + random() % 20));
    }
    told.tokens += prompt + generated;
    reservation.settle({prompt, generated, 0});
  }
}

// What happens to the database, and how it ends. Constructed when the nodes run.
struct Outage {
  virtual ~Outage() = default;
  virtual void begin() = 0;
  virtual void end() = 0;
};

// ---- SQLite

std::filesystem::path file_of(const test::TestDatabase& files, const char* suffix = "") {
  return files.options().location + suffix;
}
constexpr const char* kSuffixes[] = {"", "-wal", "-shm"};

// No file may be written beyond its first pages, which the log has long left: what a full disk says to a log that is
// appended to, for whoever runs the test. Not the log's size: begun again after a checkpoint, it would have room.
struct SizeLimit final : Outage {
  SizeLimit() { getrlimit(RLIMIT_FSIZE, &before); }
  void begin() override {
    signal(SIGXFSZ, SIG_IGN);
    rlimit now = before;
    now.rlim_cur = 65'536;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &now), 0);
  }
  void end() override { ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0); }
  ~SizeLimit() override { setrlimit(RLIMIT_FSIZE, &before); }
  rlimit before{};
};

// The disk has no byte left, where we may mount one of our own.
struct FullDisk final : Outage {
  explicit FullDisk(const test::TestDatabase& database) : filler(database.folder() / "filler") {}
  static bool mount_under(const test::TestDatabase& database) {
    return mount("tmpfs", database.folder().c_str(), "tmpfs", 0, "size=24m,mode=0700") == 0;
  }
  void begin() override {
    const int fd = open(filler.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(fd, 0);
    const std::string page(4096, 'x');
    while (write(fd, page.data(), page.size()) > 0) {
    }
    ASSERT_EQ(errno, ENOSPC);
    close(fd);
  }
  void end() override { std::filesystem::remove(filler); }
  const std::filesystem::path filler;
};

// The file in its place may be read alone, in a folder where nothing may be made.
struct ReadOnlyFile final : Outage {
  explicit ReadOnlyFile(const test::TestDatabase& database) : files(database) {}
  void begin() override {
    for (const char* suffix : kSuffixes) std::filesystem::rename(file_of(files, suffix), aside(suffix));
    for (const char* suffix : kSuffixes) {
      std::filesystem::copy_file(aside(suffix), file_of(files, suffix));
      chmod(file_of(files, suffix).c_str(), 0400);
    }
    chmod(files.folder().c_str(), 0500);
  }
  void end() override {
    chmod(files.folder().c_str(), 0700);
    for (const char* suffix : kSuffixes) {
      std::error_code none;
      std::filesystem::remove(file_of(files, suffix), none);
      std::filesystem::rename(aside(suffix), file_of(files, suffix));
    }
  }
  std::filesystem::path aside(const char* suffix) const { return files.folder() / (std::string("aside.db") + suffix); }
  const test::TestDatabase& files;
};

// Another program writes, for seconds.
struct Locked final : Outage {
  explicit Locked(const test::TestDatabase& database) : files(database) {}
  ~Locked() override { sqlite3_close(raw); }
  void begin() override {
    ASSERT_EQ(sqlite3_open(file_of(files).c_str(), &raw), SQLITE_OK);
    sqlite3_busy_timeout(raw, 10'000);
    ASSERT_EQ(sqlite3_exec(raw, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  }
  void end() override { ASSERT_EQ(sqlite3_exec(raw, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK); }
  const test::TestDatabase& files;
  sqlite3* raw = nullptr;
};

// ---- PostgreSQL

void psql(const std::string& database, const std::string& sql) {
  const std::string command = "psql -q -v ON_ERROR_STOP=1 '" + test::postgres_server()->url(database) +
                              "' > /dev/null <<'END'\n" + sql + "\nEND";
  ASSERT_EQ(std::system(command.c_str()), 0);
}

struct Paused final : Outage {
  void begin() override { test::postgres_server()->pause(); }
  void end() override { test::postgres_server()->resume(); }
};

struct Crashed final : Outage {
  void begin() override { test::postgres_server()->stop(); }
  void end() override { ASSERT_TRUE(test::postgres_server()->start()); }
};

// As an administrator does it for maintenance; sessions that were open are ended, new ones are for reading.
struct ReadOnlyServer final : Outage {
  void begin() override {
    psql("postgres", R"(ALTER SYSTEM SET default_transaction_read_only = on;
SELECT pg_reload_conf();
SELECT pg_sleep(0.2);
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'redoubt';)");
  }
  void end() override {
    psql("postgres",
         "SET default_transaction_read_only = off;\n"
         "ALTER SYSTEM RESET default_transaction_read_only;\nSELECT pg_reload_conf();");
  }
};

// The server's own error 53100, disk_full; by a trigger, because how long a full disk goes unnoticed depends on what
// the server had set aside.
struct NoRoom final : Outage {
  explicit NoRoom(const test::TestDatabase& database) : files(database) {}
  void begin() override {
    psql(files.name(), R"(CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON quota_leases FOR EACH ROW EXECUTE FUNCTION no_room();)");
  }
  void end() override { psql(files.name(), "DROP TRIGGER no_room ON quota_leases; DROP FUNCTION no_room();"); }
  const test::TestDatabase& files;
};

// ---- The trial

class LimitsOutage : public testing::Test {
 protected:
  void under(const test::TestDatabase& files, Outage& outage) {
    ASSERT_TRUE(files.available()) << files.why_not();
    const auto reader = files.open();
    ASSERT_TRUE(prepare_quota_tables(*reader, wall_));
    std::vector<std::unique_ptr<Node>> nodes;
    for (const char* name : {"a", "b"}) {
      // A wait that no slow machine uses up: it ends when the outage is known.
      nodes.push_back(
          std::make_unique<Node>(files.open(), name, wall_, LimitsOptions{.wait_ms = 20'000, .sync_ms = 50}));
      nodes.back()->limits.set_rules(test::rules_of({test::of_tenant(LimitKind::tokens_per_day, kCap)}));
    }
    Told told;
    std::vector<std::thread> callers;
    for (uint64_t i = 0; i < kCallers; ++i) callers.emplace_back([&, i] { call(nodes[i % 2]->limits, told, i + 1); });
    const auto admitted = [&](size_t i) { return nodes[i]->limits.stats().reserved; };
    const auto until = [](const std::function<bool()>& holds) {
      const auto begun = std::chrono::steady_clock::now();
      bool does = holds();
      for (; !does && std::chrono::steady_clock::now() - begun < std::chrono::seconds(60); does = holds())
        std::this_thread::sleep_for(milliseconds(5));
      EXPECT_TRUE(does);
      return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begun).count();
    };
    until([&] { return admitted(0) > 200 && admitted(1) > 200; });

    outage.begin();
    const auto known_ms = until([&] {
      return std::ranges::all_of(nodes, [](const auto& node) { return node->limits.stats().failing_ns > 0; });
    });
    const uint64_t before[] = {admitted(0), admitted(1)};
    const int64_t unavailable_before = told.unavailable;
    std::this_thread::sleep_for(milliseconds(1500));
    EXPECT_EQ(admitted(0), before[0]);
    EXPECT_EQ(admitted(1), before[1]);
    EXPECT_GT(told.unavailable, unavailable_before);
    EXPECT_GT(told.cut, 0);
    outage.end();
    const auto open_ms = until([&] { return admitted(0) > before[0] && admitted(1) > before[1]; });

    std::this_thread::sleep_for(milliseconds(300));
    told.stop = true;
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(told.exhausted, 0);
    EXPECT_EQ(told.lost, 0);  // no lease ended
    spend_the_rest(nodes[0]->limits, told);
    for (const auto& node : nodes) {
      until([&] { return node->limits.sync().has_value(); });  // the database's time limit is short
      EXPECT_EQ(node->limits.stats().open, 0);
    }
    const int64_t settled = test::settled_of(*reader, std::string(kCounter), wall_.now_ms());
    EXPECT_EQ(settled, told.tokens);
    EXPECT_LE(settled, kCap);
    std::printf(
        "known after %lld ms, open %lld ms after the end; %lld streams ended with an error, %lld requests "
        "answered 503; settled %lld of %lld\n",
        static_cast<long long>(known_ms), static_cast<long long>(open_ms), static_cast<long long>(told.cut.load()),
        static_cast<long long>(told.unavailable.load()), static_cast<long long>(settled), static_cast<long long>(kCap));
  }

  // By large requests, until there is no more: had anything been counted twice or not at all, it would show.
  static void spend_the_rest(Limits& limits, Told& told) {
    const Principal ann = test::person("ann");
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (int64_t prompt = kCap / 8; prompt > 0;) {
      auto answer = limits.reserve({.principal = &ann, .model = "r1", .prompt_tokens = prompt, .max_tokens = 1});
      if (auto* reservation = std::get_if<Reservation>(&answer)) {
        told.tokens += prompt + 1;
        reservation->settle({prompt, 1, 0});
      } else if (std::get<LimitRefusal>(answer).why == LimitRefusal::Why::unavailable) {  // the machine is slow
        ASSERT_LT(std::chrono::steady_clock::now(), deadline);
        std::this_thread::sleep_for(milliseconds(20));
      } else {
        EXPECT_EQ(std::get<LimitRefusal>(answer).why, LimitRefusal::Why::exhausted);
        prompt /= 8;
      }
    }
  }

  SystemWallClock wall_;
};

TEST_F(LimitsOutage, AFileThatMayNotGrow) {
  const test::TestDatabase files(DatabaseKind::sqlite, 800);
  SizeLimit outage;
  under(files, outage);
}

TEST_F(LimitsOutage, AFullDisk) {
  const test::TestDatabase files(DatabaseKind::sqlite, 800);
  if (!FullDisk::mount_under(files)) GTEST_SKIP() << "may not mount a small disk: the test of a limited file stands in";
  FullDisk outage(files);
  under(files, outage);
  umount2(files.folder().c_str(), MNT_DETACH);
}

TEST_F(LimitsOutage, AReadOnlyFile) {
  const test::TestDatabase files(DatabaseKind::sqlite, 800);
  constexpr uid_t kNobody = 65534;
  const bool is_root = geteuid() == 0;  // may write whatever the modes say
  if (is_root) {
    ASSERT_EQ(chown(files.folder().c_str(), kNobody, kNobody), 0);
    ASSERT_EQ(seteuid(kNobody), 0);
  }
  ReadOnlyFile outage(files);
  under(files, outage);
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
}

TEST_F(LimitsOutage, AnotherProgramHoldsTheLock) {
  const test::TestDatabase files(DatabaseKind::sqlite, 800);
  Locked outage(files);
  under(files, outage);
}

class LimitsOutageOnServer : public LimitsOutage {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
  }
  test::TestDatabase files_{DatabaseKind::postgres, 800};
};

TEST_F(LimitsOutageOnServer, APausedServer) {
  Paused outage;
  under(files_, outage);
}

TEST_F(LimitsOutageOnServer, ACrashedServer) {
  Crashed outage;
  under(files_, outage);
}

TEST_F(LimitsOutageOnServer, AReadOnlyServer) {
  ReadOnlyServer outage;
  under(files_, outage);
}

TEST_F(LimitsOutageOnServer, AServerWithoutRoom) {
  NoRoom outage(files_);
  under(files_, outage);
}

}  // namespace
}  // namespace redoubt
