#include "governance/directory_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/utf8.h"
#include "governance/policy_actions.h"

namespace redoubt {
namespace {

constexpr size_t kMaxNameBytes = 200;
constexpr size_t kMaxList = 64;  // teams, roles, scopes, labels, identities of one record
constexpr size_t kMaxLabelBytes = 256;
constexpr size_t kMaxSubjectBytes = 1024;
constexpr std::string_view kRouteScopes[] = {"models", "metrics", "admin"};  // beside actions: server/route_rule.cpp
constexpr int64_t kMaxLifetimeS = int64_t{100} * 366 * 86'400;

Error law(std::string message) { return {ErrorCode::denied, std::move(message), {}}; }

bool printable(std::string_view text) {
  return is_valid_utf8(text) &&
         std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

Status check_list(const std::vector<std::string>& list, const char* what) {
  if (list.size() > kMaxList) return invalid(fmt::format("{}: expected at most {}", what, kMaxList), what);
  for (const std::string& item : list) {
    if (!is_id(item)) return invalid(fmt::format("{}: expected letters, digits and . _ - @", what), what);
  }
  return ok();
}

bool holds(const Actor& actor, std::string_view role) { return actor != nullptr && actor->has_role(role); }

bool is_self(const Actor& actor, const PrincipalRecord& principal) {
  return actor != nullptr && actor->id == principal.id;
}

}  // namespace

std::string actor_name(const Actor& actor) { return actor == nullptr ? "owner" : actor->id; }

Status check_id(const std::string& what, const std::string& id) {
  if (!is_id(id))
    return invalid(fmt::format("{}: expected 1 to 128 letters, digits and . _ - @, the first a letter or digit", what),
                   what);
  return ok();
}

Status check_name(const std::optional<std::string>& name) {
  if (name && (name->size() > kMaxNameBytes || !printable(*name)))
    return invalid(fmt::format("name: expected at most {} bytes without control characters", kMaxNameBytes), "name");
  return ok();
}

Result<Labels> changed(const Labels& labels, const LabelChange& change) {
  Labels after = labels;
  for (const auto& [name, value] : change) {
    if (!value) {
      after.erase(name);
      continue;
    }
    if (!is_id(name)) return invalid("labels: expected names of letters, digits and . _ - @", "labels");
    if (value->size() > kMaxLabelBytes || !printable(*value))
      return invalid(fmt::format("labels: expected values of at most {} bytes", kMaxLabelBytes), "labels");
    after[name] = *value;
  }
  if (after.size() > kMaxList) return invalid(fmt::format("labels: expected at most {}", kMaxList), "labels");
  return after;
}

Status check_principal_fields(const DirectorySnapshot& there, const std::string& tenant,
                              const PrincipalChange& fields) {
  REDOUBT_CHECK(check_name(fields.name));
  if (fields.teams) {
    REDOUBT_CHECK(check_list(*fields.teams, "teams"));
    for (const std::string& team : *fields.teams) {
      if (!there.teams.contains({tenant, team}))
        return not_found(fmt::format("team {}: tenant {} has none of that name", team, tenant));
    }
  }
  if (fields.roles) {
    REDOUBT_CHECK(check_list(*fields.roles, "roles"));
  }
  if (fields.identities) {
    if (fields.identities->size() > kMaxList) return invalid("identities: too many", "identities");
    std::set<ExternalIdentity> all;
    for (const ExternalIdentity& identity : *fields.identities) {
      if (!is_identity_method(identity.method))
        return invalid("identities: expected the method oidc or mtls", "identities");
      if ((identity.method == "oidc") == identity.issuer.empty())
        return invalid("identities: expected an issuer for oidc, and none for mtls", "identities");
      if (identity.subject.empty() || identity.subject.size() > kMaxSubjectBytes ||
          identity.issuer.size() > kMaxSubjectBytes || !printable(identity.subject) || !printable(identity.issuer))
        return invalid(fmt::format("identities: expected a subject of 1 to {} bytes", kMaxSubjectBytes), "identities");
      if (!all.insert(identity).second)
        return invalid(fmt::format("identities: {} stands there twice", identity.subject), "identities");
    }
  }
  return ok();
}

Status may_set_roles(const Actor& actor, const std::vector<std::string>& before,
                     const std::vector<std::string>& after) {
  const auto administrators = std::ranges::count_if(after, [](const auto& role) { return is_administrator({role}); });
  if (administrators > 1) return law("roles: nobody holds two of system_admin, security_admin and audit_admin");
  if (actor == nullptr) return ok();
  for (const std::string_view role : {kSystemAdmin, kSecurityAdmin, kAuditAdmin}) {
    const bool had = std::ranges::find(before, role) != before.end(),
               has = std::ranges::find(after, role) != after.end();
    if (had != has) return law("roles: administrators are named by the appointing key alone");
  }
  return ok();
}

Status may_change(const Actor& actor, const PrincipalRecord& principal) {
  if (principal.kind == PrincipalKind::appointer) return law("the appointing key cannot be changed");
  if (actor != nullptr && is_administrator(principal.roles))
    return law(fmt::format("{}: an administrator is changed by the owner of the data folder alone", principal.id));
  return ok();
}

Status may_make_key(const Actor& actor, const PrincipalRecord& principal, const std::vector<std::string>& scopes,
                    int64_t ends_s) {
  if (principal.kind == PrincipalKind::appointer)
    return law("a new appointing key is made by the owner of the data folder");
  if (actor == nullptr) return ok();
  if (is_administrator(principal.roles) && !is_self(actor, principal))
    return law(
        fmt::format("{}: an administrator's keys are made by itself or by the owner of the data folder", principal.id));
  // A narrowed key makes no wider one.
  if (is_self(actor, principal) && !actor->scopes.empty() &&
      (scopes.empty() || !std::ranges::includes(actor->scopes, scopes)))
    return law("scopes: wider than those of the key that asks");
  // Nor one that goes on when it has ended.
  if (is_self(actor, principal) && !actor->key_id.empty() && actor->expires_at_s != 0 &&
      (ends_s == 0 || ends_s > actor->expires_at_s))
    return law("expires_in_s: a key makes none for its own user or service that ends later than itself");
  return ok();
}

Status may_revoke_key(const Actor& actor, const PrincipalRecord& principal) {
  if (actor == nullptr || is_self(actor, principal)) return ok();
  const auto& roles = principal.roles;
  if (std::ranges::find(roles, kAuditAdmin) != roles.end())
    return law(fmt::format(
        "{}: the audit administrator's keys are revoked by itself or by the owner of the data folder", principal.id));
  if (is_administrator(roles) && !holds(actor, kSecurityAdmin))
    return law(fmt::format("{}: an administrator's keys are revoked by itself or by the security administrator",
                           principal.id));
  return ok();
}

Status check_key_request(const KeyRequest& request) {
  REDOUBT_CHECK(check_name(request.name));
  if (request.scopes.size() > kMaxList) return invalid("scopes: too many", "scopes");
  for (const std::string& scope : request.scopes) {
    if (find_action(scope) == nullptr && std::ranges::find(kRouteScopes, scope) == std::end(kRouteScopes))
      return invalid(fmt::format("scopes: there is no action '{}'", is_id(scope) ? scope : "?"), "scopes");
  }
  if (request.expires_in_s < 0 || request.expires_in_s > kMaxLifetimeS)
    return invalid("expires_in_s: expected 0 (never) or a number of seconds under a hundred years", "expires_in_s");
  return ok();
}

}  // namespace redoubt
