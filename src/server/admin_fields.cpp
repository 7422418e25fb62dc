#include "server/admin_fields.h"

#include <fmt/format.h>

#include "server/json_fields.h"

namespace redoubt {

Result<std::optional<std::vector<std::string>>> string_list(const Json& body, const std::string& name) {
  REDOUBT_TRY(const Json* const found, JsonFields(body).array(name));
  if (found == nullptr) return std::optional<std::vector<std::string>>();
  std::vector<std::string> list;
  for (const Json& item : *found) {
    if (!item.is_string()) return wrong_type(name, "an array of strings", item);
    list.push_back(item.get<std::string>());
  }
  return std::optional(std::move(list));
}

Result<std::optional<Labels>> label_map(const Json& body) {
  REDOUBT_TRY(const Json* const found, JsonFields(body).object("labels"));
  if (found == nullptr) return std::optional<Labels>();
  Labels labels;
  for (const auto& [name, value] : found->items()) {
    if (!value.is_string()) return wrong_type("labels", "strings as values", value);
    labels[name] = value.get<std::string>();
  }
  return std::optional(std::move(labels));
}

Result<std::optional<std::vector<ExternalIdentity>>> identity_list(const Json& body) {
  REDOUBT_TRY(const Json* const found, JsonFields(body).array("identities"));
  if (found == nullptr) return std::optional<std::vector<ExternalIdentity>>();
  std::vector<ExternalIdentity> list;
  for (const Json& item : *found) {
    if (!item.is_object()) return wrong_type("identities", "an array of objects", item);
    const JsonFields fields(item, "identities");
    REDOUBT_TRY(const auto method, fields.string("method"));
    REDOUBT_TRY(const auto issuer, fields.string("issuer"));
    REDOUBT_TRY(const auto subject, fields.string("subject"));
    list.push_back({method.value_or(""), issuer.value_or(""), subject.value_or("")});
  }
  return std::optional(std::move(list));
}

Result<PrincipalChange> principal_change(const Json& body) {
  PrincipalChange change;
  const JsonFields fields(body);
  REDOUBT_TRY(change.name, fields.string("name"));
  REDOUBT_TRY(change.teams, string_list(body, "teams"));
  REDOUBT_TRY(change.roles, string_list(body, "roles"));
  REDOUBT_TRY(change.labels, label_map(body));
  REDOUBT_TRY(change.identities, identity_list(body));
  REDOUBT_TRY(change.disabled, fields.boolean("disabled"));
  return change;
}

Result<TenantChange> tenant_change(const Json& body) {
  TenantChange change;
  const JsonFields fields(body);
  REDOUBT_TRY(change.name, fields.string("name"));
  REDOUBT_TRY(change.labels, label_map(body));
  REDOUBT_TRY(change.disabled, fields.boolean("disabled"));
  return change;
}

Result<TeamChange> team_change(const Json& body) {
  TeamChange change;
  REDOUBT_TRY(change.name, JsonFields(body).string("name"));
  REDOUBT_TRY(change.labels, label_map(body));
  return change;
}

Result<std::string> required_string(const Json& body, const std::string& name) {
  REDOUBT_TRY(const auto found, JsonFields(body).string(name));
  if (!found || found->empty()) return invalid(fmt::format("{}: expected a string", name), name);
  return *found;
}

}  // namespace redoubt
