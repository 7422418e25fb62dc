// Keys: made, rotated, revoked; the first ones, and the administrators'.
#include <fmt/format.h>

#include <algorithm>

#include "governance/api_keys.h"
#include "governance/directory.h"
#include "governance/directory_rules.h"
#include "governance/directory_tables.h"

namespace redoubt {
namespace {

constexpr std::string_view kAppointer = "appointer", kFirstUser = "first", kDefaultTenant = "default";
constexpr int64_t kMaxOverlapS = int64_t{366} * 86'400;

Result<const KeyRecord*> find_key(const DirectorySnapshot& there, const std::string& id) {
  const auto found = there.keys.find(id);
  if (found == there.keys.end()) return not_found("key: there is none of that id");
  return found->second.get();
}

// Ended keys do not count: they stay for the records. `ending`: how many end as the new one is made.
Status room_for_a_key(const DirectorySnapshot& there, int64_t now_s, int64_t max_keys, int64_t ending = 0) {
  const auto going_on =
      std::ranges::count_if(there.keys, [&](const auto& entry) { return entry.second->goes_on_at(now_s); });
  if (going_on - ending < max_keys) return ok();
  return conflict(fmt::format("there are {} keys, which is the limit", max_keys));
}

Status ensure_default_tenant(Transaction& tx, int64_t now_s) {
  REDOUBT_CHECK(
      tx.execute("INSERT INTO tenants (id, name, labels, disabled, created_at_s) VALUES (?, ?, '{}', 0, ?) "
                 "ON CONFLICT (id) DO NOTHING",
                 kDefaultTenant, kDefaultTenant, now_s));
  return ok();
}

Status insert_principal(Transaction& tx, std::string_view id, PrincipalKind kind, const std::vector<std::string>& roles,
                        int64_t now_s) {
  REDOUBT_CHECK(
      tx.execute("INSERT INTO principals (id, kind, tenant, name, roles, labels, disabled, created_at_s) "
                 "VALUES (?, ?, ?, ?, ?, '{}', 0, ?) ON CONFLICT (id) DO NOTHING",
                 id, kind_name(kind), kDefaultTenant, id, packed(roles), now_s));
  return ok();
}

}  // namespace

Result<NewKey> Directory::insert_key(Transaction& tx, const Actor& actor, const KeyRequest& request,
                                     const std::string& text) {
  const KeyText drawn = text.empty() ? draw_key() : KeyText{std::string(kBootstrapKey), text};
  std::vector<std::string> scopes = request.scopes;
  std::ranges::sort(scopes);
  const int64_t now_s = wall_.now_s();
  REDOUBT_CHECK(tx.execute(
      "INSERT INTO api_keys (id, principal, name, hash, scopes, created_at_s, created_by, expires_at_s, "
      "replaced_by, last_used_at_s) VALUES (?, ?, ?, ?, ?, ?, ?, ?, '', 0)",
      drawn.id, request.principal, request.name, std::span<const uint8_t>(key_hash(hash_, drawn.text)), packed(scopes),
      now_s, actor_name(actor), request.expires_in_s == 0 ? 0 : now_s + request.expires_in_s));
  return NewKey{drawn.text, drawn.id};
}

Result<NewKey> Directory::create_key(const Actor& actor, const KeyRequest& request) {
  REDOUBT_CHECK(check_key_request(request));
  NewKey made;
  REDOUBT_CHECK(change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    const auto owner = there.principals.find(request.principal);
    if (owner == there.principals.end())
      return Error{ErrorCode::not_found, "principal: there is no user or service of that name", "principal"};
    std::vector<std::string> scopes = request.scopes;
    std::ranges::sort(scopes);
    const int64_t ends_s = request.expires_in_s == 0 ? 0 : wall_.now_s() + request.expires_in_s;
    REDOUBT_CHECK(may_make_key(actor, owner->second, scopes, ends_s));
    REDOUBT_CHECK(room_for_a_key(there, wall_.now_s(), options_.max_keys));
    REDOUBT_TRY(made, insert_key(tx, actor, request));
    return ok();
  }));
  return made;
}

