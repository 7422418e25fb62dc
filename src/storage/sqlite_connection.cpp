#include "storage/sqlite_connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unordered_map>

#include "storage/sql_text.h"

namespace redoubt {
namespace {

constexpr size_t kMaxStatements = 256;    // kept prepared
constexpr int kStepsBetweenLooks = 1000;  // virtual machine steps from one look at the clock to the next
constexpr int64_t kPageBytes = 4096;

struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

class SqliteConnection final : public Connection {
 public:
  explicit SqliteConnection(const SqliteFile& file) : file_(file) {}
  ~SqliteConnection() override {
    statements_.clear();
    sqlite3_close_v2(db_);
  }

  Status open(Deadline deadline) {
    if (file_.create) {
      // SQLite would make it readable by everyone; its -wal and -shm get the mode of the file. A file that is there
      // already is not opened: closing it would drop every lock that this process has on it (fcntl(2)), and another
      // process could then remove the log under a connection that is open.
      const int fd = ::open(file_.path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
      if (fd < 0 && errno != EEXIST)
        return unavailable(fmt::format("{}: {}", file_.path.string(), std::strerror(errno)));
      if (fd >= 0) ::close(fd);
    }
    if (sqlite3_open_v2(file_.path.c_str(), &db_, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr) != SQLITE_OK)
      return failed("open");
    sqlite3_extended_result_codes(db_, 1);
    sqlite3_db_config(db_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(db_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(db_, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);  // "x" is a name, never text, as in PostgreSQL
    sqlite3_db_config(db_, SQLITE_DBCONFIG_DQS_DDL, 0, nullptr);
    sqlite3_progress_handler(db_, kStepsBetweenLooks, &SqliteConnection::past_deadline, this);
    REDOUBT_TRY(const SqlRows mode, run("PRAGMA journal_mode = WAL", {}, deadline));
    if (mode.rows.empty() || mode.rows[0][0] != SqlValue(std::string("wal")))
      return unavailable(file_.path.string() + ": expected a file system that can hold a write-ahead log");
    for (const char* pragma : {"PRAGMA synchronous = FULL", "PRAGMA foreign_keys = ON",
                               "PRAGMA case_sensitive_like = ON", "PRAGMA journal_size_limit = 67108864"}) {
      REDOUBT_CHECK(plain(pragma, deadline));
    }
    if (file_.max_bytes > 0) {
      REDOUBT_CHECK(plain(fmt::format("PRAGMA max_page_count = {}", std::max<int64_t>(1, file_.max_bytes / kPageBytes)),
                          deadline));
    }
    struct stat info {};
    if (::stat(file_.path.c_str(), &info) != 0) return failed("open");
    device_ = info.st_dev;
    inode_ = info.st_ino;
    return ok();
  }

  Status begin(TransactionKind kind, Deadline deadline) override {
    // Writing on into a file that was removed would lose all of it, and nobody would notice.
    struct stat info {};
    if (::stat(file_.path.c_str(), &info) != 0 || info.st_dev != device_ || info.st_ino != inode_) {
      broken_ = true;
      return unavailable(file_.path.string() + ": the file was removed or replaced");
    }
    return plain(kind == TransactionKind::read ? "BEGIN DEFERRED" : "BEGIN IMMEDIATE", deadline);
  }

  Result<SqlRows> run(std::string_view sql, std::span<const SqlValue> values, Deadline deadline) override {
    deadline_ = deadline;
    sqlite3_busy_timeout(db_, remaining_ms(deadline));
    REDOUBT_TRY(sqlite3_stmt* const statement, prepared(sql));
    const auto reset = [&] {
      sqlite3_reset(statement);
      sqlite3_clear_bindings(statement);
    };
    if (sqlite3_bind_parameter_count(statement) != static_cast<int>(values.size())) {
      return Error{ErrorCode::internal,
                   fmt::format("a statement has {} parameters and was given {} values",
                               sqlite3_bind_parameter_count(statement), values.size()),
                   {}};
    }
    for (size_t i = 0; i < values.size(); ++i) {
      if (bind(statement, static_cast<int>(i) + 1, values[i]) == SQLITE_OK) continue;
      Error error = failed("value of a statement");  // too large, or no memory
      reset();
      return error;
    }
    SqlRows result;
    const int64_t before = sqlite3_total_changes64(db_);
    int code = 0;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
      std::vector<SqlValue>& row = result.rows.emplace_back();
      for (int column = 0; column < sqlite3_column_count(statement); ++column)
        row.push_back(value_of(statement, column));
    }
    if (code != SQLITE_DONE) {
      Error error = failed("statement");
      reset();
      return error;
    }
    reset();
    result.changed = sqlite3_stmt_readonly(statement) != 0 ? 0 : sqlite3_total_changes64(db_) - before;
    return result;
  }

  Status commit(Deadline deadline) override { return plain("COMMIT", deadline); }

  void rollback(Deadline deadline) override {
    if (sqlite3_get_autocommit(db_) != 0) return;  // rolled back by the error itself
    const Deadline some_time = std::max(deadline, std::chrono::steady_clock::now() + std::chrono::seconds(1));
    if (!plain("ROLLBACK", some_time)) broken_ = true;
  }

 private:
  static int past_deadline(void* self) {
    return std::chrono::steady_clock::now() > static_cast<SqliteConnection*>(self)->deadline_ ? 1 : 0;
  }

  Status plain(std::string_view sql, Deadline deadline) {
    REDOUBT_CHECK(run(sql, {}, deadline));
    return ok();
  }

  Result<sqlite3_stmt*> prepared(std::string_view sql) {
    const auto found = statements_.find(std::string(sql));
    if (found != statements_.end()) return found->second.get();
    const std::string text = sqlite_sql(sql);
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v3(db_, text.data(), static_cast<int>(text.size()), SQLITE_PREPARE_PERSISTENT, &statement,
                           nullptr) != SQLITE_OK)
      return failed("statement");
    if (statements_.size() >= kMaxStatements) statements_.clear();
    statements_.emplace(std::string(sql), Statement(statement));
    return statement;
  }

  static int bind(sqlite3_stmt* statement, int at, const SqlValue& value) {
    if (const auto* whole = std::get_if<int64_t>(&value)) return sqlite3_bind_int64(statement, at, *whole);
    if (const auto* real = std::get_if<double>(&value)) return sqlite3_bind_double(statement, at, *real);
    if (const auto* text = std::get_if<std::string>(&value))
      return sqlite3_bind_text64(statement, at, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
    if (const auto* blob = std::get_if<Blob>(&value)) {
      // An empty vector's pointer may be null, which would bind NULL.
      return sqlite3_bind_blob64(statement, at, blob->empty() ? "" : static_cast<const void*>(blob->data()),
                                 blob->size(), SQLITE_STATIC);
    }
    return sqlite3_bind_null(statement, at);
  }

  static SqlValue value_of(sqlite3_stmt* statement, int column) {
    switch (sqlite3_column_type(statement, column)) {
      case SQLITE_INTEGER:
        return static_cast<int64_t>(sqlite3_column_int64(statement, column));
      case SQLITE_FLOAT:
        return sqlite3_column_double(statement, column);
      case SQLITE_TEXT: {
        const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
        return std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement, column)));
      }
      case SQLITE_BLOB: {
        const auto* bytes = static_cast<const uint8_t*>(sqlite3_column_blob(statement, column));
        return Blob(bytes, bytes + sqlite3_column_bytes(statement, column));
      }
      default:
        return std::monostate{};
    }
  }

