// What goes wrong with databases: gone, slow, full, read-only, removed. Each is `unavailable`, in time, and over as
// soon as its cause is.
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "log_lines.h"
#include "storage/database.h"
#include "storage/postgres_connection.h"
#include "test_database.h"

namespace redoubt {
namespace {

Status create(Database& database) {
  return database.write([](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, text TEXT)"));
    return ok();
  });
}
Status insert(Database& database, int64_t id, size_t bytes = 10) {
  return database.write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("INSERT INTO t VALUES (?, ?)", id, std::string(bytes, 'x')));
    return ok();
  });
}
Result<int64_t> count(Database& database) {
  return database.read([](Transaction& tx) -> Result<int64_t> {
    REDOUBT_TRY(const auto row, tx.row<int64_t>("SELECT COUNT(*) FROM t"));
    return std::get<0>(*row);
  });
}
#define EXPECT_UNAVAILABLE(...)                                                         \
  do {                                                                                  \
    const auto outcome = (__VA_ARGS__);                                                 \
    ASSERT_FALSE(outcome);                                                              \
    EXPECT_EQ(outcome.error().code, ErrorCode::unavailable) << outcome.error().message; \
  } while (false)

class SqliteFaults : public testing::Test {
 protected:
  void SetUp() override {
    database_ = files_.open();
    ASSERT_TRUE(create(*database_));
  }
  std::filesystem::path path() const { return files_.options().location; }
  test::TestDatabase files_{DatabaseKind::sqlite, 300};
  std::unique_ptr<Database> database_;
};

TEST_F(SqliteFaults, TheFileIsForItsOwnerAlone) {
  ASSERT_TRUE(insert(*database_, 1));
  for (const char* suffix : {"", "-wal", "-shm"}) {
    struct stat info {};
    ASSERT_EQ(::stat((path().string() + suffix).c_str(), &info), 0) << suffix;
    EXPECT_EQ(info.st_mode & 0777, 0600u) << suffix;
  }
}

TEST_F(SqliteFaults, CommitsAreSynced) {
  const auto setting = database_->read([](Transaction& tx) { return tx.row<int64_t>("PRAGMA synchronous"); });
  EXPECT_EQ(std::get<0>(**setting), 2);  // FULL
}

TEST_F(SqliteFaults, AnotherProgramThatHoldsTheFileIsWaitedForButNotForEver) {
  sqlite3* raw = nullptr;
  ASSERT_EQ(sqlite3_open(path().c_str(), &raw), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(raw, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_UNAVAILABLE(insert(*database_, 1));
  EXPECT_TRUE(count(*database_));  // readers do not mind
  ASSERT_EQ(sqlite3_exec(raw, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(raw);
  EXPECT_TRUE(insert(*database_, 1));
}

// SQLite's lock on the file tells other processes that its log is in use; who finds none there removes the log.
TEST_F(SqliteFaults, OpeningItOnceMoreKeepsTheLocksThatThisProcessHas) {
  ASSERT_TRUE(insert(*database_, 1));
  ASSERT_TRUE(files_.open());
  const std::string other =
      "python3 -c \"import sqlite3; db = sqlite3.connect('" + path().string() + "'); db.execute('SELECT * FROM t')\"";
  ASSERT_EQ(std::system(other.c_str()), 0);  // it closes last, as it thinks
  ASSERT_TRUE(insert(*database_, 2));
  EXPECT_TRUE(std::filesystem::exists(path().string() + "-wal"));
  EXPECT_EQ(*count(*files_.open()), 2);
}

TEST_F(SqliteFaults, AFullDiskIsUnavailableAndOverWhenThereIsRoom) {
  DatabaseOptions options = files_.options();
  options.max_bytes = 256 << 10;
  const auto small = Database::open(options).value();
  EXPECT_UNAVAILABLE(insert(*small, 1, 1 << 20));
  EXPECT_EQ(*count(*small), 0);
  EXPECT_TRUE(insert(*small, 2));
}

TEST_F(SqliteFaults, ReadOnlyIsSaidOfTheFileAndItsFolder) {
  const Status refused = database_->write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("PRAGMA query_only = ON"));  // as where the folder is read-only, for root too
    REDOUBT_CHECK(tx.execute("INSERT INTO t VALUES (1, 'x')"));
    return ok();
  });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
  EXPECT_NE(refused.error().message.find("cannot be written; may this user write it and its folder?"),
            std::string::npos)
      << refused.error().message;
}

TEST_F(SqliteFaults, AFileThatIsRemovedOrReplacedIsNoticed) {
  ASSERT_TRUE(insert(*database_, 1));
  const std::filesystem::path aside = files_.folder() / "aside.db";
  for (const char* suffix : {"", "-wal", "-shm"})
    std::filesystem::rename(path().string() + suffix, aside.string() + suffix);
  EXPECT_UNAVAILABLE(insert(*database_, 2));
  EXPECT_UNAVAILABLE(count(*database_));
  EXPECT_FALSE(std::filesystem::exists(path()));  // no empty one is made in its place
  for (const char* suffix : {"", "-wal", "-shm"})
    std::filesystem::rename(aside.string() + suffix, path().string() + suffix);
  EXPECT_TRUE(insert(*database_, 2));
  EXPECT_EQ(*count(*database_), 2);
}

TEST(SqliteFile, WhatIsNoDatabaseIsRefused) {
  const test::TestDatabase files(DatabaseKind::sqlite);
  std::ofstream(files.options().location) << std::string(8192, 'x');
  const auto database = Database::open(files.options());
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::corrupt_data);
}