Result<NewKey> Directory::rotate_key(const Actor& actor, const std::string& id, int64_t overlap_s) {
  if (overlap_s < 0 || overlap_s > kMaxOverlapS)
    return invalid("overlap_s: expected 0 to a year of seconds", "overlap_s");
  NewKey made;
  REDOUBT_CHECK(change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    REDOUBT_TRY(const KeyRecord* const old, find_key(there, id));
    const int64_t now_s = wall_.now_s();
    if (!old->goes_on_at(now_s) || !old->replaced_by.empty())
      return conflict("key: it is revoked, expired or replaced already");
    const PrincipalRecord& owner = there.principals.at(old->principal);
    // By itself a key is replaced until it would have ended, else it would have no end; by somebody who might make a
    // new one, for as long as it was made for.
    const bool by_itself = actor != nullptr && actor->key_id == id;
    const int64_t lifetime_s = old->expires_at_s == 0 ? 0 : old->expires_at_s - (by_itself ? now_s : old->created_at_s);
    REDOUBT_CHECK(may_make_key(actor, owner, old->scopes, lifetime_s == 0 ? 0 : now_s + lifetime_s));
    // One that leaked can be replaced at the limit too.
    REDOUBT_CHECK(room_for_a_key(there, now_s, options_.max_keys, overlap_s == 0 ? 1 : 0));
    REDOUBT_TRY(
        made, insert_key(
                  tx, actor,
                  {.principal = old->principal, .name = old->name, .scopes = old->scopes, .expires_in_s = lifetime_s}));
    const int64_t ends_s = old->expires_at_s == 0 ? now_s + overlap_s : std::min(old->expires_at_s, now_s + overlap_s);
    REDOUBT_CHECK(
        tx.execute("UPDATE api_keys SET replaced_by = ?, expires_at_s = ? WHERE id = ?", made.id, ends_s, id));
    // Its limits, and what was used of them, are the successor's: a rotation is no way around a daily limit.
    REDOUBT_CHECK(tx.execute("UPDATE api_keys SET first_key = ? WHERE id = ?", old->first_key, made.id));
    return ok();
  }));
  return made;
}

Status Directory::revoke_key(const Actor& actor, const std::string& id) {
  return change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    REDOUBT_TRY(const KeyRecord* const key, find_key(there, id));
    REDOUBT_CHECK(may_revoke_key(actor, there.principals.at(key->principal)));
    // A second time changes nothing: when it was revoked first is what records ask for.
    REDOUBT_CHECK(
        tx.execute("UPDATE api_keys SET revoked_at_s = ? WHERE id = ? AND revoked_at_s IS NULL", wall_.now_s(), id));
    return ok();
  });
}

Result<AppointedKeys> Directory::appoint(const Actor& actor, const Appointment& named) {
  if (actor != nullptr && actor->kind != PrincipalKind::appointer)
    return Error{ErrorCode::denied, "administrators are named by the appointing key alone", {}};
  REDOUBT_CHECK(check_id("system", named.system));
  REDOUBT_CHECK(check_id("security", named.security));
  REDOUBT_CHECK(check_id("audit", named.audit));
  if (named.system == named.security || named.security == named.audit || named.audit == named.system)
    return invalid("expected three different people as system, security and audit administrator");
  AppointedKeys keys;
  REDOUBT_CHECK(change([&](Transaction& tx, const DirectorySnapshot& there) -> Status {
    REDOUBT_CHECK(ensure_default_tenant(tx, wall_.now_s()));
    if (actor != nullptr) {
      const auto key = there.keys.find(actor->key_id);
      if (key == there.keys.end() || !key->second->valid_at(wall_.now_s()))
        return Error{ErrorCode::denied, "the appointing key was used already", {}};
    }
    const std::tuple<const std::string&, std::string_view, NewKey&> three[] = {
        {named.system, kSystemAdmin, keys.system},
        {named.security, kSecurityAdmin, keys.security},
        {named.audit, kAuditAdmin, keys.audit}};
    for (const auto& [id, role, key] : three) {
      const auto found = there.principals.find(id);
      if (found == there.principals.end()) {
        REDOUBT_TRY(const auto used, tx.row<std::string>("SELECT id FROM principals WHERE id = ?", id));
        if (used) return conflict(fmt::format("{}: somebody had that name once; it is never used again", id));
        REDOUBT_CHECK(insert_principal(tx, id, PrincipalKind::user, {std::string(role)}, wall_.now_s()));
      } else {
        if (found->second.kind != PrincipalKind::user) return invalid(fmt::format("{}: expected a user, a person", id));
        if (is_administrator(found->second.roles)) return conflict(fmt::format("{}: is an administrator already", id));
        std::vector<std::string> roles = found->second.roles;
        roles.emplace_back(role);
        std::ranges::sort(roles);
        REDOUBT_CHECK(tx.execute("UPDATE principals SET roles = ? WHERE id = ?", packed(roles), id));
      }
      REDOUBT_TRY(key, insert_key(tx, actor, {.principal = id, .name = std::string(role)}));
    }
    REDOUBT_CHECK(tx.execute("UPDATE api_keys SET revoked_at_s = ? WHERE principal = ? AND revoked_at_s IS NULL",
                             wall_.now_s(), kAppointer));
    return ok();
  }));
  return keys;
}

