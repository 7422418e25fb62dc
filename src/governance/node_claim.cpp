#include "governance/node_claim.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "core/log.h"
#include "crypto/random.h"
#include "storage/migration.h"

namespace redoubt {
namespace {

constexpr Migration kMigrations[] = {
    {1, "claims", "CREATE TABLE node_claims (node TEXT PRIMARY KEY, process TEXT NOT NULL, renewals BIGINT NOT NULL);"},
};

}  // namespace

struct NodeClaim::Seen {
  std::string process;
  int64_t renewals = 0;
  bool operator==(const Seen&) const = default;

  static Result<std::optional<Seen>> of(Database& database, const std::string& node) {
    return database.read([&](Transaction& tx) -> Result<std::optional<Seen>> {
      REDOUBT_TRY(const auto row,
                  tx.row<std::string, int64_t>("SELECT process, renewals FROM node_claims WHERE node = ?", node));
      if (!row) return std::optional<Seen>();
      return std::optional<Seen>({std::get<0>(*row), std::get<1>(*row)});
    });
  }
};

NodeClaim::NodeClaim(Database& database, std::string node, NodeClaimOptions options)
    : database_(database), node_(std::move(node)), process_(random_token(16)), options_(options) {}

Result<std::unique_ptr<NodeClaim>> NodeClaim::take(Database& database, std::string node, const WallClock& wall,
                                                   NodeClaimOptions options) {
  REDOUBT_CHECK(migrate(database, "nodes", kMigrations, wall));
  std::unique_ptr<NodeClaim> claim(new NodeClaim(database, std::move(node), options));
  using std::chrono::steady_clock;
  REDOUBT_TRY(const std::optional<Seen> first, Seen::of(database, claim->node_));
  const Error alive{ErrorCode::conflict, "a live process has this node's id", {}};
  if (first && options.may_wait) {
    const auto until = steady_clock::now() + std::chrono::milliseconds(options.bound_ms);
    while (steady_clock::now() < until) {
      std::this_thread::sleep_for(std::chrono::milliseconds(std::max(1, options.renew_ms / 4)));
      REDOUBT_TRY(const std::optional<Seen> now, Seen::of(database, claim->node_));
      if (!now) break;  // it ended
      if (*now != *first) return alive;
    }
  }
  REDOUBT_TRY(const bool is_taken, claim->take_from(first ? &*first : nullptr));
  if (!is_taken) return alive;
  claim->thread_.start(std::chrono::milliseconds(options.renew_ms), [raw = claim.get()] { raw->renew_or_tell(); });
  return claim;
}

// Of two who take it at the same moment, one.
Result<bool> NodeClaim::take_from(const Seen* earlier) {
  return database_.write_row_locks([&](Transaction& tx) -> Result<bool> {
    if (earlier != nullptr) {
      const std::string sql = fmt::format("DELETE FROM node_claims WHERE node = ? AND process = ?{}",
                                          options_.may_wait ? " AND renewals = ?" : "");
      if (options_.may_wait) {
        REDOUBT_CHECK(tx.execute(sql, node_, earlier->process, earlier->renewals));
      } else {
        REDOUBT_CHECK(tx.execute(sql, node_, earlier->process));
      }
    }
    return insert(tx);
  });
}

Result<bool> NodeClaim::insert(Transaction& tx) const {
  REDOUBT_TRY(const int64_t made, tx.execute("INSERT INTO node_claims (node, process, renewals) VALUES (?, ?, 0) "
                                             "ON CONFLICT (node) DO NOTHING",
                                             node_, process_));
  return made == 1;
}

Result<bool> NodeClaim::renew() {
  return database_.write_row_locks([&](Transaction& tx) -> Result<bool> {
    REDOUBT_TRY(
        const int64_t renewed,
        tx.execute("UPDATE node_claims SET renewals = renewals + 1 WHERE node = ? AND process = ?", node_, process_));
    if (renewed == 1) return true;
    return insert(tx);  // it is nobody's: the database was set back to a time before it
  });
}

NodeClaim::~NodeClaim() {
  if (!thread_.stop()) return;
  const Status released = database_.write_row_locks([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute("DELETE FROM node_claims WHERE node = ? AND process = ?", node_, process_));
    return ok();
  });
  if (!released) log::warn("node: its id is not given back, the next start waits for it: {}", released.error().message);
}

void NodeClaim::renew_or_tell() {
  const Result<bool> is_ours = renew();  // a database that is away is told by those who need more of it
  if (is_ours && !*is_ours && !is_lost_.exchange(true))
    log::error("node: another process took this node's id, nobody is admitted any more: the data folder was copied");
}

}  // namespace redoubt
