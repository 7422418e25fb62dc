// The ledger in the database: one row for what is settled of a counter, one for each node's lease, and for the window
// of a minute one for each second in which something was reported. A report locks the counter's row, so that the leases
// of one counter change one after the other, on SQLite and on PostgreSQL alike.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/clock.h"
#include "governance/quota_ledger.h"
#include "storage/database.h"

namespace redoubt {

Status prepare_quota_tables(Database& database, const WallClock& clock);  // migrations

struct QuotaStanding {
  QuotaKey key;
  int64_t settled = 0;   // recorded; in the window where the counter is of a minute
  int64_t reserved = 0;  // in leases, on top
};

class DatabaseLedger final : public QuotaLedger {
 public:
  // `node`: the same after a restart, and of one process at a time. Leases that an earlier process of the node left are
  // settled at their marks at once: it is known to be dead.
  DatabaseLedger(Database& database, std::string node);

  Result<std::vector<QuotaAnswer>> report(std::span<const QuotaReport> reports, int64_t now_ms) override;

  // One small step: looks for at most 64 counters, or prunes eight of those found, so that reports need not wait for it
  // long. One caller at a time. Leases that ended are settled, also those of counters that nobody asks
  // about any more; minutes that are over go, days after two months, months after a year, nodes after a day.
  Result<bool> prune(int64_t now_ms) override;

  // For administration: of the counters that begin with `prefix`.
  Result<std::vector<QuotaStanding>> standings(const std::string& prefix, int64_t now_ms);

 private:
  Result<QuotaAnswer> report_one(Transaction& tx, const QuotaReport& report, int64_t nodes, int64_t now_ms) const;
  Result<int64_t> count_nodes(Transaction& tx, int64_t now_ms) const;
  Result<std::vector<QuotaKey>> prunable(int64_t now_ms) const;
  Status prune_one(Transaction& tx, const QuotaKey& key, bool is_past, int64_t now_ms) const;

  Database& database_;
  const std::string node_, process_;
  std::vector<QuotaKey> picked_;  // to be pruned
  bool may_be_more_ = false;      // than were picked
};

}  // namespace redoubt
