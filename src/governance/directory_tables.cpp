#include "governance/directory_tables.h"

#include <fmt/format.h>

#include <algorithm>

namespace redoubt {
namespace {

constexpr Migration kMigrations[] = {
    {1, "tenants, teams, principals, keys", R"(
CREATE TABLE tenants (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, labels TEXT NOT NULL, disabled BIGINT NOT NULL, created_at_s BIGINT NOT NULL);
CREATE TABLE teams (
  tenant TEXT NOT NULL REFERENCES tenants (id), id TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL,
  created_at_s BIGINT NOT NULL, PRIMARY KEY (tenant, id));
-- A principal that is gone stays as a row, so that its id in old records never comes to mean somebody else.
CREATE TABLE principals (
  id TEXT PRIMARY KEY, kind TEXT NOT NULL, tenant TEXT NOT NULL REFERENCES tenants (id), name TEXT NOT NULL,
  roles TEXT NOT NULL, labels TEXT NOT NULL, disabled BIGINT NOT NULL, created_at_s BIGINT NOT NULL,
  removed_at_s BIGINT, UNIQUE (tenant, id));
CREATE TABLE memberships (
  principal TEXT NOT NULL, tenant TEXT NOT NULL, team TEXT NOT NULL, PRIMARY KEY (principal, team),
  FOREIGN KEY (tenant, principal) REFERENCES principals (tenant, id),
  FOREIGN KEY (tenant, team) REFERENCES teams (tenant, id));
CREATE TABLE identities (
  method TEXT NOT NULL, issuer TEXT NOT NULL, subject TEXT NOT NULL,
  principal TEXT NOT NULL REFERENCES principals (id), PRIMARY KEY (method, issuer, subject));
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY, principal TEXT NOT NULL REFERENCES principals (id), name TEXT NOT NULL,
  hash BYTEA NOT NULL UNIQUE, scopes TEXT NOT NULL, created_at_s BIGINT NOT NULL, created_by TEXT NOT NULL,
  expires_at_s BIGINT NOT NULL, revoked_at_s BIGINT, replaced_by TEXT NOT NULL, last_used_at_s BIGINT NOT NULL);
CREATE TABLE identity_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
)"},
    // The first of a row of rotations; '': itself. Rows that were made before begin anew.
    {2, "keys know the first of their rotations", R"(
ALTER TABLE api_keys ADD COLUMN first_key TEXT NOT NULL DEFAULT ''
)"},
};

Result<std::vector<std::string>> unpacked_list(const std::string& text) {
  const auto json = parse_json(text, {.max_depth = 4});
  if (!json || !json->is_array()) return corrupt("directory: a list in the database cannot be read");
  std::vector<std::string> list;
  for (const Json& item : *json) {
    if (!item.is_string()) return corrupt("directory: a list in the database cannot be read");
    list.push_back(item.get<std::string>());
  }
  std::ranges::sort(list);
  return list;
}

Result<Labels> unpacked_labels(const std::string& text) {
  const auto json = parse_json(text, {.max_depth = 4});
  if (!json || !json->is_object()) return corrupt("directory: labels in the database cannot be read");
  Labels labels;
  for (const auto& [name, value] : json->items()) {
    if (!value.is_string()) return corrupt("directory: labels in the database cannot be read");
    labels[name] = value.get<std::string>();
  }
  return labels;
}

Result<PrincipalKind> kind_of(const std::string& name) {
  for (const auto kind : {PrincipalKind::user, PrincipalKind::service, PrincipalKind::appointer}) {
    if (name == kind_name(kind)) return kind;
  }
  return corrupt("directory: a principal is of a kind that is not known");
}

Status read_tenants(Transaction& tx, DirectorySnapshot& all) {
  REDOUBT_TRY(const auto tenants, tx.rows<std::string, std::string, std::string, int64_t, int64_t>(
                                      "SELECT id, name, labels, disabled, created_at_s FROM tenants"));
  for (const auto& [id, name, labels, disabled, created] : tenants) {
    TenantRecord record{.id = id, .name = name, .disabled = disabled != 0, .created_at_s = created};
    REDOUBT_TRY(record.labels, unpacked_labels(labels));
    all.tenants.emplace(id, std::move(record));
  }
  REDOUBT_TRY(const auto teams, tx.rows<std::string, std::string, std::string, std::string, int64_t>(
                                    "SELECT tenant, id, name, labels, created_at_s FROM teams"));
  for (const auto& [tenant, id, name, labels, created] : teams) {
    TeamRecord record{.tenant = tenant, .id = id, .name = name, .created_at_s = created};
    REDOUBT_TRY(record.labels, unpacked_labels(labels));
    all.teams.emplace(std::pair(tenant, id), std::move(record));
  }
  return ok();
}

Status read_principals(Transaction& tx, DirectorySnapshot& all) {
  REDOUBT_TRY(const auto principals,
              tx.rows<std::string, std::string, std::string, std::string, std::string, std::string, int64_t, int64_t>(
                  "SELECT id, kind, tenant, name, roles, labels, disabled, created_at_s FROM principals WHERE "
                  "removed_at_s IS NULL"));
  for (const auto& [id, kind, tenant, name, roles, labels, disabled, created] : principals) {
    PrincipalRecord record{
        .id = id, .tenant = tenant, .name = name, .disabled = disabled != 0, .created_at_s = created};
    REDOUBT_TRY(record.kind, kind_of(kind));
    REDOUBT_TRY(record.roles, unpacked_list(roles));
    REDOUBT_TRY(record.labels, unpacked_labels(labels));
    all.principals.emplace(id, std::move(record));
  }
  REDOUBT_TRY(const auto memberships, tx.rows<std::string, std::string>("SELECT principal, team FROM memberships"));
  for (const auto& [principal, team] : memberships) {
    if (const auto found = all.principals.find(principal); found != all.principals.end())
      found->second.teams.push_back(team);
  }
  REDOUBT_TRY(const auto identities, tx.rows<std::string, std::string, std::string, std::string>(
                                         "SELECT method, issuer, subject, principal FROM identities"));
  for (const auto& [method, issuer, subject, principal] : identities) {
    const auto found = all.principals.find(principal);
    if (found == all.principals.end()) continue;
    found->second.identities.push_back({method, issuer, subject});
    all.identities.emplace(ExternalIdentity{method, issuer, subject}, principal);
  }
  for (auto& [id, record] : all.principals) {
    std::ranges::sort(record.teams);
    std::ranges::sort(record.identities);
  }
  return ok();
}

Status read_keys(Transaction& tx, const DirectorySnapshot& before, int64_t ended_after_s, DirectorySnapshot& all) {
  REDOUBT_TRY(
      const auto keys,
      tx.rows<std::string, std::string, std::string, Blob, std::string, int64_t, std::string, int64_t,
              std::optional<int64_t>, std::string, int64_t, std::string>(
          "SELECT id, principal, name, hash, scopes, created_at_s, created_by, expires_at_s, revoked_at_s, "
          "replaced_by, last_used_at_s, first_key FROM api_keys WHERE (revoked_at_s IS NULL OR revoked_at_s > ?) "
          "AND (expires_at_s = 0 OR expires_at_s > ?)",
          ended_after_s, ended_after_s));
  for (const auto& [id, principal, name, hash, scopes, created, by, expires, revoked, replaced, used, first] : keys) {
    if (!all.principals.contains(principal)) continue;  // its owner is gone
    auto record = std::make_shared<KeyRecord>();
    record->id = id;
    record->principal = principal;
    record->name = name;
    REDOUBT_TRY(record->scopes, unpacked_list(scopes));
    if (hash.size() != record->hash.size()) return corrupt("directory: a key's hash is not of 32 bytes");
    std::ranges::copy(hash, record->hash.begin());
    record->created_at_s = created;
    record->created_by = by;
    record->expires_at_s = expires;
    record->revoked_at_s = revoked;
    record->replaced_by = replaced;
    record->first_key = first.empty() ? id : first;
    const auto known = before.keys.find(id);
    record->last_used_at_s =
        known != before.keys.end() && known->second->hash == record->hash  // "bootstrap" may be another by now
            ? known->second->last_used_at_s
            : std::make_shared<std::atomic<int64_t>>(0);
    if (record->last_used_at_s->load() < used) record->last_used_at_s->store(used);
    if (!revoked) {
      if (const PrincipalPtr owner = all.principal(principal, "api_key")) {
        auto who = std::make_shared<Principal>(*owner);
        who->key_id = id;
        who->first_key = record->first_key;
        who->scopes = record->scopes;
        who->expires_at_s = expires;
        record->who = std::move(who);
      }
    }
    all.keys_by_hash.emplace(record->hash, record);
    all.keys.emplace(id, std::move(record));
  }
  return ok();
}

}  // namespace

std::span<const Migration> directory_migrations() { return kMigrations; }

Result<std::shared_ptr<DirectorySnapshot>> read_directory(Transaction& tx, const DirectorySnapshot& before,
                                                          int64_t now_s) {
  auto all = std::make_shared<DirectorySnapshot>();
  REDOUBT_CHECK(read_tenants(tx, *all));
  REDOUBT_CHECK(read_principals(tx, *all));
  REDOUBT_CHECK(read_keys(tx, before, now_s - kEndedKeyS, *all));
  return all;
}

std::string packed(const std::vector<std::string>& list) { return dump_json(Json(list)); }

std::string packed(const Labels& labels) { return dump_json(labels.empty() ? Json::object() : Json(labels)); }

}  // namespace redoubt