// The key of id "bootstrap" becomes what is set. The one before it stays in the table under another id, ended, so that
// a hash that was revoked once is known for ever; one that was only replaced comes back when it is set again.
Status Directory::follow_bootstrap(Transaction& tx, const std::string& bootstrap) {
  REDOUBT_TRY(const auto same,
              (tx.row<std::string, std::string>("SELECT id, replaced_by FROM api_keys WHERE hash = ?",
                                                std::span<const uint8_t>(key_hash(hash_, bootstrap)))));
  // As at the last start, even if it was revoked since: of the table, which keeps what the snapshot no longer holds.
  if (same && std::get<0>(*same) == kBootstrapKey) return ok();
  REDOUBT_CHECK(tx.execute(
      "UPDATE api_keys SET id = ?, replaced_by = CASE WHEN revoked_at_s IS NULL AND replaced_by = '' THEN ? ELSE "
      "replaced_by END, revoked_at_s = COALESCE(revoked_at_s, ?) WHERE id = ?",
      fmt::format("{}-{}", kBootstrapKey, draw_key().id), kBootstrapKey, wall_.now_s(), kBootstrapKey));
  if (!same) {
    REDOUBT_CHECK(
        insert_key(tx, nullptr, {.principal = std::string(kFirstUser), .name = "REDOUBT_BOOTSTRAP_KEY"}, bootstrap));
  } else if (std::get<1>(*same) == kBootstrapKey) {
    REDOUBT_CHECK(tx.execute("UPDATE api_keys SET id = ?, replaced_by = '', revoked_at_s = NULL WHERE id = ?",
                             kBootstrapKey, std::get<0>(*same)));
  }
  return ok();
}

Result<Directory::FirstKeys> Directory::first_start(const std::string& bootstrap) {
  if (!bootstrap.empty() && (bootstrap.size() < kMinKeyBytes || bootstrap.size() > kMaxKeyBytes))
    return invalid(fmt::format("REDOUBT_BOOTSTRAP_KEY: expected {} to {} characters", kMinKeyBytes, kMaxKeyBytes));
  FirstKeys first;
  REDOUBT_CHECK(change([&](Transaction& tx, const DirectorySnapshot&) -> Status {
    first = {};
    const int64_t now_s = wall_.now_s();
    REDOUBT_TRY(const int64_t fresh, tx.execute("INSERT INTO identity_facts (name, value) VALUES ('first_start', ?) "
                                                "ON CONFLICT (name) DO NOTHING",
                                                fmt::format("{}", now_s)));
    if (fresh == 1) {
      REDOUBT_CHECK(ensure_default_tenant(tx, now_s));
      REDOUBT_CHECK(insert_principal(tx, kFirstUser, PrincipalKind::user, {std::string(kUserRole)}, now_s));
      REDOUBT_CHECK(insert_principal(tx, kAppointer, PrincipalKind::appointer, {}, now_s));
      REDOUBT_TRY(const NewKey appointing,
                  insert_key(tx, nullptr, {.principal = std::string(kAppointer), .name = "appointing key"}));
      first.appointing = appointing.text;
      if (bootstrap.empty()) {
        REDOUBT_TRY(const NewKey user,
                    insert_key(tx, nullptr, {.principal = std::string(kFirstUser), .name = "first key"}));
        first.user = user.text;
      }
    }
    if (bootstrap.empty()) return ok();
    REDOUBT_CHECK(follow_bootstrap(tx, bootstrap));
    REDOUBT_TRY(const auto ended,
                tx.row<int64_t>("SELECT 1 FROM api_keys WHERE hash = ? AND (revoked_at_s IS NOT NULL OR "
                                "(expires_at_s > 0 AND expires_at_s <= ?))",
                                std::span<const uint8_t>(key_hash(hash_, bootstrap)), now_s));
    first.bootstrap_is_ended = ended.has_value();
    return ok();
  }));
  return first;
}

}  // namespace redoubt
