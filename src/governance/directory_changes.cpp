// Tenants, teams, users and services: what changes them.
#include <fmt/format.h>

#include <algorithm>

#include "governance/directory.h"
#include "governance/directory_rules.h"
#include "governance/directory_tables.h"

namespace redoubt {
namespace {

std::vector<std::string> sorted(std::vector<std::string> list) {
  std::ranges::sort(list);
  list.erase(std::unique(list.begin(), list.end()), list.end());
  return list;
}

Error no_tenant(const std::string& id) { return not_found(fmt::format("tenant {}: there is none of that name", id)); }

Result<const PrincipalRecord*> find_principal(const DirectorySnapshot& there, const std::string& id) {
  const auto found = there.principals.find(id);
  if (found == there.principals.end())
    return not_found(fmt::format("{}: there is no user or service of that name", id));
  return &found->second;
}

Status set_teams(Transaction& tx, const std::string& id, const std::string& tenant,
                 const std::vector<std::string>& teams) {
  REDOUBT_CHECK(tx.execute("DELETE FROM memberships WHERE principal = ?", id));
  for (const std::string& team : sorted(teams)) {
    REDOUBT_CHECK(tx.execute("INSERT INTO memberships (principal, tenant, team) VALUES (?, ?, ?)", id, tenant, team));
  }
  return ok();
}

Status set_identities(Transaction& tx, const DirectorySnapshot& there, const std::string& id,
                      const std::vector<ExternalIdentity>& identities) {
  REDOUBT_CHECK(tx.execute("DELETE FROM identities WHERE principal = ?", id));
  for (const ExternalIdentity& identity : identities) {
    if (const auto other = there.identities.find(identity); other != there.identities.end() && other->second != id)
      return conflict(fmt::format("identities: {} has that one already", other->second), "identities");
    REDOUBT_CHECK(tx.execute("INSERT INTO identities (method, issuer, subject, principal) VALUES (?, ?, ?, ?)",
                             identity.method, identity.issuer, identity.subject, id));
  }
  return ok();
}

}  // namespace

Status Directory::create_tenant(const Actor&, const std::string& id, const TenantChange& fields) {
  REDOUBT_CHECK(check_id("id", id));
  REDOUBT_CHECK(check_name(fields.name));
  REDOUBT_TRY(const Labels labels, changed({}, fields.labels));
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    if (there.tenants.contains(id)) return conflict(fmt::format("tenant {}: it exists", id), "id");
    REDOUBT_CHECK(tx.execute("INSERT INTO tenants (id, name, labels, disabled, created_at_s) VALUES (?, ?, ?, ?, ?)",
                             id, fields.name.value_or(id), packed(labels), fields.disabled.value_or(false),
                             wall_.now_s()));
    return ok();
  });
}

Status Directory::change_tenant(const Actor& actor, const std::string& id, const TenantChange& change_to) {
  REDOUBT_CHECK(check_name(change_to.name));
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    const auto found = there.tenants.find(id);
    if (found == there.tenants.end()) return no_tenant(id);
    const bool disabled = change_to.disabled.value_or(found->second.disabled);
    // Disabling a tenant disables all that are in it.
    if (disabled && !found->second.disabled) {
      for (const auto& [name, principal] : there.principals) {
        if (principal.tenant == id && is_administrator(principal.roles)) {
          REDOUBT_CHECK(may_change(actor, principal));
        }
      }
    }
    REDOUBT_TRY(const Labels labels, changed(found->second.labels, change_to.labels));
    REDOUBT_CHECK(tx.execute("UPDATE tenants SET name = ?, labels = ?, disabled = ? WHERE id = ?",
                             change_to.name.value_or(found->second.name), packed(labels), disabled, id));
    return ok();
  });
}

Status Directory::remove_tenant(const Actor&, const std::string& id) {
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    if (!there.tenants.contains(id)) return no_tenant(id);
    if (std::ranges::any_of(there.principals, [&](const auto& entry) { return entry.second.tenant == id; }))
      return conflict(fmt::format("tenant {}: users or services are in it", id));
    REDOUBT_TRY(const auto gone, tx.rows<std::string>("SELECT id FROM principals WHERE tenant = ?", id));
    if (!gone.empty())
      return conflict(fmt::format("tenant {}: somebody was in it once, so its name stays; disable it", id));
    REDOUBT_CHECK(tx.execute("DELETE FROM teams WHERE tenant = ?", id));
    REDOUBT_CHECK(tx.execute("DELETE FROM tenants WHERE id = ?", id));
    return ok();
  });
}

Status Directory::create_team(const Actor&, const std::string& tenant, const std::string& id,
                              const TeamChange& fields) {
  REDOUBT_CHECK(check_id("id", id));
  REDOUBT_CHECK(check_name(fields.name));
  REDOUBT_TRY(const Labels labels, changed({}, fields.labels));
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    if (!there.tenants.contains(tenant)) return no_tenant(tenant);
    if (there.teams.contains({tenant, id})) return conflict(fmt::format("team {}: it exists", id), "id");
    REDOUBT_CHECK(tx.execute("INSERT INTO teams (tenant, id, name, labels, created_at_s) VALUES (?, ?, ?, ?, ?)",
                             tenant, id, fields.name.value_or(id), packed(labels), wall_.now_s()));
    return ok();
  });
}

