// That a node's id is one process's alone, among all that share the database.
//
// Leases, marks and reports are a node's by its id (database_ledger.h), and two live processes with one id would settle
// each other's leases and use a limit twice. The data folder's lock keeps a second process out of that folder; not out
// of a copy of it, elsewhere. So a process claims its id in the database with a token of its own and renews the claim
// every second. Who finds another's claim looks on for bound_ms: if it is renewed meanwhile its process is alive,
// and the newcomer is refused; if it is not its process died, and the id is free. Clocks have no part in it.
//
// Thread safety: any thread.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "core/result.h"
#include "storage/database.h"

namespace redoubt {

struct NodeClaimOptions {
  int renew_ms = 1000;
  int bound_ms = 6000;   // a claim that was not renewed for so long is a dead process's
  bool may_wait = true;  // false: nobody else can have it (a database inside a folder that is locked); taken at once
};

class NodeClaim {
 public:
  // Errors: conflict: a live process has it. Waits for bound_ms at most, and only where an earlier process left its
  // claim. The database outlives it.
  static Result<std::unique_ptr<NodeClaim>> take(Database& database, std::string node, const WallClock& wall,
                                                 NodeClaimOptions options = {});
  ~NodeClaim();  // given back
  NodeClaim(const NodeClaim&) = delete;
  NodeClaim& operator=(const NodeClaim&) = delete;

  // Another process took it: this one had not renewed it for too long. Nothing may be admitted any more.
  bool is_lost() const { return is_lost_; }

 private:
  struct Seen;
  NodeClaim(Database& database, std::string node, NodeClaimOptions options);
  Result<bool> take_from(const Seen* earlier);
  Result<bool> insert(Transaction& tx) const;  // false: it is another's
  Result<bool> renew();
  void renew_or_tell();

  Database& database_;
  const std::string node_, process_;
  const NodeClaimOptions options_;
  std::atomic<bool> is_lost_{false};
  PeriodicThread thread_;  // last: it uses the rest
};

}  // namespace redoubt
