// Where state lasts: a SQLite file inside the program, or PostgreSQL, through one interface and one SQL (README.md).
//
//   db->write([&](Transaction& tx) -> Status {
//     REDOUBT_TRY(const auto user, tx.row<std::string, int64_t>("SELECT name, uses FROM users WHERE id = ?", id));
//     if (!user) return not_found("user: there is none of that name");
//     const auto& [name, uses] = *user;
//     REDOUBT_TRY(const int64_t changed, tx.execute("UPDATE users SET uses = ? WHERE id = ?", uses + 1, id));
//     return ok();
//   });
//
// A transaction commits when its function returns a value, and is rolled back when it returns an Error. **The function
// may run more than once** (PostgreSQL asks for that when two transactions collide), so it changes nothing but through
// `tx`, and what it sets outside it sets whole each time.
//
// Isolation. `write` is serialisable: as if transactions ran one after the other. On one hot row many writers then
// collide and try again until their time is out; `write_row_locks` waits for the row instead: each statement sees what
// was committed before it, so `UPDATE … SET used = used + ? WHERE … AND used + ? <= cap` is exact, and what is read to
// be changed is read with `… FOR UPDATE`. On SQLite both are BEGIN IMMEDIATE, one writer at a time. `read` sees one
// moment of the database, and neither waits for a writer nor holds one up.
//
// Errors. `unavailable`: away, slow, busy, full, read-only. One kind, because the answer is one: refuse, and try again
// later; the connection is made anew by itself. After an `unavailable` from `write` the transaction may or may not have
// been applied. `conflict`: a constraint (unique, foreign key, check) forbids it. A failed statement fails its
// transaction: nothing after it runs, and nothing is committed even if the function returns a value.
//
// Time. No call takes longer than DatabaseOptions::timeout_ms, waiting for a connection included; only a SQLite file on
// a disk that hangs can hold the one thread that is inside the system call (the others get their `unavailable`). Never
// call it from a request's path or a socket's loop.
// Thread safety: any thread; a Transaction belongs to the function that got it.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "core/result.h"
#include "storage/connection.h"
#include "storage/sql_value.h"

namespace redoubt {

enum class DatabaseKind : uint8_t { sqlite, postgres };

struct DatabaseOptions {
  // "postgresql://user@host1,host2/name?sslmode=verify-full": libpq's URL, several hosts allowed, the one that takes
  // writes is found; or the path of a SQLite file (made, 0600, if it is not there), with or without "sqlite:" before
  // it.
  std::string location;
  int timeout_ms = 2000;    // of one transaction, its retries and the wait for a connection included
  int max_connections = 4;  // at once
  int64_t max_bytes = 0;    // a SQLite file may not grow over it; 0: as the disk allows
};

class Transaction {
 public:
  Transaction(Connection& connection, Deadline deadline) : connection_(connection), deadline_(deadline) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  // Runs a statement; the number of rows that it changed.
  template <class... Values>
  Result<int64_t> execute(std::string_view sql, const Values&... values) {
    REDOUBT_TRY(const SqlRows done, run(sql, {to_sql(values)...}));
    return done.changed;
  }

  // The rows of a query (or of INSERT … RETURNING), each a tuple of the types asked for. Errors also: corrupt_data if a
  // column is of another type; NULL is only taken by std::optional.
  template <class... Columns, class... Values>
  Result<std::vector<std::tuple<Columns...>>> rows(std::string_view sql, const Values&... values) {
    REDOUBT_TRY(const SqlRows found, run(sql, {to_sql(values)...}));
    std::vector<std::tuple<Columns...>> typed;
    typed.reserve(found.rows.size());
    for (const auto& row : found.rows) {
      REDOUBT_TRY(auto one, typed_row<Columns...>(row, std::index_sequence_for<Columns...>()));
      typed.push_back(std::move(one));
    }
    return typed;
  }