Status Directory::change_team(const Actor&, const std::string& tenant, const std::string& id,
                              const TeamChange& change_to) {
  REDOUBT_CHECK(check_name(change_to.name));
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    const auto found = there.teams.find({tenant, id});
    if (found == there.teams.end())
      return not_found(fmt::format("team {}: tenant {} has none of that name", id, tenant));
    REDOUBT_TRY(const Labels labels, changed(found->second.labels, change_to.labels));
    REDOUBT_CHECK(tx.execute("UPDATE teams SET name = ?, labels = ? WHERE tenant = ? AND id = ?",
                             change_to.name.value_or(found->second.name), packed(labels), tenant, id));
    return ok();
  });
}

Status Directory::remove_team(const Actor& actor, const std::string& tenant, const std::string& id) {
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    if (!there.teams.contains({tenant, id}))
      return not_found(fmt::format("team {}: tenant {} has none of that name", id, tenant));
    for (const auto& [name, principal] : there.principals) {
      if (principal.tenant == tenant && std::ranges::binary_search(principal.teams, id)) {
        REDOUBT_CHECK(may_change(actor, principal));
      }
    }
    REDOUBT_CHECK(tx.execute("DELETE FROM memberships WHERE tenant = ? AND team = ?", tenant, id));
    REDOUBT_CHECK(tx.execute("DELETE FROM teams WHERE tenant = ? AND id = ?", tenant, id));
    return ok();
  });
}

Status Directory::create_principal(const Actor& actor, const NewPrincipal& made) {
  REDOUBT_CHECK(check_id("id", made.id));
  if (made.kind != PrincipalKind::user && made.kind != PrincipalKind::service)
    return invalid("kind: expected user or service", "kind");
  const std::vector<std::string> roles = sorted(made.fields.roles.value_or(std::vector{std::string(kUserRole)}));
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    if (!there.tenants.contains(made.tenant)) return no_tenant(made.tenant);
    if (static_cast<int64_t>(there.principals.size()) >= options_.max_principals)
      return conflict(fmt::format("there are {} users and services, which is the limit", options_.max_principals));
    REDOUBT_CHECK(check_principal_fields(there, made.tenant, made.fields));
    REDOUBT_CHECK(may_set_roles(actor, {}, roles));
    REDOUBT_TRY(const Labels labels, changed({}, made.fields.labels));
    REDOUBT_TRY(const auto used, tx.row<std::string>("SELECT id FROM principals WHERE id = ?", made.id));
    if (there.principals.contains(made.id))
      return conflict(fmt::format("{}: a user or service of that name exists", made.id), "id");
    if (used) return conflict(fmt::format("{}: somebody had that name once; it is never used again", made.id), "id");
    REDOUBT_CHECK(
        tx.execute("INSERT INTO principals (id, kind, tenant, name, roles, labels, disabled, created_at_s) "
                   "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                   made.id, kind_name(made.kind), made.tenant, made.fields.name.value_or(made.id), packed(roles),
                   packed(labels), made.fields.disabled.value_or(false), wall_.now_s()));
    REDOUBT_CHECK(set_teams(tx, made.id, made.tenant, made.fields.teams.value_or(std::vector<std::string>())));
    return set_identities(tx, there, made.id, made.fields.identities.value_or(std::vector<ExternalIdentity>()));
  });
}

Status Directory::change_principal(const Actor& actor, const std::string& id, const PrincipalChange& change_to) {
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    REDOUBT_TRY(const PrincipalRecord* const found, find_principal(there, id));
    REDOUBT_CHECK(may_change(actor, *found));
    PrincipalChange whole = change_to;
    for (const ExternalIdentity& identity : found->identities) {
      const bool stays = whole.identities && !whole.identity_methods.empty() &&
                         std::ranges::find(whole.identity_methods, identity.method) == whole.identity_methods.end();
      if (stays) whole.identities->push_back(identity);
    }
    REDOUBT_CHECK(check_principal_fields(there, found->tenant, whole));
    REDOUBT_TRY(const Labels labels, changed(found->labels, change_to.labels));
    const std::vector<std::string> roles = sorted(change_to.roles.value_or(found->roles));
    REDOUBT_CHECK(may_set_roles(actor, found->roles, roles));
    REDOUBT_CHECK(tx.execute("UPDATE principals SET name = ?, roles = ?, labels = ?, disabled = ? WHERE id = ?",
                             change_to.name.value_or(found->name), packed(roles), packed(labels),
                             change_to.disabled.value_or(found->disabled), id));
    if (change_to.teams) {
      REDOUBT_CHECK(set_teams(tx, id, found->tenant, *change_to.teams));
    }
    if (whole.identities) {
      REDOUBT_CHECK(set_identities(tx, there, id, *whole.identities));
    }
    return ok();
  });
}

Status Directory::remove_principal(const Actor& actor, const std::string& id) {
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    REDOUBT_TRY(const PrincipalRecord* const found, find_principal(there, id));
    REDOUBT_CHECK(may_change(actor, *found));
    REDOUBT_CHECK(tx.execute("UPDATE api_keys SET revoked_at_s = ? WHERE principal = ? AND revoked_at_s IS NULL",
                             wall_.now_s(), id));
    REDOUBT_CHECK(tx.execute("DELETE FROM memberships WHERE principal = ?", id));
    REDOUBT_CHECK(tx.execute("DELETE FROM identities WHERE principal = ?", id));
    REDOUBT_CHECK(tx.execute("UPDATE principals SET removed_at_s = ?, disabled = 1 WHERE id = ?", wall_.now_s(), id));
    return ok();
  });
}

}  // namespace redoubt