  // What the database says of its last call, as our kinds of error.
  Error failed(std::string_view doing) {
    const int code = db_ != nullptr ? sqlite3_extended_errcode(db_) : SQLITE_NOMEM;
    const std::string what = fmt::format("database {}: {}: {}", file_.path.string(), doing,
                                         db_ != nullptr ? sqlite3_errmsg(db_) : "no memory");
    switch (code & 0xff) {
      case SQLITE_CONSTRAINT:
        return conflict(what);
      case SQLITE_ERROR:  // the statement is wrong, or the schema is another
      case SQLITE_RANGE:
      case SQLITE_TOOBIG:
      case SQLITE_MISMATCH:
      case SQLITE_MISUSE:
        return Error{ErrorCode::internal, what, {}};
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        broken_ = true;
        return corrupt(what);
      case SQLITE_INTERRUPT:
        return unavailable(fmt::format("database {}: {}: out of time", file_.path.string(), doing));
      case SQLITE_BUSY:
      case SQLITE_LOCKED:
        return unavailable(what);
      case SQLITE_READONLY:  // its log stands beside it, and is written to read as well
        broken_ = true;
        return unavailable(
            fmt::format("database {}: cannot be written; may this user write it and its folder?", file_.path.string()));
      default:  // full, I/O, cannot be opened, no memory
        broken_ = true;
        return unavailable(what);
    }
  }

  SqliteFile file_;
  sqlite3* db_ = nullptr;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  Deadline deadline_;
  std::unordered_map<std::string, Statement> statements_;
};

}  // namespace

Result<std::unique_ptr<Connection>> open_sqlite(const SqliteFile& file, Deadline deadline) {
  auto connection = std::make_unique<SqliteConnection>(file);
  REDOUBT_CHECK(connection->open(deadline));
  return std::unique_ptr<Connection>(std::move(connection));
}

}  // namespace redoubt
