#include "governance/directory.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "core/log.h"
#include "core/sha256.h"
#include "governance/directory_tables.h"

namespace redoubt {
namespace {

constexpr size_t kUsesAtOnce = 200;

}  // namespace

Directory::Directory(Database& database, KeyedHash hash, const Clock& clock, const WallClock& wall,
                     DirectoryOptions options)
    : database_(database),
      hash_(std::move(hash)),
      wall_(wall),
      options_(options),
      snapshot_(std::make_shared<const DirectorySnapshot>()),
      refresher_(
          database, {.topic = std::string(kDirectoryTopic), .period_ms = options.period_ms},
          [this](Transaction& tx) { return load(tx); }, clock) {
  if (options.period_ms > 0) flusher_.start(std::chrono::seconds(options_.use_flush_s), [this] { flush_or_tell(); });
}

Result<std::unique_ptr<Directory>> Directory::open(Database& database, KeyedHash hash, const Clock& clock,
                                                   const WallClock& wall, DirectoryOptions options) {
  REDOUBT_CHECK(prepare_topics(database, wall));
  REDOUBT_CHECK(migrate(database, kDirectoryTopic, directory_migrations(), wall));
  std::unique_ptr<Directory> directory(new Directory(database, std::move(hash), clock, wall, options));
  REDOUBT_CHECK(directory->check_hash());
  REDOUBT_CHECK(directory->refresh());
  return directory;
}

Directory::~Directory() {
  if (flusher_.stop()) flush_or_tell();
}

Status Directory::load(Transaction& tx) {
  REDOUBT_TRY(std::shared_ptr<const DirectorySnapshot> next, read_directory(tx, *snapshot_.load(), wall_.now_s()));
  snapshot_.store(std::move(next));
  ++version_;
  return ok();
}

Status Directory::check_hash() {
  const std::string sign = hex_text(hash_.hash("check", "the nodes of a database hash alike"));
  return database_.write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(tx.execute(
        "INSERT INTO identity_facts (name, value) VALUES ('hash_check', ?) ON CONFLICT (name) DO NOTHING", sign));
    REDOUBT_TRY(const auto kept, tx.row<std::string>("SELECT value FROM identity_facts WHERE name = 'hash_check'"));
    if (!kept || std::get<0>(*kept) != sign)
      return invalid(
          fmt::format("database {}: its keys were hashed under another hash.key; copy that file from a node that runs",
                      database_.name()));
    return ok();
  });
}

Status Directory::change(const std::function<Status(Transaction&, const DirectorySnapshot&)>& body) {
  REDOUBT_CHECK(database_.write([&](Transaction& tx) -> Status {
    // What the laws are judged by is read in the same transaction: another node may have changed it a moment ago.
    REDOUBT_TRY(const std::shared_ptr<DirectorySnapshot> there, read_directory(tx, *snapshot_.load(), wall_.now_s()));
    REDOUBT_CHECK(body(tx, *there));
    return bump(tx, kDirectoryTopic);
  }));
  refresher_.read_back();
  return ok();
}

Status Directory::flush_uses() {
  const std::lock_guard lock(flushing_);
  const auto there = snapshot();  // held: another may take its place meanwhile
  std::vector<std::pair<std::string, int64_t>> uses;
  for (const auto& [id, key] : there->keys) {
    const int64_t used = key->last_used_at_s->load(std::memory_order_relaxed);
    const auto flushed = flushed_.find(id);
    if (used > (flushed == flushed_.end() ? 0 : flushed->second)) uses.emplace_back(id, used);
  }
  // Few at a time: a transaction has a time limit, and after a start every key that was ever used is among them.
  for (size_t begin = 0; begin < uses.size(); begin += kUsesAtOnce) {
    const std::span some = std::span(uses).subspan(begin, std::min(kUsesAtOnce, uses.size() - begin));
    REDOUBT_CHECK(database_.write_row_locks([&](Transaction& tx) -> Status {
      for (const auto& [id, used] : some) {
        REDOUBT_CHECK(
            tx.execute("UPDATE api_keys SET last_used_at_s = ? WHERE id = ? AND last_used_at_s < ?", used, id, used));
      }
      return ok();
    }));
    for (const auto& [id, used] : some) flushed_[id] = used;
  }
  std::erase_if(flushed_, [&](const auto& entry) { return !there->keys.contains(entry.first); });
  return ok();
}

void Directory::flush_or_tell() {
  if (const Status done = flush_uses(); !done) log::debug("identity: times of use wait: {}", done.error().message);
}

}  // namespace redoubt
