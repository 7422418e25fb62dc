#include "storage/migration.h"

#include <fmt/format.h>

#include <map>

#include "core/log.h"
#include "core/sha256.h"
#include "storage/sql_text.h"

namespace redoubt {
namespace {

constexpr int kMigrationMs = 60'000;
constexpr int64_t kAdvisoryLock = 0x7265646f756274;  // "redoubt": one number for all nodes

constexpr std::string_view kTable =
    "CREATE TABLE IF NOT EXISTS migrations (area TEXT NOT NULL, number BIGINT NOT NULL, name TEXT NOT NULL, "
    "hash TEXT NOT NULL, applied_at_s BIGINT NOT NULL, PRIMARY KEY (area, number))";

std::string hash_of(std::string_view script) { return hex_text(Sha256().add(script).finish()); }

Status apply(Transaction& tx, std::string_view area, const Migration& migration, const WallClock& clock) {
  for (const std::string& statement : split_statements(migration.script)) {
    REDOUBT_CHECK(tx.execute(statement));
  }
  REDOUBT_CHECK(tx.execute("INSERT INTO migrations (area, number, name, hash, applied_at_s) VALUES (?, ?, ?, ?, ?)",
                           area, migration.number, migration.name, hash_of(migration.script), clock.now_s()));
  return ok();
}

Status check_order(std::string_view area, std::span<const Migration> migrations) {
  for (size_t i = 0; i < migrations.size(); ++i) {
    if (migrations[i].number != static_cast<int64_t>(i) + 1)
      return Error{ErrorCode::internal,
                   fmt::format("migrations of {}: number {} stands at place {}", area, migrations[i].number, i + 1),
                   {}};
  }
  return ok();
}

}  // namespace

Status migrate(Database& database, std::string_view area, std::span<const Migration> migrations,
               const WallClock& clock) {
  REDOUBT_CHECK(check_order(area, migrations));
  return database.write_within(kMigrationMs, [&](Transaction& tx) -> Status {
    // SQLite's transaction has the whole file. The lock comes first, so that what is read after it is what is there.
    if (database.kind() == DatabaseKind::postgres) {
      REDOUBT_CHECK(tx.execute("SELECT pg_advisory_xact_lock(?)", kAdvisoryLock));
    }
    REDOUBT_CHECK(tx.execute(kTable));
    REDOUBT_TRY(const auto rows,
                tx.rows<int64_t, std::string>("SELECT number, hash FROM migrations WHERE area = ?", area));
    std::map<int64_t, std::string> applied;
    for (const auto& [number, hash] : rows) applied[number] = hash;
    if (!applied.empty() && applied.rbegin()->first > static_cast<int64_t>(migrations.size()))
      return unsupported(
          fmt::format("database {}: {} is at migration {}, this program knows {}: it was used by a newer Redoubt",
                      database.name(), area, applied.rbegin()->first, migrations.size()));
    for (const Migration& migration : migrations) {
      if (const auto found = applied.find(migration.number); found != applied.end()) {
        if (found->second != hash_of(migration.script))
          return corrupt(fmt::format("database {}: migration {} {} ({}) is not the one that was applied",
                                     database.name(), area, migration.number, migration.name));
        continue;
      }
      REDOUBT_CHECK(apply(tx, area, migration, clock));
    }
    return ok();
  });
}

}  // namespace redoubt
