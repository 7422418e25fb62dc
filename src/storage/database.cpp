#include "storage/database.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "core/log.h"
#include "core/utf8.h"
#include "storage/postgres_connection.h"
#include "storage/sqlite_connection.h"

namespace redoubt {
namespace {

constexpr std::string_view kSqlitePrefix = "sqlite:";

bool is_postgres(std::string_view location) {
  return location.starts_with("postgresql://") || location.starts_with("postgres://");
}

std::string_view type_name(const SqlValue& value) {
  constexpr std::string_view names[] = {"NULL", "a whole number", "a fraction", "text", "bytes"};
  return names[value.index()];
}

}  // namespace

int remaining_ms(Deadline deadline) {
  const auto left =
      std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, INT32_MAX));
}

Result<SqlRows> Transaction::run(std::string_view sql, const std::vector<SqlValue>& values) {
  if (failure_) return *failure_;
  const auto result = [&]() -> Result<SqlRows> {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto* text = std::get_if<std::string>(&values[i]);
      // PostgreSQL holds neither; SQLite would, and differ.
      if (text != nullptr && (text->find('\0') != std::string::npos || !is_valid_utf8(*text)))
        return invalid(fmt::format("value {} of a statement: expected UTF-8 text without a zero byte", i + 1));
    }
    return connection_.run(sql, values, deadline_);
  }();
  if (!result) failure_ = result.error();
  return result;
}

Error Transaction::wrong_type(size_t column, const SqlValue& found) {
  return corrupt(
      fmt::format("database: column {} of a row: expected another type, found {}", column + 1, type_name(found)));
}

Error Transaction::wrong_width(size_t expected, size_t found) {
  return Error{ErrorCode::internal, fmt::format("database: a row has {} columns, expected {}", found, expected), {}};
}

Database::Database(DatabaseOptions options) : options_(std::move(options)) {
  if (is_postgres(options_.location)) {
    kind_ = DatabaseKind::postgres;
    name_ = postgres_name(options_.location);
  } else {
    kind_ = DatabaseKind::sqlite;
    std::string_view path = options_.location;
    if (path.starts_with(kSqlitePrefix)) path.remove_prefix(kSqlitePrefix.size());
    sqlite_path_ = std::filesystem::path(path);
    name_ = sqlite_path_.string();
  }
}

Database::~Database() = default;

Result<std::unique_ptr<Database>> Database::open(DatabaseOptions options) {
  if (options.timeout_ms < 1 || options.max_connections < 1)
    return invalid("database: expected a time limit and a number of connections of 1 or more");
  std::unique_ptr<Database> database(new Database(std::move(options)));
  if (database->kind_ == DatabaseKind::sqlite && database->sqlite_path_.empty())
    return invalid("database: expected a path or a postgresql:// URL");
  // PostgreSQL's other way of writing one; as a path it would be a file of that name, and nobody would notice.
  if (database->kind_ == DatabaseKind::sqlite && database->options_.location.find("host=") != std::string::npos)
    return invalid("database: expected a path or a postgresql:// URL, found host=…");
  if (database->kind_ == DatabaseKind::postgres) {
    REDOUBT_TRY(const bool in_clear, check_postgres_encryption(database->options_.location));
    if (in_clear)
      log::warn("database {}: sslmode=disable: its password and all that it holds go over the network in clear",
                database->name_);
  }
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(database->options_.timeout_ms);
  REDOUBT_TRY(auto connection, database->connect(deadline, true));
  database->connections_ = 1;
  database->idle_.push_back(std::move(connection));
  return database;
}

Result<std::unique_ptr<Connection>> Database::connect(Deadline deadline, bool create) {
  if (kind_ == DatabaseKind::postgres) return connect_postgres(options_.location, options_.timeout_ms, deadline);
  return open_sqlite({.path = sqlite_path_, .max_bytes = options_.max_bytes, .create = create}, deadline);
}

Result<std::unique_ptr<Connection>> Database::take(TransactionKind kind, Deadline deadline) {
  const bool one_writer = kind_ == DatabaseKind::sqlite && kind != TransactionKind::read;
  {
    std::unique_lock lock(mutex_);
    const bool free = returned_.wait_until(lock, deadline, [&] {
      return (!idle_.empty() || connections_ < options_.max_connections) && !(one_writer && writing_);
    });
    if (!free) return unavailable(fmt::format("database {}: busy for {} ms", name_, options_.timeout_ms));
    if (one_writer) writing_ = true;
    if (!idle_.empty()) {
      std::unique_ptr<Connection> connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
    ++connections_;
  }
  auto made = connect(deadline, false);
  if (!made) give_back(kind, nullptr);
  return made;
}

void Database::give_back(TransactionKind kind, std::unique_ptr<Connection> connection) {
  if (connection != nullptr && connection->broken()) connection.reset();  // closed outside of the lock
  {
    const std::lock_guard lock(mutex_);
    if (kind_ == DatabaseKind::sqlite && kind != TransactionKind::read) writing_ = false;
    if (connection != nullptr) {
      idle_.push_back(std::move(connection));
    } else {
      --connections_;
    }
  }
  returned_.notify_all();
}

Status Database::run(TransactionKind kind, int timeout_ms, const std::function<Status(Transaction&)>& body) {
  const Deadline deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  for (int attempt = 0;; ++attempt) {
    REDOUBT_TRY(std::unique_ptr<Connection> connection, take(kind, deadline));
    connection->forget_collision();
    Status done = connection->begin(kind, deadline);
    const bool begun = done.has_value();
    if (begun) {
      Transaction tx(*connection, deadline);
      done = body(tx);
      if (done && tx.failure()) done = *tx.failure();
      if (done) done = connection->commit(deadline);
      if (!done) connection->rollback(deadline);
    }
    // A connection that was idle while the server restarted is found dead only now: the others are as old as it, and
    // nothing was done over it yet, so a new one may do it.
    const bool stale = !begun && connection->broken() && attempt == 0;
    const bool again = !done && (connection->collided() || stale) && remaining_ms(deadline) > 0;
    if (connection->broken()) {
      std::vector<std::unique_ptr<Connection>> closed;  // outside of the lock
      const std::lock_guard lock(mutex_);
      connections_ -= static_cast<int>(idle_.size());
      closed.swap(idle_);
    }
    give_back(kind, std::move(connection));
    if (!again) return done;
    // Two that collided shall not collide again: wait longer each time, and not equally long.
    const auto salt = std::hash<std::thread::id>()(std::this_thread::get_id()) % 7 + 1;
    std::this_thread::sleep_for(std::chrono::microseconds(
        200 * std::min<int64_t>(int64_t{1} << std::min(attempt, 6), 50) * static_cast<int64_t>(salt) / 4));
  }
}

}  // namespace redoubt