TEST(SqliteFile, APathThatCannotBeMadeSaysWhich) {
  const auto database = Database::open({.location = "/nonexistent/redoubt.db"});
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::unavailable);
  EXPECT_NE(database.error().message.find("/nonexistent/redoubt.db"), std::string::npos);
  EXPECT_FALSE(Database::open({.location = ""}));
}

class PostgresFaults : public testing::Test {
 protected:
  void SetUp() override {
    if (!files_.available()) GTEST_SKIP() << files_.why_not();
    database_ = files_.open();
    ASSERT_TRUE(create(*database_));
  }
  static void becomes_available(Database& database, int64_t id) {
    Status done = unavailable("not tried");
    for (int i = 0; i < 100 && !done; ++i) {
      done = insert(database, id);
      if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(done) << done.error().message;
  }
  test::TestDatabase files_{DatabaseKind::postgres, 500};
  std::unique_ptr<Database> database_;
};

TEST_F(PostgresFaults, AServerThatCrashedIsFoundAgain) {
  ASSERT_TRUE(insert(*database_, 1));
  test::postgres_server()->stop();
  EXPECT_UNAVAILABLE(insert(*database_, 2));
  EXPECT_UNAVAILABLE(count(*database_));
  ASSERT_TRUE(test::postgres_server()->start());
  becomes_available(*database_, 3);
  EXPECT_EQ(*count(*database_), 2);
}

TEST_F(PostgresFaults, ConnectionsThatWereIdleWhileItRestartedFailNobody) {
  ASSERT_TRUE(insert(*database_, 1));
  ASSERT_TRUE(count(*database_));
  test::postgres_server()->stop();
  ASSERT_TRUE(test::postgres_server()->start());
  const Status done = insert(*database_, 2);
  EXPECT_TRUE(done) << done.error().message;
}

TEST_F(PostgresFaults, ASilentServerCostsNoMoreThanTheTimeLimit) {
  ASSERT_TRUE(insert(*database_, 1));
  test::postgres_server()->pause();
  const auto begun = std::chrono::steady_clock::now();
  const Status silent = insert(*database_, 2);       // over a connection that was there
  const Status unreachable = insert(*database_, 3);  // over a new one
  const auto taken = std::chrono::steady_clock::now() - begun;
  test::postgres_server()->resume();
  EXPECT_UNAVAILABLE(Status(silent));
  EXPECT_UNAVAILABLE(Status(unreachable));
  EXPECT_LT(taken, std::chrono::milliseconds(3000));
  becomes_available(*database_, 4);
}

TEST_F(PostgresFaults, AReadOnlyServerIsUnavailableUntilItTakesWritesAgain) {
  ASSERT_TRUE(insert(*database_, 1));
  const auto admin = [&](const std::string& sql) {
    const std::string command = "psql -q '" + test::postgres_server()->url("postgres") + "' -c '" + sql + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  };
  admin("ALTER DATABASE " + files_.name() + " SET default_transaction_read_only = on");
  const auto fresh = Database::open(files_.options());  // target_session_attrs asks for one that takes writes
  EXPECT_FALSE(fresh);
  admin("ALTER DATABASE " + files_.name() + " RESET default_transaction_read_only");
  becomes_available(*database_, 2);
}

TEST_F(PostgresFaults, ADefaultOfReadingOnlyHoldsOnConnectionsThatAreOpen) {
  ASSERT_TRUE(insert(*database_, 1));
  const auto admin = [&](const std::string& sql) {
    const std::string command = "psql -q '" + test::postgres_server()->url("postgres") +
                                "' -c 'SET default_transaction_read_only = off' -c '" + sql +
                                "' -c 'SELECT pg_reload_conf()' > /dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
  };
  admin("ALTER SYSTEM SET default_transaction_read_only = on");
  Status refused = ok();
  for (int i = 0; i < 500 && refused; ++i) {  // the reload takes a moment
    refused = insert(*database_, 100 + i);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  admin("ALTER SYSTEM RESET default_transaction_read_only");
  EXPECT_UNAVAILABLE(Status(refused));
  becomes_available(*database_, 2);
}

TEST_F(PostgresFaults, TheHostThatAnswersIsFoundAmongSeveral) {
  const auto database =
      Database::open({.location = test::postgres_server()->url_behind_a_dead_host(files_.name()), .timeout_ms = 2000});
  ASSERT_TRUE(database) << database.error().message;
  EXPECT_TRUE(insert(**database, 1));
}

TEST_F(PostgresFaults, ASilentAddressDoesNotEatTheTimeOfTheOthers) {
  // 192.0.2.0/24 is for documentation (RFC 5737): nobody answers there.
  std::string url = test::postgres_server()->url(files_.name());
  url.replace(url.find("host=") + 5, 0, "192.0.2.1,");
  url += "&sslmode=disable";
  const auto database = Database::open({.location = url, .timeout_ms = 1000});
  ASSERT_TRUE(database) << database.error().message;
}

TEST(PostgresUrl, NoPasswordIsEverShown) {
  const std::string url = "postgresql://me:secret@192.0.2.1:1/name?sslmode=require";
  const auto database = Database::open({.location = url, .timeout_ms = 100});
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().message.find("secret"), std::string::npos) << database.error().message;
  const auto broken = Database::open({.location = "postgresql://me:secret@[host/x"});
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().message.find("secret"), std::string::npos) << broken.error().message;
}

