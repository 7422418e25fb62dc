#include "governance/policy_store.h"

#include <fmt/format.h>

#include "core/sha256.h"
#include "governance/default_policies.h"
#include "governance/policy_actions.h"
#include "storage/migration.h"

namespace redoubt {
namespace {

constexpr std::string_view kTopic = "policies";
constexpr size_t kMaxNoteBytes = 1024;
constexpr size_t kMaxEntitiesBytes = size_t{16} << 20;
constexpr int64_t kForgottenMs = int64_t{30} * 24 * 3600 * 1000;  // a node that was not seen for so long is no more

constexpr Migration kMigrations[] = {
    {1, "policy versions",
     "CREATE TABLE policy_versions (version BIGINT PRIMARY KEY, text TEXT NOT NULL, entities TEXT NOT NULL, "
     "author TEXT NOT NULL, note TEXT NOT NULL, created_ms BIGINT NOT NULL);"
     "CREATE TABLE policy_files (digest TEXT PRIMARY KEY, version BIGINT NOT NULL);"},
    {2, "models of the nodes' configurations",
     "CREATE TABLE policy_models (node TEXT PRIMARY KEY, models TEXT NOT NULL, started_ms BIGINT NOT NULL);"},
    {3, "when a node was there last",
     "ALTER TABLE policy_models ADD COLUMN seen_ms BIGINT NOT NULL DEFAULT 0;"
     "UPDATE policy_models SET seen_ms = started_ms;"},
};

constexpr std::string_view kColumns = "version, text, entities, author, note, created_ms";
using Row = std::tuple<int64_t, std::string, std::string, std::string, std::string, int64_t>;

std::string hex_digest(std::string_view text) { return hex_text(Sha256().add(text).finish()); }

Result<PolicyVersion> version_of(const Row& row) {
  const auto& [version, text, entities, author, note, created_ms] = row;
  auto described = parse_json(entities);
  if (!described) return corrupt(fmt::format("policies: the entities of version {} are no JSON", version));
  return PolicyVersion{version, text, *std::move(described), author, note, created_ms};
}

Result<std::optional<PolicyVersion>> newest_of(Transaction& tx) {
  REDOUBT_TRY(const auto row, tx.row<int64_t, std::string, std::string, std::string, std::string, int64_t>(fmt::format(
                                  "SELECT {} FROM policy_versions ORDER BY version DESC LIMIT 1", kColumns)));
  if (!row) return std::optional<PolicyVersion>();
  REDOUBT_TRY(PolicyVersion version, version_of(*row));
  return std::optional(std::move(version));
}

Status insert(Transaction& tx, const PolicyVersion& version) {
  REDOUBT_CHECK(tx.execute(
      "INSERT INTO policy_versions (version, text, entities, author, note, created_ms) "
      "VALUES (?, ?, ?, ?, ?, ?)",
      version.version, version.text, dump_json(version.entities), version.author, version.note, version.created_ms));
  return bump(tx, kTopic);
}

Status prepare(Database& database, const WallClock& wall) {
  REDOUBT_CHECK(prepare_topics(database, wall));
  return migrate(database, "policies", kMigrations, wall);
}

// Also that the node is there now; and of nodes that are no more nothing is kept.
Status keep(Database& database, const NodeModels& models, int64_t started_ms, int64_t now_ms) {
  const std::string text = dump_json({{"entities", models.entities}, {"stages", models.stages}});
  return database.write([&](Transaction& tx) -> Status {
    REDOUBT_CHECK(
        tx.execute("INSERT INTO policy_models (node, models, started_ms, seen_ms) VALUES (?, ?, ?, ?) "
                   "ON CONFLICT (node) DO UPDATE SET models = excluded.models, started_ms = excluded.started_ms, "
                   "seen_ms = excluded.seen_ms",
                   models.node, text, started_ms, now_ms));
    REDOUBT_CHECK(tx.execute("DELETE FROM policy_models WHERE seen_ms < ?", now_ms - kForgottenMs));
    return ok();
  });
}

// Adds what one node kept, where none before it named the model.
Status add_kept(const std::string& text, NodeModels& models) {
  const auto json = parse_json(text);
  const auto part = [&](const char* name) { return json->is_object() ? json->value(name, Json()) : Json(); };
  if (!json || !part("entities").is_array() || !part("stages").is_object())
    return corrupt("policies: what a node kept of its models cannot be read");
  models.entities = with_configured(std::move(models.entities), part("entities"));
  models.stages.merge(stages_from_json(part("stages")));
  return ok();
}

}  // namespace

ModelStages stages_from_json(const Json& json) {
  ModelStages stages;
  for (const auto& [model, stage] : json.items()) {
    if (stage.is_string()) stages.emplace(model, stage.get<std::string>());
  }
  return stages;
}

Result<NodeModels> kept_models(Database& database, const WallClock& wall) {
  REDOUBT_CHECK(prepare(database, wall));
  return database.read([&](Transaction& tx) -> Result<NodeModels> {
    REDOUBT_TRY(const auto rows,
                tx.rows<std::string>("SELECT models FROM policy_models ORDER BY started_ms DESC, node"));
    NodeModels models;
    for (const auto& [text] : rows) REDOUBT_CHECK(add_kept(text, models));
    return models;
  });
}

Result<std::unique_ptr<PolicyStore>> PolicyStore::open(Database& database, const std::optional<PolicyFile>& file,
                                                       const Clock& clock, const WallClock& wall, NodeModels configured,
                                                       int period_ms) {
  REDOUBT_CHECK(prepare(database, wall));
  if (configured.node.empty()) {
    REDOUBT_TRY(configured, kept_models(database, wall));
  } else {
    REDOUBT_CHECK(keep(database, configured, wall.now_ms(), wall.now_ms()));
  }
  std::unique_ptr<PolicyStore> store(new PolicyStore(database, wall, std::move(configured)));
  REDOUBT_CHECK(store->adopt(file));
  // Nothing is permitted before the first load.
  REDOUBT_TRY(store->engine_, PolicyEngine::with_text(""));
  PolicyStore* self = store.get();
  store->refresher_ = std::make_unique<Refresher>(
      database, RefresherOptions{.topic = std::string(kTopic), .period_ms = period_ms},
      [self](Transaction& tx) { return self->load(tx); }, clock);
  REDOUBT_CHECK(store->refresh());
  return store;
}

// The file, if it was not read before in this form; else the default text, if there is nothing at all. Nodes that start
// at once do this one after the other, and the later ones find it done.
Status PolicyStore::adopt(const std::optional<PolicyFile>& file) {
  if (file) {
    auto parsed = make_policy_snapshot(file->text, Json::array(), 1);
    if (!parsed) return std::move(parsed).error().within(file->name);
  }
  return database_.write([&](Transaction& tx) -> Status {
    REDOUBT_TRY(const auto newest, newest_of(tx));
    PolicyVersion next{.version = newest ? newest->version + 1 : 1, .created_ms = wall_.now_ms()};
    if (newest) next.entities = newest->entities;
    if (file) {
      const std::string digest = hex_digest(file->text);
      REDOUBT_TRY(const auto read, tx.row<int64_t>("SELECT version FROM policy_files WHERE digest = ?", digest));
      // Read before, and no other file since: what the API made of it stays.
      REDOUBT_TRY(const auto last, tx.row<int64_t>("SELECT version FROM policy_files ORDER BY version DESC LIMIT 1"));
      if (read && last && std::get<0>(*read) == std::get<0>(*last)) return ok();
      REDOUBT_CHECK(
          tx.execute("INSERT INTO policy_files (digest, version) VALUES (?, ?) "
                     "ON CONFLICT (digest) DO UPDATE SET version = excluded.version",
                     digest, next.version));
      next.text = file->text;
      next.author = "file " + file->name;
      return insert(tx, next);
    }
    if (newest) return ok();
    next.text = default_policy_text();
    next.author = "first start";
    return insert(tx, next);
  });
}

Status PolicyStore::load(Transaction& tx) {
  REDOUBT_TRY(auto newest, newest_of(tx));
  if (!newest) return corrupt("policies: no version is stored");
  const Status replaced = engine_->replace(newest->text, with_configured(newest->entities, configured_.entities),
                                           static_cast<uint64_t>(newest->version), configured_.stages);
  if (!replaced)
    return corrupt(fmt::format("policies: version {} cannot be read: {}", newest->version, replaced.error().message));
  return ok();
}

Status PolicyStore::note_running() const {
  return configured_.node.empty() ? ok() : keep(database_, configured_, started_ms_, wall_.now_ms());
}

Result<int64_t> PolicyStore::change(const Change& change) {
  if (change.note.size() > kMaxNoteBytes)
    return invalid(fmt::format("note: more than {} bytes", kMaxNoteBytes), "note");
  if (change.entities && dump_json(*change.entities).size() > kMaxEntitiesBytes) {
    return invalid(fmt::format("entities: more than {} bytes", kMaxEntitiesBytes), "entities");
  }
  REDOUBT_CHECK(make_policy_snapshot(change.text, change.entities.value_or(Json::array()), 1));
  auto made = database_.write([&](Transaction& tx) -> Result<int64_t> {
    REDOUBT_TRY(const auto newest, newest_of(tx));
    const int64_t current = newest ? newest->version : 0;
    if (change.expected && *change.expected != current) {
      return conflict(fmt::format("policies: version {} holds, not {}", current, *change.expected), "expected_version");
    }
    PolicyVersion next{.version = current + 1,
                       .text = change.text,
                       .author = change.author,
                       .note = change.note,
                       .created_ms = wall_.now_ms()};
    next.entities = change.entities ? *change.entities : newest ? newest->entities : Json::array();
    REDOUBT_CHECK(insert(tx, next));
    return next.version;
  });
  if (made) refresher_->read_back();
  return made;
}

Result<PolicyVersion> newest_policies(Database& database) {
  return database.read([&](Transaction& tx) -> Result<PolicyVersion> {
    REDOUBT_TRY(auto found, newest_of(tx));
    if (!found) return corrupt("policies: no version is stored");
    return *std::move(found);
  });
}

Result<PolicyVersion> PolicyStore::version(int64_t version) const {
  return database_.read([&](Transaction& tx) -> Result<PolicyVersion> {
    REDOUBT_TRY(const auto row,
                tx.row<int64_t, std::string, std::string, std::string, std::string, int64_t>(
                    fmt::format("SELECT {} FROM policy_versions WHERE version = ?", kColumns), version));
    if (!row) return not_found(fmt::format("policies: there is no version {}", version));
    return version_of(*row);
  });
}

Result<std::vector<PolicyVersion>> PolicyStore::history(int limit) const {
  return database_.read([&](Transaction& tx) -> Result<std::vector<PolicyVersion>> {
    REDOUBT_TRY(const auto rows,
                tx.rows<int64_t, std::string, std::string, int64_t>(
                    "SELECT version, author, note, created_ms FROM policy_versions ORDER BY version DESC LIMIT ?",
                    static_cast<int64_t>(limit)));
    std::vector<PolicyVersion> out;
    for (const auto& [version, author, note, created_ms] : rows) {
      out.push_back({.version = version, .author = author, .note = note, .created_ms = created_ms});
    }
    return out;
  });
}

}  // namespace redoubt
