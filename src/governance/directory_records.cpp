#include "governance/directory_records.h"

#include <algorithm>
#include <cctype>

namespace redoubt {
namespace {

constexpr size_t kMaxIdBytes = 128;

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; }

Json time_or_null(int64_t seconds) { return seconds == 0 ? Json(nullptr) : Json(seconds); }

std::string_view state_of(const KeyRecord& key, int64_t now_s) {
  if (key.revoked_at_s) return "revoked";
  if (key.expires_at_s != 0 && now_s >= key.expires_at_s) return "expired";
  return key.who == nullptr ? "disabled" : "active";
}

}  // namespace

std::shared_ptr<Principal> DirectorySnapshot::principal(const std::string& id, std::string_view auth_method) const {
  const auto found = principals.find(id);
  if (found == principals.end() || found->second.disabled) return nullptr;
  const PrincipalRecord& record = found->second;
  const auto tenant = tenants.find(record.tenant);
  if (tenant == tenants.end() || tenant->second.disabled) return nullptr;
  auto made = std::make_shared<Principal>();
  made->kind = record.kind;
  made->id = record.id;
  made->tenant = record.tenant;
  made->teams = record.teams;
  made->roles = record.roles;
  made->labels = record.labels;
  made->auth_method = auth_method;
  add_labels(*made);
  return made;
}

void DirectorySnapshot::add_labels(Principal& principal) const {
  const auto tenant = tenants.find(principal.tenant);
  principal.tenant_labels = tenant == tenants.end() ? Labels() : tenant->second.labels;
  principal.team_labels.clear();
  for (const std::string& team : principal.teams) {
    const auto found = teams.find({principal.tenant, team});
    if (found != teams.end() && !found->second.labels.empty()) principal.team_labels[team] = found->second.labels;
  }
}

bool is_id(std::string_view text) {
  return !text.empty() && text.size() <= kMaxIdBytes && is_word(text.front()) &&
         std::ranges::all_of(text, [](char c) { return is_word(c) || c == '.' || c == '_' || c == '-' || c == '@'; });
}

bool is_administrator(const std::vector<std::string>& roles) {
  return std::ranges::any_of(
      roles, [](const auto& role) { return role == kSystemAdmin || role == kSecurityAdmin || role == kAuditAdmin; });
}

Json to_json(const TenantRecord& tenant) {
  return {{"id", tenant.id},
          {"name", tenant.name},
          {"labels", tenant.labels},
          {"disabled", tenant.disabled},
          {"created_at", tenant.created_at_s}};
}

Json to_json(const TeamRecord& team) {
  return {{"id", team.id},
          {"tenant", team.tenant},
          {"name", team.name},
          {"labels", team.labels},
          {"created_at", team.created_at_s}};
}

Json to_json(const PrincipalRecord& principal) {
  Json identities = Json::array();
  for (const auto& [method, issuer, subject] : principal.identities)
    identities.push_back({{"method", method}, {"issuer", issuer}, {"subject", subject}});
  return {{"id", principal.id},
          {"kind", kind_name(principal.kind)},
          {"tenant", principal.tenant},
          {"name", principal.name},
          {"teams", principal.teams},
          {"roles", principal.roles},
          {"labels", principal.labels},
          {"identities", std::move(identities)},
          {"disabled", principal.disabled},
          {"created_at", principal.created_at_s}};
}

Json to_json(const KeyRecord& key, int64_t now_s) {
  return {{"id", key.id},
          {"principal", key.principal},
          {"name", key.name},
          {"scopes", key.scopes},
          {"state", state_of(key, now_s)},
          {"created_at", key.created_at_s},
          {"created_by", key.created_by},
          {"expires_at", time_or_null(key.expires_at_s)},
          {"revoked_at", time_or_null(key.revoked_at_s.value_or(0))},
          {"replaced_by", key.replaced_by.empty() ? Json(nullptr) : Json(key.replaced_by)},
          {"first_key", key.first_key},
          {"last_used_at", time_or_null(key.last_used_at_s == nullptr ? 0 : key.last_used_at_s->load())}};
}

}  // namespace redoubt