TEST(PostgresUrl, AnotherWayOfWritingItIsNoFilesName) {
  const auto database = Database::open({.location = "host=127.0.0.1 user=me dbname=name"});
  ASSERT_FALSE(database);
  EXPECT_EQ(database.error().code, ErrorCode::invalid_argument);
}

TEST(PostgresUrl, IsASecretWhereItHoldsAPassword) {
  for (const char* url :
       {"postgresql://me:secret@h/n", "postgresql://me@h/n?password=secret", "postgresql://me@h/n?sslpassword=x"})
    EXPECT_TRUE(holds_password(url)) << url;
  for (const char* url : {"postgresql://me@h/n", "postgresql:///n?passfile=/etc/pgpass", "", "no url"})
    EXPECT_FALSE(holds_password(url)) << url;
}

// libpq by itself would go on in clear where the server offers no TLS, or somebody between says so.
TEST(PostgresUrl, BeyondThisMachineItSaysHowItIsEncrypted) {
  const auto refused = [](const std::string& url) {
    const auto database = Database::open({.location = url, .timeout_ms = 50});
    if (database) return false;
    return database.error().message.find("sslmode=verify-full") != std::string::npos;
  };
  const std::string away = "postgresql://me:secret@192.0.2.1:1/name";
  EXPECT_TRUE(refused(away));
  EXPECT_TRUE(refused(away + "?sslmode=prefer"));
  EXPECT_TRUE(refused("postgresql://127.0.0.1:1,192.0.2.1:1/name")) << "one of several";
  EXPECT_TRUE(refused("postgresql:///name?hostaddr=192.0.2.1&host=localhost")) << "the address is where it goes";
  EXPECT_TRUE(refused("postgresql://127.0.0.1.db.invalid/name")) << "a name that looks like an address";
  EXPECT_TRUE(refused("postgresql:///name?service=bank")) << "wherever that is";
  setenv("PGSERVICE", "bank", 1);
  EXPECT_TRUE(refused("postgresql://127.0.0.1:1/n")) << "a service of the environment";
  unsetenv("PGSERVICE");
  for (const char* mode : {"verify-full", "verify-ca", "require"}) EXPECT_FALSE(refused(away + "?sslmode=" + mode));
  for (const char* here : {"postgresql://127.0.0.1:1/n", "postgresql://localhost:1/n", "postgresql://[::1]:1/n",
                           "postgresql:///n?host=/nonexistent"})
    EXPECT_FALSE(refused(here)) << here;
  const test::LogLines lines;
  EXPECT_FALSE(refused(away + "?sslmode=disable"));
  EXPECT_EQ(lines.count("in clear"), 1) << "the administrator's word";
}

}  // namespace
}  // namespace redoubt
