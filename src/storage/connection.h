// One connection to one database: what the pool in database.cpp needs of it. sqlite_connection and postgres_connection
// are the two that there are. Thread safety: none; one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "storage/sql_value.h"

namespace redoubt {

using Deadline = std::chrono::steady_clock::time_point;
// Milliseconds left, 0 if it has passed.
int remaining_ms(Deadline deadline);

enum class TransactionKind : uint8_t { read, serializable, row_locks };

class Connection {
 public:
  virtual ~Connection() = default;
  // Every call ends by the deadline, with `unavailable` if it could not do its work.
  virtual Status begin(TransactionKind kind, Deadline deadline) = 0;
  virtual Result<SqlRows> run(std::string_view sql, std::span<const SqlValue> values, Deadline deadline) = 0;
  virtual Status commit(Deadline deadline) = 0;
  virtual void rollback(Deadline deadline) = 0;

  bool broken() const { return broken_; }      // to be thrown away
  bool collided() const { return collided_; }  // with another transaction: the same again may succeed
  void forget_collision() { collided_ = false; }

 protected:
  bool broken_ = false;
  bool collided_ = false;
};

}  // namespace redoubt
