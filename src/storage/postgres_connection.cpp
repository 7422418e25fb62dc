#include "storage/postgres_connection.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

#include "storage/sql_text.h"

namespace redoubt {
namespace {

constexpr size_t kMaxStatements = 256;  // kept prepared

// pg_type.dat: the types that our columns have, and those of sums and comparisons of them.
enum TypeId : Oid {
  kBool = 16,
  kBytea = 17,
  kInt8 = 20,
  kInt2 = 21,
  kInt4 = 23,
  kFloat4 = 700,
  kFloat8 = 701,
  kNumeric = 1700
};

struct ClearResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using ResultPtr = std::unique_ptr<PGresult, ClearResult>;
struct Finish {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
using ConnPtr = std::unique_ptr<PGconn, Finish>;

using Parameters = std::map<std::string, std::string>;

std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

Result<Parameters> parameters_of(const std::string& url) {
  char* message = nullptr;
  PQconninfoOption* options = PQconninfoParse(url.c_str(), &message);
  if (options == nullptr) {
    // libpq's message may quote the URL, and with it a password.
    PQfreemem(message);
    return invalid("database: expected a URL like postgresql://user@host/name");
  }
  Parameters parameters;
  for (const PQconninfoOption* option = options; option->keyword != nullptr; ++option) {
    if (option->val != nullptr) parameters[option->keyword] = option->val;
  }
  PQconninfoFree(options);
  return parameters;
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (;;) {
    const size_t comma = list.find(',', begin);
    parts.push_back(list.substr(begin, comma - begin));
    if (comma == std::string::npos) return parts;
    begin = comma + 1;
  }
}

// One set of parameters a host. libpq would go from host to host itself, but waits for a silent one without an end.
std::vector<Parameters> by_host(const Parameters& all) {
  const auto list = [&](const char* key) {
    const auto found = all.find(key);
    return found == all.end() ? std::vector<std::string>() : split(found->second);
  };
  const auto hosts = list("host"), addresses = list("hostaddr"), ports = list("port");
  const size_t count = std::max<size_t>({1, hosts.size(), addresses.size()});
  std::vector<Parameters> each(count, all);
  for (size_t i = 0; i < count; ++i) {
    if (i < hosts.size()) each[i]["host"] = hosts[i];
    if (i < addresses.size()) each[i]["hostaddr"] = addresses[i];
    if (!ports.empty()) each[i]["port"] = ports[std::min(i, ports.size() - 1)];
  }
  return each;
}

// Waits until the socket can be read or written, as asked. False when the time is out.
bool wait_for(PGconn* connection, short events, Deadline deadline) {
  pollfd entry{PQsocket(connection), events, 0};
  for (;;) {
    const int left = remaining_ms(deadline);
    if (left == 0 || entry.fd < 0) return false;
    const int ready = poll(&entry, 1, left);
    if (ready > 0) return true;
  }
}

class PostgresConnection final : public Connection {
 public:
  PostgresConnection(ConnPtr connection, std::string name, int statement_ms)
      : connection_(std::move(connection)), name_(std::move(name)), statement_ms_(statement_ms) {}

  Status set_up(Deadline deadline) {
    PQsetnonblocking(connection_.get(), 1);
    for (const std::string& setting :
         {fmt::format("SET statement_timeout = {}", statement_ms_), fmt::format("SET lock_timeout = {}", statement_ms_),
          fmt::format("SET idle_in_transaction_session_timeout = {}", 2 * statement_ms_),
          std::string("SET client_min_messages = warning")}) {
      REDOUBT_CHECK(run(setting, {}, deadline));
    }
    return ok();
  }

  Status begin(TransactionKind kind, Deadline deadline) override {
    // Writers say nothing of writing: an administrator's default_transaction_read_only holds for us too.
    const char* text = kind == TransactionKind::read           ? "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                       : kind == TransactionKind::serializable ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
                                                               : "BEGIN ISOLATION LEVEL READ COMMITTED";
    REDOUBT_CHECK(run(text, {}, deadline));
    const int left = remaining_ms(deadline);
    if (left > statement_ms_) {
      REDOUBT_CHECK(run(fmt::format("SET LOCAL statement_timeout = {}", left), {}, deadline));
      REDOUBT_CHECK(run(fmt::format("SET LOCAL lock_timeout = {}", left), {}, deadline));
    }
    return ok();
  }