  // The one row that there is, or none. Errors also: internal if there are several.
  template <class... Columns, class... Values>
  Result<std::optional<std::tuple<Columns...>>> row(std::string_view sql, const Values&... values) {
    REDOUBT_TRY(auto all, rows<Columns...>(sql, values...));
    if (all.size() > 1) return Error{ErrorCode::internal, "a query for one row found several", {}};
    if (all.empty()) return std::optional<std::tuple<Columns...>>();
    return std::optional<std::tuple<Columns...>>(std::move(all.front()));
  }

  const std::optional<Error>& failure() const { return failure_; }  // the first statement's that failed

 private:
  Result<SqlRows> run(std::string_view sql, const std::vector<SqlValue>& values);
  static Error wrong_type(size_t column, const SqlValue& found);
  static Error wrong_width(size_t expected, size_t found);

  template <class... Columns, size_t... I>
  static Result<std::tuple<Columns...>> typed_row(const std::vector<SqlValue>& row, std::index_sequence<I...>) {
    if (row.size() != sizeof...(Columns)) return wrong_width(sizeof...(Columns), row.size());
    auto columns = std::make_tuple(FromSql<Columns>::from(row[I])...);
    std::optional<Error> wrong;
    ((!std::get<I>(columns)&& !wrong ? wrong = wrong_type(I, row[I]) : wrong), ...);
    if (wrong) return *std::move(wrong);
    return std::tuple<Columns...>(*std::move(std::get<I>(columns))...);
  }

  Connection& connection_;
  Deadline deadline_;
  std::optional<Error> failure_;
};

class Database {
 public:
  // Connects once, so that what is misconfigured is said at start.
  static Result<std::unique_ptr<Database>> open(DatabaseOptions options);
  ~Database();

  // `function` takes a Transaction& and returns a Result (or Status), which is what the call returns.
  template <class Function>
  std::invoke_result_t<Function, Transaction&> write(Function&& function) {
    return transact(TransactionKind::serializable, options_.timeout_ms, function);
  }
  template <class Function>
  std::invoke_result_t<Function, Transaction&> write_row_locks(Function&& function) {
    return transact(TransactionKind::row_locks, options_.timeout_ms, function);
  }
  template <class Function>
  std::invoke_result_t<Function, Transaction&> read(Function&& function) {
    return transact(TransactionKind::read, options_.timeout_ms, function);
  }
  // `write_row_locks` with a time of its own, for migrations.
  template <class Function>
  std::invoke_result_t<Function, Transaction&> write_within(int timeout_ms, Function&& function) {
    return transact(TransactionKind::row_locks, timeout_ms, function);
  }

  DatabaseKind kind() const { return kind_; }
  const std::string& name() const { return name_; }  // to be shown: path, or hosts and database without a password

 private:
  explicit Database(DatabaseOptions options);
  Result<std::unique_ptr<Connection>> connect(Deadline deadline, bool create);
  Result<std::unique_ptr<Connection>> take(TransactionKind kind, Deadline deadline);
  void give_back(TransactionKind kind, std::unique_ptr<Connection> connection);
  // Begins, runs and commits until it is done, fails, or the time is out.
  Status run(TransactionKind kind, int timeout_ms, const std::function<Status(Transaction&)>& body);

  template <class Function>
  std::invoke_result_t<Function, Transaction&> transact(TransactionKind kind, int timeout_ms, Function& function) {
    using Answer = std::invoke_result_t<Function, Transaction&>;
    std::optional<Answer> answer;
    const Status done = run(kind, timeout_ms, [&](Transaction& tx) -> Status {
      answer.emplace(function(tx));
      if (!*answer) return answer->error();
      return ok();
    });
    if (!done) return done.error();
    return *std::move(answer);
  }

  DatabaseOptions options_;
  DatabaseKind kind_;
  std::string name_;
  std::filesystem::path sqlite_path_;

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Connection>> idle_;
  int connections_ = 0;   // idle and lent
  bool writing_ = false;  // SQLite: one writer, and the others wait here rather than in the file's lock
};

}  // namespace redoubt
