// Databases for tests: an empty one of either kind, gone afterwards. PostgreSQL is Debian's own server, started once by
// the test's process on a socket in a folder of its own, as an unprivileged user where the test runs as root; where it
// is not installed, postgres_server() is null and tests skip, saying so:
//
//   class LedgerTest : public testing::TestWithParam<DatabaseKind> {
//     void SetUp() override { if (!database_.available()) GTEST_SKIP() << database_.why_not(); }
//     test::TestDatabase database_{GetParam()};
//   };
//   INSTANTIATE_TEST_SUITE_P(Databases, LedgerTest, test::both_databases(), test::database_test_name);
#pragma once

#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "storage/database.h"
#include "temporary_folder.h"

namespace redoubt::test {

class PostgresServer {
 public:
  // Null if it cannot be had; `why` then says it.
  static std::unique_ptr<PostgresServer> start(std::string& why) {
    std::filesystem::path newest;
    std::error_code error;
    for (const auto& version : std::filesystem::directory_iterator("/usr/lib/postgresql", error)) {
      if (std::filesystem::exists(version.path() / "bin/postgres") && version.path() > newest) newest = version.path();
    }
    if (newest.empty()) {
      why = "PostgreSQL's server is not installed (/usr/lib/postgresql/*/bin): not tested on PostgreSQL";
      return nullptr;
    }
    auto server = std::unique_ptr<PostgresServer>(new PostgresServer(newest / "bin"));
    if (!server->make() || !server->start()) {
      why = "PostgreSQL's server did not start: " + server->log();
      return nullptr;
    }
    return server;
  }
  ~PostgresServer() {
    stop();
    std::error_code error;
    std::filesystem::remove_all(folder_, error);
  }

  std::string url(const std::string& database) const {
    return "postgresql:///" + database + "?user=redoubt&host=" + folder_.string();
  }
  // As one of two hosts, of which the other is not there.
  std::string url_behind_a_dead_host(const std::string& database) const {
    return "postgresql:///" + database + "?user=redoubt&host=/nonexistent," + folder_.string();
  }
  bool start() {
    child_ = spawn({(bin_ / "postgres").string(), "-D", (folder_ / "data").string(), "-k", folder_.string(), "-c",
                    "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=60"});
    for (int i = 0; i < 300; ++i) {
      if (Database::open({.location = url("postgres"), .timeout_ms = 1000})) return true;
      if (waitpid(child_, nullptr, WNOHANG) == child_) {
        child_ = -1;
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
  }
  void stop() {  // at once, as a crash would
    if (child_ < 0) return;
    resume();
    kill(child_, SIGQUIT);
    waitpid(child_, nullptr, 0);
    child_ = -1;
  }
  void pause() { signal_all(SIGSTOP); }  // it answers nothing, and its connections stay open
  void resume() { signal_all(SIGCONT); }

 private:
  explicit PostgresServer(std::filesystem::path bin) : bin_(std::move(bin)) {
    if (getuid() != 0) return;
    const passwd* user = getpwnam("postgres");
    if (user == nullptr) user = getpwnam("nobody");
    if (user != nullptr) uid_ = user->pw_uid, gid_ = user->pw_gid;
  }
  bool make() {
    std::string name = "/tmp/redoubt_pg_XXXXXX";  // short: a socket's path has at most 107 bytes
    if (mkdtemp(name.data()) == nullptr) return false;
    folder_ = name;
    if (uid_ != 0 && chown(name.c_str(), uid_, gid_) != 0) return false;
    const pid_t child = spawn({(bin_ / "initdb").string(), "-D", name + "/data", "-U", "redoubt", "-A", "trust", "-E",
                               "UTF8", "--locale=C.UTF-8", "--no-sync"});
    int status = -1;
    return waitpid(child, &status, 0) == child && status == 0;
  }
  pid_t spawn(const std::vector<std::string>& words) {
    std::vector<char*> argv;
    for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const std::string log_path = (folder_ / "log").string();
    std::fflush(nullptr);  // or what is buffered would be written twice
    const pid_t child = fork();
    if (child != 0) return child;
    if (uid_ != 0 && (setgroups(0, nullptr) != 0 || setgid(gid_) != 0 || setuid(uid_) != 0)) _exit(127);
    prctl(PR_SET_PDEATHSIG, SIGQUIT);  // it ends with the test, however that ends
    if (chdir("/") != 0) _exit(127);
    if (std::freopen(log_path.c_str(), "a", stdout) == nullptr || dup2(1, 2) < 0) _exit(127);
    execv(argv[0], argv.data());
    _exit(127);
  }
  void signal_all(int which) const {
    if (child_ < 0) return;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const pid_t pid = std::atoi(entry.path().filename().c_str());
      if (pid <= 0) continue;
      std::ifstream stat(entry.path() / "stat");
      const std::string text((std::istreambuf_iterator<char>(stat)), {});
      const size_t after_name = text.rfind(')');
      if (after_name == std::string::npos || text.size() < after_name + 4) continue;
      if (std::atoi(text.c_str() + after_name + 4) == child_) kill(pid, which);
    }
    kill(child_, which);
  }
  std::string log() const {
    std::ifstream file(folder_ / "log");
    return {std::istreambuf_iterator<char>(file), {}};
  }

  std::filesystem::path bin_, folder_;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  pid_t child_ = -1;
};

inline std::string& postgres_absence() {
  static std::string why;
  return why;
}
// The process's own server, started when first asked for; null if there is none.
inline PostgresServer* postgres_server() {
  static const std::unique_ptr<PostgresServer> server = PostgresServer::start(postgres_absence());
  return server.get();
}

class TestDatabase {
 public:
  explicit TestDatabase(DatabaseKind kind, int timeout_ms = 2000) : kind_(kind) {
    options_.timeout_ms = timeout_ms;
    if (kind == DatabaseKind::sqlite) {
      options_.location = (folder_ / "redoubt.db").string();
    } else if (PostgresServer* server = postgres_server()) {
      static std::atomic<int> next{0};
      name_ = "test_" + std::to_string(next++);
      // CREATE DATABASE runs outside of a transaction only: by the client that Debian installs beside the server.
      options_.location = server->url(name_);
      const std::string command = "psql -q '" + server->url("postgres") + "' -c 'CREATE DATABASE " + name_ + "'";
      if (std::system(command.c_str()) != 0) options_.location.clear();
    }
  }
  bool available() const { return !options_.location.empty(); }
  static std::string why_not() { return postgres_absence(); }
  const DatabaseOptions& options() const { return options_; }
  DatabaseKind kind() const { return kind_; }
  const std::filesystem::path& folder() const { return folder_.path(); }  // of the SQLite file
  const std::string& name() const { return name_; }                       // of the PostgreSQL database

  // A connection pool of its own: two of them are two nodes.
  std::unique_ptr<Database> open() const {
    auto database = Database::open(options_);
    if (!database) ADD_FAILURE() << database.error().message;
    return database ? std::move(database).value() : nullptr;
  }

 private:
  DatabaseKind kind_;
  DatabaseOptions options_;
  TemporaryFolder folder_;
  std::string name_;
};

inline auto both_databases() { return testing::Values(DatabaseKind::sqlite, DatabaseKind::postgres); }
inline std::string database_test_name(const testing::TestParamInfo<DatabaseKind>& info) {
  return info.param == DatabaseKind::sqlite ? "Sqlite" : "Postgres";
}

}  // namespace redoubt::test