  Status commit(Deadline deadline) override {
    REDOUBT_CHECK(run("COMMIT", {}, deadline));
    return ok();
  }

  void rollback(Deadline deadline) override {
    if (broken_ || PQtransactionStatus(connection_.get()) == PQTRANS_IDLE) return;
    const bool collided = collided_;
    const Deadline some_time = std::max(deadline, std::chrono::steady_clock::now() + std::chrono::milliseconds(200));
    if (!run("ROLLBACK", {}, some_time)) broken_ = true;
    collided_ = collided;
  }

  Result<SqlRows> run(std::string_view sql, std::span<const SqlValue> values, Deadline deadline) override {
    if (broken_) return unavailable(fmt::format("database {}: the connection was lost", name_));
    REDOUBT_TRY(const std::string name, prepared(sql, deadline));
    std::vector<std::string> texts(values.size());
    std::vector<const char*> pointers(values.size());
    std::vector<int> lengths(values.size()), formats(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (const auto* blob = std::get_if<Blob>(&values[i])) {
        pointers[i] = blob->empty() ? "" : reinterpret_cast<const char*>(blob->data());
        lengths[i] = static_cast<int>(blob->size());
        formats[i] = 1;
      } else if (const auto* text = std::get_if<std::string>(&values[i])) {
        pointers[i] = text->c_str();
      } else if (!std::holds_alternative<std::monostate>(values[i])) {
        const auto* whole = std::get_if<int64_t>(&values[i]);
        texts[i] = whole != nullptr ? fmt::format("{}", *whole) : fmt::format("{}", std::get<double>(values[i]));
        pointers[i] = texts[i].c_str();
      }
    }
    if (PQsendQueryPrepared(connection_.get(), name.c_str(), static_cast<int>(values.size()), pointers.data(),
                            lengths.data(), formats.data(), 0) == 0)
      return lost();
    REDOUBT_TRY(const ResultPtr result, answer(deadline));
    return rows_of(result.get());
  }

 private:
  Result<std::string> prepared(std::string_view sql, Deadline deadline) {
    const auto found = statements_.find(std::string(sql));
    if (found != statements_.end()) return found->second;
    if (statements_.size() >= kMaxStatements) {
      statements_.clear();
      if (PQsendQuery(connection_.get(), "DEALLOCATE ALL") == 0) return lost();
      REDOUBT_CHECK(answer(deadline));
    }
    std::string name = fmt::format("redoubt_{}", next_statement_++);
    if (PQsendPrepare(connection_.get(), name.c_str(), postgres_sql(sql).c_str(), 0, nullptr) == 0) return lost();
    REDOUBT_CHECK(answer(deadline));
    statements_.emplace(std::string(sql), name);
    return name;
  }

  // The last result of what was sent; the connection is then ready for the next.
  Result<ResultPtr> answer(Deadline deadline) {
    PGconn* const connection = connection_.get();
    for (int unsent = PQflush(connection); unsent != 0; unsent = PQflush(connection)) {
      if (unsent < 0) return lost();
      if (!wait_for(connection, POLLIN | POLLOUT, deadline)) return out_of_time();
      if (PQconsumeInput(connection) == 0) return lost();
    }
    ResultPtr last;
    for (;;) {
      while (PQisBusy(connection) != 0) {
        if (!wait_for(connection, POLLIN, deadline)) return out_of_time();
        if (PQconsumeInput(connection) == 0) return lost();
      }
      ResultPtr next(PQgetResult(connection));
      if (next == nullptr) break;
      const ExecStatusType status = PQresultStatus(next.get());
      if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) return lost();
      last = std::move(next);
    }
    if (last == nullptr) return lost();
    const ExecStatusType status = PQresultStatus(last.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) return failed(last.get());
    return last;
  }

  Error lost() {
    broken_ = true;
    return unavailable(fmt::format("database {}: {}", name_, one_line(PQerrorMessage(connection_.get()))));
  }

  Error out_of_time() {
    broken_ = true;  // an answer may still come, to a question that nobody asks any more
    return unavailable(fmt::format("database {}: no answer in time", name_));
  }

