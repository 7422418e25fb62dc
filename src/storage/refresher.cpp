#include "storage/refresher.h"

#include <cstdint>

#include "core/log.h"
#include "storage/migration.h"

namespace redoubt {
namespace {

constexpr Migration kMigrations[] = {
    {1, "topics", "CREATE TABLE topics (topic TEXT PRIMARY KEY, version BIGINT NOT NULL);"},
};

}  // namespace

Status prepare_topics(Database& database, const WallClock& clock) {
  return migrate(database, "topics", kMigrations, clock);
}

Status bump(Transaction& tx, std::string_view topic) {
  REDOUBT_CHECK(
      tx.execute("INSERT INTO topics (topic, version) VALUES (?, 1) "
                 "ON CONFLICT (topic) DO UPDATE SET version = topics.version + 1",
                 topic));
  return ok();
}

Refresher::Refresher(Database& database, RefresherOptions options, Load load, const Clock& clock)
    : database_(database), options_(std::move(options)), load_(std::move(load)), clock_(clock) {
  if (options_.period_ms <= 0) return;
  thread_.start(std::chrono::milliseconds(options_.period_ms),
                [this, is_failing = false]() mutable { look_and_tell(is_failing); });
}

Status Refresher::refresh() { return look(); }

void Refresher::read_back() {
  if (const Status read = look(); !read)
    log::warn("{}: a change is not read back yet: {}", options_.topic, read.error().message);
}

int64_t Refresher::age_ns() const {
  const int64_t looked = looked_ns_;
  return looked < 0 ? INT64_MAX : clock_.now_ns() - looked;
}

Status Refresher::look() {
  const std::lock_guard lock(looking_);
  const int64_t begun_ns = clock_.now_ns();  // what is read was true at some time after this
  int64_t found = version_;
  bool loaded = false;
  REDOUBT_CHECK(database_.read([&](Transaction& tx) -> Status {
    REDOUBT_TRY(const auto row, tx.row<int64_t>("SELECT version FROM topics WHERE topic = ?", options_.topic));
    found = row ? std::get<0>(*row) : 0;
    if (found == version_) return ok();
    loaded = true;
    return load_(tx);
  }));
  version_ = found;
  if (loaded) ++loads_;
  looked_ns_ = begun_ns;
  return ok();
}

void Refresher::look_and_tell(bool& was_failing) {
  const Status looked = look();
  if (!looked && !was_failing)
    log::warn("{}: cannot be read from the database: {}", options_.topic, looked.error().message);
  if (looked && was_failing) log::info("{}: read from the database again", options_.topic);
  was_failing = !looked;
}

}  // namespace redoubt
