// Keeps what memory knows of the database young: the way by which a request's path never reads the database, and a
// change on any node is known on every node within half a second.
//
// A topic ("identity", "policies") has a version in the database. Whoever changes what belongs to it calls bump() in
// the same transaction. A Refresher looks at the version every quarter of a second on a thread of its own, and when it
// is another one calls `load` in the same transaction: load reads all it needs and puts its new snapshot in place as
// its last act. Loads never overlap, and a later one never sees less than an earlier one. age_ns() is how long ago what
// memory holds was known to be what the database holds. It grows while the database is away; who decides by the
// snapshot refuses when it is over a bound.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "core/periodic_thread.h"
#include "core/result.h"
#include "storage/database.h"

namespace redoubt {

// The table of topics; call it before anything of this header.
Status prepare_topics(Database& database, const WallClock& clock);
Status bump(Transaction& tx, std::string_view topic);

struct RefresherOptions {
  std::string topic;
  int period_ms = 250;  // 0: no thread; only refresh() looks (tests)
};

class Refresher {
 public:
  using Load = std::function<Status(Transaction&)>;
  // Nothing is loaded yet: call refresh() once and look at what it says. `load` must outlive the object.
  Refresher(Database& database, RefresherOptions options, Load load, const Clock& clock);
  Refresher(const Refresher&) = delete;
  Refresher& operator=(const Refresher&) = delete;

  Status refresh();  // looks now, on this thread
  // After a change of one's own was committed, so that it holds here at once. It is done whatever happens now: if it
  // cannot be read, the log says so, and the thread will.
  void read_back();
  int64_t age_ns() const;                   // INT64_MAX before the first success
  int64_t loads() const { return loads_; }  // how often something new was loaded

 private:
  Status look();
  void look_and_tell(bool& was_failing);

  Database& database_;
  RefresherOptions options_;
  Load load_;
  const Clock& clock_;

  std::mutex looking_;    // one look at a time
  int64_t version_ = -1;  // loaded last; under looking_
  std::atomic<int64_t> looked_ns_{-1}, loads_{0};
  PeriodicThread thread_;  // last: it uses the rest
};

}  // namespace redoubt