  // Source: PostgreSQL 15 documentation, appendix A, "PostgreSQL Error Codes".
  Error failed(const PGresult* result) {
    const char* field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const std::string state = field != nullptr ? field : "";
    const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const std::string what = fmt::format("database {}: {} ({})", name_,
                                         one_line(primary != nullptr ? primary : PQresultErrorMessage(result)), state);
    const std::string_view group = std::string_view(state).substr(0, 2);
    if (state == "40001" || state == "40P01") {  // serialization_failure, deadlock_detected
      collided_ = true;
      return unavailable(what);
    }
    if (group == "23") return conflict(what);
    if (state == "57014" || state == "55P03") return unavailable(what);  // statement_timeout, lock_timeout
    // A plan that a migration made stale; a statement that a pooler forgot.
    if (state == "0A000" || state == "26000") {
      broken_ = true;
      return unavailable(what);
    }
    // Away, full, shutting down, read-only (a standby): another connection, perhaps to another host.
    if (state.empty() || group == "08" || group == "53" || group == "57" || group == "58" || state == "25006" ||
        state == "25P03") {
      broken_ = true;
      return unavailable(what);
    }
    if (group == "28" || state == "42501" || state == "3D000") return unavailable(what);  // login, rights, no database
    return Error{ErrorCode::internal, what, {}};
  }

  static std::optional<SqlValue> value_of(const PGresult* result, int row, int column) {
    if (PQgetisnull(result, row, column) != 0) return SqlValue(std::monostate{});
    const std::string_view text(PQgetvalue(result, row, column), static_cast<size_t>(PQgetlength(result, row, column)));
    switch (PQftype(result, column)) {
      case kBool:
        return SqlValue(int64_t{text == "t"});
      case kInt2:
      case kInt4:
      case kInt8:
      case kNumeric: {
        int64_t whole = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
        if (error == std::errc() && end == text.data() + text.size()) return SqlValue(whole);
        [[fallthrough]];
      }
      case kFloat4:
      case kFloat8: {
        double real = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
        if (error == std::errc() && end == text.data() + text.size()) return SqlValue(real);
        return std::nullopt;
      }
      case kBytea: {
        if (!text.starts_with("\\x") || text.size() % 2 != 0) return std::nullopt;
        Blob bytes((text.size() - 2) / 2);
        for (size_t i = 0; i < bytes.size(); ++i) {
          const char* digits = text.data() + 2 + 2 * i;
          if (std::from_chars(digits, digits + 2, bytes[i], 16).ptr != digits + 2) return std::nullopt;
        }
        return SqlValue(std::move(bytes));
      }
      default:
        return SqlValue(std::string(text));
    }
  }

  Result<SqlRows> rows_of(PGresult* result) const {
    SqlRows rows;
    for (int row = 0; row < PQntuples(result); ++row) {
      std::vector<SqlValue>& values = rows.rows.emplace_back();
      for (int column = 0; column < PQnfields(result); ++column) {
        auto value = value_of(result, row, column);
        if (!value) return corrupt(fmt::format("database {}: column {} of a row cannot be read", name_, column + 1));
        values.push_back(*std::move(value));
      }
    }
    const std::string_view tag = PQcmdStatus(result);
    const std::string_view changed = PQcmdTuples(result);
    if (!tag.starts_with("SELECT")) std::from_chars(changed.data(), changed.data() + changed.size(), rows.changed);
    return rows;
  }

