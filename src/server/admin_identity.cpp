// Users, services, teams, tenants, keys and administrators, over the directory.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "server/admin_call.h"
#include "server/admin_fields.h"
#include "server/json_fields.h"

namespace redoubt {
namespace {

constexpr size_t kPageSize = 1000;
constexpr std::string_view kPatched =
    "; fields, labels and methods of identities that are not named stay, null takes a label or a method's away";
constexpr std::string_view kReads = "read_system", kUsers = "manage_users", kKeys = "manage_keys";

Error absent(std::string_view what) { return not_found(fmt::format("{}: there is none of that name", what)); }

// Up to `limit` of the records whose name comes after `after`: {"object":"list","data":[…],"has_more":…}.
template <class Records, class Name, class Keep, class Show>
Result<Json> page(const AdminCall& call, const Records& records, Name name, Keep keep, Show show) {
  size_t limit = kPageSize;
  if (const std::string asked = call.query_value("limit"); !asked.empty()) {
    const auto [end, error] = std::from_chars(asked.data(), asked.data() + asked.size(), limit);
    if (error != std::errc() || end != asked.data() + asked.size() || limit < 1 || limit > kPageSize)
      return invalid(fmt::format("limit: expected 1 to {}", kPageSize), "limit");
  }
  const std::string after = call.query_value("after");
  Json data = Json::array();
  for (const auto& [key, record] : records) {
    if (name(key) <= after || !keep(record)) continue;
    if (data.size() == limit) return Json{{"object", "list"}, {"data", std::move(data)}, {"has_more", true}};
    data.push_back(show(record));
  }
  return Json{{"object", "list"}, {"data", std::move(data)}, {"has_more", false}};
}
const auto kOwnName = [](const std::string& key) { return key; };

Json deleted(const std::string& id) { return {{"id", id}, {"deleted", true}}; }

// Tenants and teams.

Result<Json> show_tenant(const AdminCall& call, const std::string& id) {
  const auto snapshot = call.directory.snapshot();
  const auto found = snapshot->tenants.find(id);
  if (found == snapshot->tenants.end()) return absent("tenant");
  return to_json(found->second);
}
Result<Json> list_tenants(const AdminCall& call) {
  return page(
      call, call.directory.snapshot()->tenants, kOwnName, [](const auto&) { return true; },
      [](const TenantRecord& tenant) { return to_json(tenant); });
}
Result<Json> create_tenant(const AdminCall& call) {
  REDOUBT_TRY(const std::string id, required_string(call.body, "id"));
  REDOUBT_TRY(const TenantChange fields, tenant_change(call.body));
  REDOUBT_CHECK(call.directory.create_tenant(call.actor, id, fields));
  return show_tenant(call, id);
}
Result<Json> read_tenant(const AdminCall& call) { return show_tenant(call, call.param("id")); }
Result<Json> change_tenant(const AdminCall& call) {
  REDOUBT_TRY(const TenantChange change, tenant_change(call.body));
  REDOUBT_CHECK(call.directory.change_tenant(call.actor, call.param("id"), change));
  return show_tenant(call, call.param("id"));
}
Result<Json> remove_tenant(const AdminCall& call) {
  REDOUBT_CHECK(call.directory.remove_tenant(call.actor, call.param("id")));
  return deleted(call.param("id"));
}

Result<Json> show_team(const AdminCall& call, const std::string& tenant, const std::string& id) {
  const auto snapshot = call.directory.snapshot();
  const auto found = snapshot->teams.find({tenant, id});
  if (found == snapshot->teams.end()) return absent("team");
  return to_json(found->second);
}
Result<Json> list_teams(const AdminCall& call) {
  const auto snapshot = call.directory.snapshot();
  const std::string tenant = call.param("tenant");
  if (!snapshot->tenants.contains(tenant)) return absent("tenant");
  return page(
      call, snapshot->teams, [](const auto& key) { return key.second; },
      [&](const TeamRecord& team) { return team.tenant == tenant; },
      [](const TeamRecord& team) { return to_json(team); });
}
Result<Json> create_team(const AdminCall& call) {
  REDOUBT_TRY(const std::string id, required_string(call.body, "id"));
  REDOUBT_TRY(const TeamChange fields, team_change(call.body));
  REDOUBT_CHECK(call.directory.create_team(call.actor, call.param("tenant"), id, fields));
  return show_team(call, call.param("tenant"), id);
}
Result<Json> change_team(const AdminCall& call) {
  REDOUBT_TRY(const TeamChange change, team_change(call.body));
  REDOUBT_CHECK(call.directory.change_team(call.actor, call.param("tenant"), call.param("id"), change));
  return show_team(call, call.param("tenant"), call.param("id"));
}
Result<Json> remove_team(const AdminCall& call) {
  REDOUBT_CHECK(call.directory.remove_team(call.actor, call.param("tenant"), call.param("id")));
  return deleted(call.param("id"));
}

// Users and services: two paths, one table.

template <PrincipalKind kind>
Result<Json> show_principal(const AdminCall& call, const std::string& id) {
  const auto snapshot = call.directory.snapshot();
  const auto found = snapshot->principals.find(id);
  if (found == snapshot->principals.end() || found->second.kind != kind) return absent(kind_name(kind));
  return to_json(found->second);
}
template <PrincipalKind kind>
Result<Json> list_principals(const AdminCall& call) {
  const std::string tenant = call.query_value("tenant"), team = call.query_value("team");
  return page(
      call, call.directory.snapshot()->principals, kOwnName,
      [&](const PrincipalRecord& one) {
        return one.kind == kind && (tenant.empty() || one.tenant == tenant) &&
               (team.empty() || std::ranges::binary_search(one.teams, team));
      },
      [](const PrincipalRecord& one) { return to_json(one); });
}
template <PrincipalKind kind>
Result<Json> create_principal(const AdminCall& call) {
  NewPrincipal made{.kind = kind};
  REDOUBT_TRY(made.id, required_string(call.body, "id"));
  REDOUBT_TRY(const auto tenant, JsonFields(call.body).string("tenant"));
  if (tenant) made.tenant = *tenant;
  REDOUBT_TRY(made.fields, principal_change(call.body));
  REDOUBT_CHECK(call.directory.create_principal(call.actor, made));
  return show_principal<kind>(call, made.id);
}
template <PrincipalKind kind>
Result<Json> read_principal(const AdminCall& call) {
  return show_principal<kind>(call, call.param("id"));
}
template <PrincipalKind kind>
Result<Json> change_principal(const AdminCall& call) {
  REDOUBT_CHECK(show_principal<kind>(call, call.param("id")));
  REDOUBT_TRY(const PrincipalChange change, principal_change(call.body));
  REDOUBT_CHECK(call.directory.change_principal(call.actor, call.param("id"), change));
  return show_principal<kind>(call, call.param("id"));
}
template <PrincipalKind kind>
Result<Json> remove_principal(const AdminCall& call) {
  REDOUBT_CHECK(show_principal<kind>(call, call.param("id")));
  REDOUBT_CHECK(call.directory.remove_principal(call.actor, call.param("id")));
  return deleted(call.param("id"));
}

// Keys.

Result<Json> show_key(const AdminCall& call, const std::string& id) {
  const auto snapshot = call.directory.snapshot();
  const auto found = snapshot->keys.find(id);
  if (found == snapshot->keys.end()) return absent("key");
  return to_json(*found->second, call.wall.now_s());
}
// The key's record, and the key: the one time that it is shown.
Result<Json> show_new_key(const AdminCall& call, const NewKey& made) {
  auto record = show_key(call, made.id);
  Json answer = record ? std::move(record).value() : Json{{"id", made.id}};
  answer["key"] = made.text;
  return answer;
}
Result<Json> list_keys(const AdminCall& call) {
  const std::string principal = call.query_value("principal");
  return page(
      call, call.directory.snapshot()->keys, kOwnName,
      [&](const KeyPtr& key) { return principal.empty() || key->principal == principal; },
      [&](const KeyPtr& key) { return to_json(*key, call.wall.now_s()); });
}
Result<Json> create_key(const AdminCall& call) {
  KeyRequest request;
  const JsonFields fields(call.body);
  REDOUBT_TRY(request.principal, required_string(call.body, "principal"));
  REDOUBT_TRY(const auto name, fields.string("name"));
  request.name = name.value_or("");
  REDOUBT_TRY(const auto scopes, string_list(call.body, "scopes"));
  request.scopes = scopes.value_or(std::vector<std::string>());
  REDOUBT_TRY(const auto expires, fields.integer("expires_in_s", 0));
  request.expires_in_s = expires.value_or(0);
  REDOUBT_TRY(const NewKey made, call.directory.create_key(call.actor, request));
  return show_new_key(call, made);
}
Result<Json> read_key(const AdminCall& call) { return show_key(call, call.param("id")); }
Result<Json> rotate(const AdminCall& call, const std::string& id) {
  REDOUBT_TRY(const auto overlap, JsonFields(call.body).integer("overlap_s", 0));
  REDOUBT_TRY(const NewKey made, overlap ? call.directory.rotate_key(call.actor, id, *overlap)
                                         : call.directory.rotate_key(call.actor, id));
  return show_new_key(call, made);
}
Result<Json> rotate_key(const AdminCall& call) { return rotate(call, call.param("id")); }
Result<Json> revoke_key(const AdminCall& call) {
  REDOUBT_CHECK(call.directory.revoke_key(call.actor, call.param("id")));
  return show_key(call, call.param("id"));
}

// Who asks: every administrator may know itself and renew the key that it asks with.

Result<Json> read_self(const AdminCall& call) {
  if (call.actor == nullptr) return Json{{"id", "owner"}, {"kind", "owner"}};
  Json self = {{"id", call.actor->id},       {"kind", kind_name(call.actor->kind)}, {"tenant", call.actor->tenant},
               {"teams", call.actor->teams}, {"roles", call.actor->roles},          {"scopes", call.actor->scopes}};
  self["auth_method"] = call.actor->auth_method;
  self["key_id"] = call.actor->key_id.empty() ? Json(nullptr) : Json(call.actor->key_id);
  return self;
}
Result<Json> rotate_own_key(const AdminCall& call) {
  if (call.actor == nullptr || call.actor->key_id.empty()) return invalid("this call was not made with an API key");
  return rotate(call, call.actor->key_id);
}

Result<Json> appoint(const AdminCall& call) {
  Appointment named;
  REDOUBT_TRY(named.system, required_string(call.body, "system"));
  REDOUBT_TRY(named.security, required_string(call.body, "security"));
  REDOUBT_TRY(named.audit, required_string(call.body, "audit"));
  REDOUBT_TRY(const AppointedKeys keys, call.directory.appoint(call.actor, named));
  const auto one = [](const std::string& id, const NewKey& key) {
    return Json{{"user", id}, {"key_id", key.id}, {"key", key.text}};
  };
  return Json{{"system", one(named.system, keys.system)},
              {"security", one(named.security, keys.security)},
              {"audit", one(named.audit, keys.audit)}};
}

template <PrincipalKind kind>
void add_principals(std::vector<AdminEntry>& table, const std::string& path, const std::string& one) {
  const std::vector<std::string> change{"name", "teams", "roles", "labels", "identities", "disabled"};
  std::vector<std::string> create = change;
  create.insert(create.end(), {"id", "tenant"});
  const std::string reads(kReads), users(kUsers);
  table.push_back({"GET", path, reads, "Every " + one + "; of one ?tenant= or ?team=", {}, list_principals<kind>});
  table.push_back({"POST", path, users, "A new " + one, create, create_principal<kind>});
  table.push_back({"GET", path + "/{id}", reads, "One " + one, {}, read_principal<kind>});
  table.push_back(
      {"PATCH", path + "/{id}", users, "Changes a " + one + std::string(kPatched), change, change_principal<kind>});
  table.push_back(
      {"DELETE", path + "/{id}", users, "Removes a " + one + " and revokes its keys", {}, remove_principal<kind>});
}

}  // namespace

std::vector<AdminEntry> admin_identity_table() {
  const std::string reads(kReads), users(kUsers), keys(kKeys),
      tenants = "/admin/v1/tenants", teams = "/admin/v1/tenants/{tenant}/teams", key = "/admin/v1/keys";
  std::vector<AdminEntry> table{
      {"GET", tenants, reads, "Every tenant", {}, list_tenants},
      {"POST", tenants, users, "A new tenant", {"id", "name", "labels", "disabled"}, create_tenant},
      {"GET", tenants + "/{id}", reads, "One tenant", {}, read_tenant},
      {"PATCH",
       tenants + "/{id}",
       users,
       "Changes a tenant" + std::string(kPatched),
       {"name", "labels", "disabled"},
       change_tenant},
      {"DELETE", tenants + "/{id}", users, "Removes a tenant that nobody was ever in", {}, remove_tenant},
      {"GET", teams, reads, "Every team of a tenant", {}, list_teams},
      {"POST", teams, users, "A new team", {"id", "name", "labels"}, create_team},
      {"PATCH", teams + "/{id}", users, "Changes a team" + std::string(kPatched), {"name", "labels"}, change_team},
      {"DELETE", teams + "/{id}", users, "Removes a team", {}, remove_team},
      {"GET", key, reads, "Every key; of one ?principal=", {}, list_keys},
      {"POST", key, keys, "A new key, shown this once", {"principal", "name", "scopes", "expires_in_s"}, create_key},
      {"GET", key + "/{id}", reads, "One key, without its secret", {}, read_key},
      {"POST",
       key + "/{id}/rotate",
       keys,
       "A key in place of this one, which goes on for overlap_s",
       {"overlap_s"},
       rotate_key},
      {"POST", key + "/{id}/revoke", keys, "Ends a key, and what is under way with it", {}, revoke_key},
      {"GET", "/admin/v1/self", reads, "Who asks", {}, read_self},
      {"POST", "/admin/v1/self/rotate", reads, "A key in place of the one that asks", {"overlap_s"}, rotate_own_key},
      {"POST",
       "/admin/v1/administrators",
       "appoint_administrators",
       "Names the three administrators, once, by the appointing key",
       {"system", "security", "audit"},
       appoint},
  };
  add_principals<PrincipalKind::user>(table, "/admin/v1/users", "user");
  add_principals<PrincipalKind::service>(table, "/admin/v1/services", "service");
  return table;
}

}  // namespace redoubt