  ConnPtr connection_;
  std::string name_;
  int statement_ms_;
  int64_t next_statement_ = 0;
  std::unordered_map<std::string, std::string> statements_;
};

Result<ConnPtr> connect_one(const Parameters& parameters, const std::string& name, Deadline deadline) {
  std::vector<const char*> keys, values;
  for (const auto& [key, value] : parameters) {
    keys.push_back(key.c_str());
    values.push_back(value.c_str());
  }
  keys.push_back(nullptr);
  values.push_back(nullptr);
  ConnPtr connection(PQconnectStartParams(keys.data(), values.data(), 0));
  if (connection == nullptr) return unavailable(fmt::format("database {}: no memory", name));
  const auto refused = [&] {
    return unavailable(fmt::format("database {}: {}", name, one_line(PQerrorMessage(connection.get()))));
  };
  if (PQstatus(connection.get()) == CONNECTION_BAD) return refused();
  // As if PQconnectPoll had last answered "writing" (libpq's documentation of the call).
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK) {
    if (next == PGRES_POLLING_FAILED) return refused();
    if (!wait_for(connection.get(), next == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
      return unavailable(fmt::format("database {}: cannot be reached in time", name));
    next = PQconnectPoll(connection.get());
  }
  return connection;
}

}  // namespace

Result<std::unique_ptr<Connection>> connect_postgres(const std::string& url, int statement_ms, Deadline deadline) {
  REDOUBT_TRY(Parameters parameters, parameters_of(url));
  const std::string name = postgres_name(url);
  parameters.try_emplace("target_session_attrs", "read-write");
  parameters.try_emplace("application_name", "redoubt");
  parameters.try_emplace("tcp_user_timeout", fmt::format("{}", statement_ms));
  parameters.try_emplace("keepalives_idle", "10");
  parameters["client_encoding"] = "UTF8";
  const std::vector<Parameters> hosts = by_host(parameters);
  Error last = unavailable(fmt::format("database {}: no time to connect", name));
  for (size_t i = 0; i < hosts.size(); ++i) {
    const int share_ms = remaining_ms(deadline) / static_cast<int>(hosts.size() - i);
    const Deadline until = std::chrono::steady_clock::now() + std::chrono::milliseconds(share_ms);
    auto connected = connect_one(hosts[i], name, until);
    if (connected) {
      auto connection = std::make_unique<PostgresConnection>(std::move(connected).value(), name, statement_ms);
      REDOUBT_CHECK(connection->set_up(deadline));
      return std::unique_ptr<Connection>(std::move(connection));
    }
    last = std::move(connected).error();
  }
  return last;
}

namespace {
// A name may begin like an address and go on to anywhere.
bool is_loopback_v4(const std::string& host) {
  in_addr address{};
  return inet_pton(AF_INET, host.c_str(), &address) == 1 && (ntohl(address.s_addr) >> 24) == 127;
}
}  // namespace

bool is_beyond_this_machine(const std::string& url) {
  const auto all = parameters_of(url);
  if (!all) return false;
  // A service's host is in a file of its own, and PGHOST's in the environment.
  if (all->contains("service") || std::getenv("PGSERVICE") != nullptr) return true;
  const auto value = [](const Parameters& of, const char* key, const char* environment) -> std::string {
    const auto found = of.find(key);
    if (found != of.end()) return found->second;
    const char* given = std::getenv(environment);
    return given != nullptr ? given : "";
  };
  return std::ranges::any_of(by_host(*all), [&](const Parameters& one) {
    const std::string address = value(one, "hostaddr", "PGHOSTADDR");
    const std::string host = address.empty() ? value(one, "host", "PGHOST") : address;
    return !host.empty() && !host.starts_with('/') && !host.starts_with('@') && host != "localhost" &&
           !is_loopback_v4(host) && host != "::1";
  });
}

Result<bool> check_postgres_encryption(const std::string& url) {
  REDOUBT_TRY(const Parameters all, parameters_of(url));
  if (!is_beyond_this_machine(url)) return false;
  const auto found = all.find("sslmode");
  const std::string mode = found == all.end() ? "" : found->second;
  if (mode == "disable") return true;
  if (mode == "verify-full" || mode == "verify-ca" || mode == "require") return false;
  return invalid(
      fmt::format("database {}: it is on another machine: its URL must end with ?sslmode=verify-full (or verify-ca, "
                  "require; disable sends all in clear)",
                  postgres_name(url)));
}

bool holds_password(const std::string& url) {
  const auto all = parameters_of(url);
  return all && (all->contains("password") || all->contains("sslpassword"));
}

std::string postgres_name(const std::string& url) {
  const auto parameters = parameters_of(url);
  if (!parameters) return "postgresql";
  const auto value = [&](const char* key, const char* other) {
    const auto found = parameters->find(key);
    return found == parameters->end() ? std::string(other) : found->second;
  };
  return fmt::format("postgresql {} {}", value("host", value("hostaddr", "localhost").c_str()),
                     value("dbname", "postgres"));
}

}  // namespace redoubt
